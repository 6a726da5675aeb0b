package api

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Bounds of the form of an upload.
const (
	maxParts  = 64
	partBytes = 64 << 10 // what may stand between two files: headers
	pathBytes = 2 << 10
)

// form is the form of an upload, read part by part: a field "path", which names
// a folder, and files, in any order.
type form struct {
	reader  *multipart.Reader
	headers *bounded       // of the whole body
	files   *regexp.Regexp // the names of the fields that are files
	largest int64          // bytes of a file
	parts   int
	folder  string // the field path
	known   bool   // whether it has come

	ahead bool // the next part has been looked for
	part  *multipart.Part
	err   error
}

// arrived is one file of a form, with the name that it came with.
type arrived struct {
	name    string
	content io.Reader
}

// form opens the form of a request whose files are in the fields named so.
func (f *Function) form(w http.ResponseWriter, r *http.Request, files *regexp.Regexp) (*form, error) {
	limit := f.maxUpload + maxParts*partBytes
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	// A body that ends before its form must not look like one that ends with
	// it, and some clients leave the last line open.
	body := io.MultiReader(http.MaxBytesReader(w, r.Body, limit), strings.NewReader("\r\n"), cut{})
	m := &form{headers: &bounded{Reader: body}, files: files, largest: f.maxUpload}
	r.Body = struct {
		io.Reader
		io.Closer
	}{m.headers, r.Body}
	var err error
	if m.reader, err = r.MultipartReader(); err != nil {
		return nil, errs.New(errs.Invalid, "the body is no multipart form: %s", err)
	}
	return m, nil
}

// next returns the next file; io.EOF when the form is complete. The file is to
// be read before the next call.
func (m *form) next() (arrived, error) {
	for {
		err := m.look()
		m.ahead = false
		if err != nil {
			return arrived{}, err
		}
		content := &formFile{form: m, part: http.MaxBytesReader(nil, m.part, m.largest)}
		switch field := m.part.FormName(); {
		case m.files.MatchString(field):
			name, err := fileName(m.part)
			return arrived{name, content}, err
		case field == "path":
			err = m.setFolder(content)
		default:
			_, err = io.Copy(io.Discard, content)
		}
		if err != nil {
			return arrived{}, err
		}
	}
}

// look reads the headers of the next part.
func (m *form) look() error {
	if m.ahead {
		return m.err
	}
	m.headers.bound(partBytes, errs.New(errs.Invalid, "a part of the form has more than %d bytes of headers", partBytes))
	m.part, m.err = m.reader.NextRawPart()
	m.headers.unbound()
	if m.parts++; m.err == nil && m.parts > maxParts {
		m.err = errs.New(errs.Invalid, "the form has more than %d parts", maxParts)
	}
	m.err, m.ahead = formError(m.err), true
	return m.err
}

func (m *form) setFolder(content io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(content, pathBytes+1))
	switch {
	case err != nil:
		return err
	case m.known:
		return errs.New(errs.Invalid, "path: is given twice")
	case len(text) > pathBytes:
		return errs.New(errs.Invalid, "path: is longer than %d bytes", pathBytes)
	}
	m.folder, m.known = string(text), true
	return nil
}

// fileName is the name of a file as it came: it may have folders in it.
func fileName(part *multipart.Part) (string, error) {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil || params["filename"] == "" {
		return "", errs.New(errs.Invalid, "%s: No filename provided", part.FormName())
	}
	return params["filename"], nil
}

// formFile is the content of a part. It ends well only when the form goes on
// behind it: what breaks off is no file.
type formFile struct {
	form *form
	part io.Reader
}

// Read implements io.Reader.
func (c *formFile) Read(p []byte) (int, error) {
	n, err := c.part.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, formError(err)
	}
	if ahead := c.form.look(); ahead != nil {
		err = ahead
	}
	return n, err
}

// errTooLarge answers an upload of more than MAX_UPLOAD.
var errTooLarge = plain(http.StatusRequestEntityTooLarge, "the file is larger than MAX_UPLOAD allows")

// formError says what is wrong when a form cannot be read on.
func formError(err error) error {
	var limit *http.MaxBytesError
	switch {
	case err == nil || err == io.EOF || errs.KindOf(err) != nil:
		return err
	case errors.As(err, &limit):
		return errs.Wrap(errs.Invalid, errTooLarge)
	}
	return errs.New(errs.Invalid, "the form breaks off: %s", err)
}

// cut is where nothing may be read any more.
type cut struct{}

// Read implements io.Reader.
func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// bounded gives an error instead of more bytes than were allowed last.
type bounded struct {
	io.Reader
	left int64
	err  error // nil: no bound
}

func (b *bounded) bound(bytes int64, err error) { b.left, b.err = bytes, err }

func (b *bounded) unbound() { b.err = nil }

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.err == nil {
		return b.Reader.Read(p)
	}
	if b.left <= 0 {
		return 0, b.err
	}
	n, err := b.Reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// spool keeps content in a file without a name, which is gone when it is closed
// or the process ends, and returns it from its beginning.
func spool(content io.Reader) (*os.File, error) {
	file, err := os.CreateTemp("", "upload-")
	if err != nil {
		return nil, errs.Wrap(errs.Temporary, err)
	}
	err = os.Remove(file.Name())
	if err == nil {
		_, err = io.Copy(file, content)
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		if errs.KindOf(err) == nil {
			err = errs.Wrap(errs.Temporary, err)
		}
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
