package mail_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/mail"
)

var update = flag.Bool("update", false, "write the golden files")

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func message() mail.Message {
	return mail.Message{
		ID: "65f000000000000000000001.report@kernelflow.example", Date: time.Date(2025, 1, 12, 8, 30, 0, 0, time.UTC),
		From: "Kernelflow <bot@kernelflow.example>", To: []string{"kernel@lists.example", "Jörg Test <joerg@lists.example>"}, Cc: []string{"lab@lists.example"},
		Subject:    "[STAGING] mainline/master v6.5-11329-g708283abf896: 4 runs 2 failures in a subject that is longer than one line",
		Text:       "Tree:     mainline\n.\nFrom here, a line that starts as an mbox does, and one with an umlaut: Grüße\n" + strings.Repeat("x", 200) + "\n",
		HTML:       "<p>Tree: <b>mainline</b></p>\n",
		InReplyTo:  "0123456789abcdef.thread@kernelflow.example",
		References: []string{"0123456789abcdef.thread@kernelflow.example", "65f000000000000000000000.report@kernelflow.example"},
	}
}

// sent sends m into a new folder and returns the one file in it.
func sent(t *testing.T, m mail.Message) []byte {
	t.Helper()
	dir := t.TempDir()
	folder, err := mail.NewFolder(dir)
	check(t, err)
	check(t, folder.Send(t.Context(), m))
	return only(t, dir)
}

func only(t *testing.T, dir string) []byte {
	t.Helper()
	files, err := os.ReadDir(dir)
	check(t, err)
	if len(files) != 1 || !strings.HasSuffix(files[0].Name(), ".eml") {
		t.Fatalf("the folder holds %v, want one .eml file", files)
	}
	b, err := os.ReadFile(filepath.Join(dir, files[0].Name()))
	check(t, err)
	return b
}

func TestAMailIsAlwaysTheSameBytes(t *testing.T) {
	const golden = "testdata/message.eml"
	first := sent(t, message())
	if *update {
		check(t, os.WriteFile(golden, first, 0o644))
	}
	want, err := os.ReadFile(golden)
	check(t, err)
	for range 50 {
		if got := sent(t, message()); !bytes.Equal(got, want) {
			t.Fatalf("not as in %s (see -update):\n%s", golden, got)
		}
	}
}

func TestAMailReadsAsItWasWritten(t *testing.T) {
	want := message()
	got, err := netmail.ReadMessage(bytes.NewReader(sent(t, want)))
	check(t, err)
	for name, value := range map[string]string{
		"Message-ID": "<" + want.ID + ">", "In-Reply-To": "<" + want.InReplyTo + ">",
		"References": "<" + strings.Join(want.References, "> <") + ">", "Subject": want.Subject, "Date": "Sun, 12 Jan 2025 08:30:00 +0000",
	} {
		if text := got.Header.Get(name); text != value {
			t.Errorf("%s: %q, want %q", name, text, value)
		}
	}
	if to, err := got.Header.AddressList("To"); err != nil || len(to) != 2 || to[1].Name != "Jörg Test" {
		t.Errorf("To: %v, %v", to, err)
	}
	_, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	check(t, err)
	parts := multipart.NewReader(got.Body, params["boundary"])
	for _, text := range []string{want.Text, want.HTML} {
		part, err := parts.NextPart()
		check(t, err)
		b, err := io.ReadAll(part)
		check(t, err)
		if found := strings.ReplaceAll(string(b), "\r\n", "\n"); found != text {
			t.Errorf("part %q, want %q", found, text)
		}
	}
}

func TestNoTextBecomesAHeader(t *testing.T) {
	m := message()
	m.Subject = "tree\r\nBcc: everybody@lists.example\r\n\r\nbody\x00\x1b[31m\u2028 end"
	got, err := netmail.ReadMessage(bytes.NewReader(sent(t, m)))
	check(t, err)
	subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	check(t, err)
	if got.Header.Get("Bcc") != "" || !strings.HasPrefix(subject, "tree Bcc: everybody") || !strings.HasSuffix(subject, "end") {
		t.Errorf("subject %q, headers %v", subject, got.Header)
	}
}

func TestWhatCanNeverBeSentIsInvalid(t *testing.T) {
	for name, spoil := range map[string]func(*mail.Message){
		"no id":                      func(m *mail.Message) { m.ID = "" },
		"an id that ends its header": func(m *mail.Message) { m.ID = "a@b>\r\nBcc: everybody@lists.example" },
		"an id with a space":         func(m *mail.Message) { m.InReplyTo = "a b" },
		"a reference in brackets":    func(m *mail.Message) { m.References = []string{"<a@b>"} },
		"an empty reference":         func(m *mail.Message) { m.References = []string{""} },
		"an id that is not ASCII":    func(m *mail.Message) { m.ID = "ü@b" },
		"an endless id":              func(m *mail.Message) { m.ID = strings.Repeat("x", 5000) },
		"nobody to send it to":       func(m *mail.Message) { m.To, m.Cc = nil, nil },
		"a sender that is none":      func(m *mail.Message) { m.From = "nobody" },
		"a header in the sender":     func(m *mail.Message) { m.From = "a@b.example\r\nBcc: everybody@lists.example" },
		"a header in a recipient":    func(m *mail.Message) { m.To = []string{"a@b.example>\r\nBcc: <everybody@lists.example"} },
	} {
		dir := t.TempDir()
		folder, err := mail.NewFolder(dir)
		check(t, err)
		m := message()
		spoil(&m)
		if err := folder.Send(t.Context(), m); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
			t.Errorf("%s: it left %v, %v", name, files, err)
		}
	}
}

func TestAFolderKeepsTheFirstOfOneID(t *testing.T) {
	dir := t.TempDir()
	first := message()
	var group sync.WaitGroup
	for range 8 { // each as another process would
		folder, err := mail.NewFolder(dir)
		check(t, err)
		if !folder.Repeatable() {
			t.Fatal("a folder can be asked again")
		}
		group.Go(func() {
			if err := folder.Send(t.Context(), first); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	before := only(t, dir)
	files, err := os.ReadDir(dir)
	check(t, err)
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the mail: %s, %v", info.Mode(), err)
	}
	folder, err := mail.NewFolder(dir)
	check(t, err)
	second := message()
	second.Text = "something else"
	check(t, folder.Send(t.Context(), second))
	if !bytes.Equal(only(t, dir), before) {
		t.Error("a mail was replaced")
	}
}

func TestEachIDHasItsFileInTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mail")
	folder, err := mail.NewFolder(dir)
	check(t, err)
	ids := []string{"a@b", "a/b", "a_b", "../../up", ".hidden", "hidden", "...", "..", "a:b"}
	for _, id := range ids {
		m := message()
		m.ID = id
		check(t, folder.Send(t.Context(), m))
	}
	files, err := os.ReadDir(dir)
	check(t, err)
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") || !strings.HasSuffix(f.Name(), ".eml") {
			t.Errorf("file %s", f.Name())
		}
	}
	above, err := os.ReadDir(filepath.Dir(dir))
	check(t, err)
	if len(files) != len(ids) || len(above) != 1 {
		t.Errorf("%d ids became %d files, and %v is beside the folder", len(ids), len(files), above)
	}
}

func TestAFolderThatCannotBeWrittenIsTemporary(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mail")
	folder, err := mail.NewFolder(dir)
	check(t, err)
	check(t, os.Remove(dir))
	if err := folder.Send(t.Context(), message()); !errors.Is(err, errs.Temporary) {
		t.Errorf("%v", err)
	}
}
