package patch

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"regexp"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Bounds of a mail.
const (
	maxParts   = 64 // of one multipart
	maxNesting = 4  // of multiparts
)

// between is the line that stands before each mail of an mbox, as git knows it.
var between = regexp.MustCompile(`(?m)^From \S+ .*\d\d:\d\d.*\d{4}\r?\n`)

// decoded returns the text with its mails as they were written: without the
// encoding that they travelled in. What is no mail, or needed none, stays as it
// is. Nothing grows by it.
func decoded(text []byte) ([]byte, error) {
	var out bytes.Buffer
	begin := 0
	for _, line := range append(between.FindAllIndex(text, -1), []int{len(text), len(text)}) {
		if err := decodeMail(&out, text[begin:line[0]]); err != nil {
			return nil, err
		}
		begin = line[1]
	}
	return out.Bytes(), nil
}

func decodeMail(out *bytes.Buffer, text []byte) error {
	unix := text
	if line, _, _ := bytes.Cut(text, []byte("\n")); bytes.HasSuffix(line, []byte("\r")) {
		unix = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")) // of the way, not of the patch
	}
	message, err := mail.ReadMessage(bytes.NewReader(unix))
	if err != nil || isPlain(message.Header) {
		out.Write(text)
		return nil
	}
	if err := decodePart(out, textproto.MIMEHeader(message.Header), message.Body, 0); err != nil {
		return errs.New(errs.Invalid, "Invalid patch: its mail cannot be read: %.200s", err)
	}
	return nil
}

func isPlain(header mail.Header) bool {
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	switch strings.ToLower(strings.TrimSpace(header.Get("Content-Transfer-Encoding"))) {
	case "quoted-printable", "base64":
		return false
	}
	return !strings.HasPrefix(kind, "multipart/")
}

// decodePart writes the text of a mail or of a part of one. The charset is left
// alone, as git does: the bytes of a patch are those of the files.
func decodePart(out *bytes.Buffer, header textproto.MIMEHeader, body io.Reader, depth int) error {
	kind, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		kind = "text/plain"
	}
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		return decodeParts(out, multipart.NewReader(body, params["boundary"]), depth)
	case !strings.HasPrefix(kind, "text/") || kind == "text/html":
		return nil
	}
	switch strings.ToLower(strings.TrimSpace(header.Get("Content-Transfer-Encoding"))) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	if _, err := out.ReadFrom(body); err != nil {
		return err
	}
	out.WriteByte('\n') // or the next one would begin in this one's last line
	return nil
}

func decodeParts(out *bytes.Buffer, parts *multipart.Reader, depth int) error {
	if depth == maxNesting {
		return errors.New("its parts are nested too deep")
	}
	for range maxParts {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = decodePart(out, part.Header, part, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return errors.New("it has too many parts")
}
