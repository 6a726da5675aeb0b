package patch_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"mime/quotedprintable"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/patch"
)

const (
	plain   = "--- a/dir/a.txt\t2025-01-12 08:00:00\n+++ b/dir/a.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
	written = "diff --git a/dir/a.txt b/dir/a.txt\nindex 0123456..89abcde 100644\n--- a/dir/a.txt\n+++ b/dir/a.txt\n@@ -1,2 +1,2 @@ func x()\n one\n-two\n+2\n"
	mailed  = "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nSubject: [PATCH] a: b\n\nWhy.\n---\n dir/a.txt | 2 +-\n\n" + written + "-- \n2.39.5\n\n"
	second  = "diff --git a/dir/a.txt b/dir/a.txt\n--- a/dir/a.txt\n+++ b/dir/a.txt\n@@ -1,2 +1,2 @@\n-one\n+1\n 2\n"
	created = "diff --git a/new b/new\nnew file mode 100755\nindex 0000000..89abcde\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n"
	deleted = "--- a/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"
	renamed = "diff --git a/old b/sub/new\nsimilarity index 100%\nrename from old\nrename to sub/new\n"
	mode    = "diff --git a/old b/old\nold mode 100644\nnew mode 100755\n"
	quoted  = "diff --git \"a/\\303\\274.txt\" \"b/\\303\\274.txt\"\n--- \"a/\\303\\274.txt\"\n+++ \"b/\\303\\274.txt\"\n@@ -1 +1 @@\n-\xc3\xbc\n+ue\n"
)

// apply puts a patch on a small tree by git and returns the tree's files.
func apply(t *testing.T, text []byte) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"dir/a.txt": "one\ntwo\n", "old": "gone\n", "\u00fc.txt": "\u00fc\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "git", "apply", "-p1", "-")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(text)
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir), "GIT_CONFIG_GLOBAL=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, text)
	}
	found := map[string]string{}
	for _, name := range []string{"dir/a.txt", "old", "new", "sub/new", "\u00fc.txt"} {
		if content, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			found[name] = string(content)
			if info.Mode()&0o111 != 0 {
				found[name] += "(x)"
			}
		}
	}
	return found
}

func TestACleanedPatchDoesWhatItDidBefore(t *testing.T) {
	for name, tc := range map[string]struct{ text, file, want string }{
		"a plain diff":               {plain, "dir/a.txt", "one\n2\n"},
		"git diff":                   {written, "dir/a.txt", "one\n2\n"},
		"git format-patch":           {mailed, "dir/a.txt", "one\n2\n"},
		"several in one mailbox":     {mailed + "From 1 2\nSubject: x\n\n" + second + "-- \n2.39.5\n", "dir/a.txt", "1\n2\n"},
		"a new file without newline": {created, "new", "x(x)"},
		"a deleted file":             {deleted, "old", ""},
		"a renamed file":             {renamed, "sub/new", "gone\n"},
		"a mode":                     {mode, "old", "gone\n(x)"},
		"a name that git quotes":     {quoted, "\u00fc.txt", "ue\n"},
		"quoted-printable":           {mailOf("quoted-printable", "text/plain; charset=UTF-8", quotable(written)), "dir/a.txt", "one\n2\n"},
		"base64":                     {mailOf("base64", "text/plain; charset=UTF-8", inBase64(written)), "dir/a.txt", "one\n2\n"},
		"base64 on two lines' ends":  {strings.ReplaceAll(mailOf("base64", "text/plain", inBase64(written)), "\n", "\r\n"), "dir/a.txt", "one\n2\n"},
		"encoded, in a mailbox":      {fromLine + mailOf("base64", "text/plain", inBase64(written)) + "\n" + fromLine + mailOf("quoted-printable", "text/plain", quotable(second)), "dir/a.txt", "1\n2\n"},
		"an attachment":              {parts("text/plain", "", "See there.\n", "text/x-patch", "base64", inBase64(written), "text/html", "", "<p>x", "image/png", "base64", "AAAA"), "dir/a.txt", "one\n2\n"},
		"bytes of another charset":   {mailOf("quoted-printable", "text/plain; charset=iso-8859-1", "diff --git a/new b/new\nnew file mode 100644\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+=FC\n"), "new", "\xfc\n"},
	} {
		clean, err := patch.Clean([]byte(tc.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := apply(t, clean)[tc.file]; got != tc.want {
			t.Errorf("%s: %q, want %q, by\n%s", name, got, tc.want, clean)
		}
	}
}

// fromLine stands before a mail in an mbox.
const fromLine = "From mboxrd@z Thu Jan  1 00:00:00 1970\n"

func mailOf(encoding, kind, body string) string {
	return "Subject: [PATCH] x\nMIME-Version: 1.0\nContent-Type: " + kind + "\nContent-Transfer-Encoding: " + encoding + "\n\n" + body
}

// parts is a mail of parts: of each the type, the encoding and the body.
func parts(of ...string) string {
	text := "Subject: [PATCH] x\nContent-Type: multipart/mixed; boundary=\"b\"\n\n"
	for part := range slices.Chunk(of, 3) {
		text += "--b\nContent-Type: " + part[0] + "\nContent-Transfer-Encoding: " + part[1] + "\n\n" + part[2] + "\n"
	}
	return text + "--b--\n"
}

// nested is a mail of a part of a part and so on.
func nested(depth int) string {
	text := ""
	for i := range depth {
		text += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\n\n--b%[1]d\n", i)
	}
	return text + "\n" + change("x")
}

func quotable(text string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, err := w.Write([]byte(text))
	if err := errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return strings.ReplaceAll(b.String(), "\r\n", "\n")
}

// inBase64 has lines as mails have them.
func inBase64(text string) string {
	var b strings.Builder
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString([]byte(text))), 76) {
		b.Write(append(line, '\n'))
	}
	return b.String()
}

// change is a patch of the file name, as git writes it.
func change(name string) string {
	return "diff --git a/" + name + " b/" + name + "\n--- a/" + name + "\n+++ b/" + name + "\n@@ -1 +1 @@\n-a\n+b\n"
}

func TestAPatchThatLeavesTheTreeIsRefused(t *testing.T) {
	file := func(lines ...string) string {
		return "diff --git a/x b/x\n" + strings.Join(lines, "\n") + "\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
	}
	for name, tc := range map[string]struct{ text, says string }{
		"nothing":                       {"", "no unified diff"},
		"prose":                         {"please apply\n", "no unified diff"},
		"ed commands":                   {"1d\n.\nw\n", "no unified diff"},
		"a context diff":                {"*** a/x\n--- b/x\n***************\n*** 1 ****\n! a\n--- 1 ----\n! b\n", "no unified diff"},
		"hunks of no file":              {"@@ -1 +1 @@\n-a\n+b\n", "line 1"},
		"a hunk cut short":              {"--- a/x\n+++ b/x\n@@ -1,5 +1,5 @@\n a\n-b\n", "line 3"},
		"up and out":                    {change("../x"), "leads out"},
		"up and out in between":         {change("a/../../x"), "leads out"},
		"up and out, plain":             {"--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n", "leads out"},
		"absolute, plain":               {"--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "leads out"},
		"without a folder":              {"--- x\n+++ x\n@@ -1 +1 @@\n-a\n+b\n", "no name"},
		"git's folder":                  {change(".git/config"), ".git"},
		"git's folder of a part":        {change("part/.git/hooks/x"), ".git"},
		"git's folder in other letters": {change(".Git/config"), ".git"},
		"a rename out":                  {"diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to ../y\n", "leads out"},
		"a copy into git's folder":      {"diff --git a/x b/y\nsimilarity index 100%\ncopy from x\ncopy to .git/hooks/y\n", ".git"},
		"a link":                        {"diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n", "mode 120000"},
		"a link's target":               {file("index 0123456..89abcde 120000"), "mode 120000"},
		"a file becomes a link":         {file("old mode 100644", "new mode 120000"), "mode 120000"},
		"a submodule":                   {file("index 0123456..89abcde 160000"), "mode 160000"},
		"a mode for root":               {file("old mode 100644", "new mode 104755"), "mode 104755"},
		"a binary patch":                {"diff --git a/x b/x\nindex 0123456..89abcde 100644\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\nliteral 1\nIcmZPo000310RR91\n\n", "Binary"},
		"binaries that differ":          {"diff --git a/x b/x\nindex 0123456..89abcde 100644\nBinary files a/x and b/x differ\n", "Binary"},
		"a NUL":                         {change("x") + "\x00", "Binary"},
		"a control character":           {change("x\r"), "characters"},
		"no UTF-8":                      {change("\xff"), "characters"},
		"a backslash":                   {change("a\\b"), "characters"},
		"too large":                     {change("x") + strings.Repeat("x", patch.MaxSize), "too large"},
		"an encoded mail cut short":     {mailOf("base64", "text/plain", "ZGlmZiAtLWdpdCBhL3ggYi94C"), "cannot be read"},
		"out of the tree in base64":     {mailOf("base64", "text/plain", inBase64(change("../x"))), "leads out"},
		"a NUL in base64":               {mailOf("base64", "text/plain", inBase64(change("x")+"\x00")), "Binary"},
		"parts in parts in parts":       {nested(9), "nested"},
		"parts without end":             {parts(slices.Repeat([]string{"text/plain", "", "x"}, 99)...), "too many parts"},
		"too many lines":                {change("x") + strings.Repeat("\n", 600_000), "too large"},
	} {
		clean, err := patch.Clean([]byte(tc.text))
		if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tc.says) || clean != nil {
			t.Errorf("%s: %v, want %q; %q", name, err, tc.says, clean)
		}
	}
}

func FuzzACleanedPatchIsClean(f *testing.F) {
	for _, text := range []string{plain, written, mailed, second, created, deleted, renamed, mode, quoted, change("../x"), mailOf("base64", "text/plain", inBase64(written)), parts("text/plain", "", written)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		clean, err := patch.Clean(text)
		if err != nil {
			return
		}
		again, err := patch.Clean(clean)
		if err != nil || !bytes.Equal(clean, again) {
			t.Errorf("%v\n%q\nbecame\n%q\nand\n%q", err, text, clean, again)
		}
	})
}
