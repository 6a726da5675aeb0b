package ending

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/ktap"
)

// Bounds of a form.
const (
	maxForm      = 64 << 20
	maxSuites    = 100
	maxArtifacts = 100
	maxData      = 1 << 20 // bytes of the field data
	maxError     = 4 << 10 // bytes of the field error
	maxName      = 200     // bytes of the name of a suite or artifact
	maxSeconds   = 1 << 30 // of limit and holdoff
)

// told are the causes that a machine may tell: what came of a supervisor is no
// matter of who has none.
var told = []Cause{Exited, Signaled, Limited, Canceled}

// Form is an Ending as a machine without a supervisor tells it.
type Form struct {
	Ending
	request [sha256.Size]byte
}

// Request is the same for the same form and for no other.
func (f Form) Request() string { return hex.EncodeToString(f.request[:16]) }

// Read reads a form: the fields cause, exit, limit and holdoff (in seconds),
// error, and data (an object), a field artifact:NAME with a URL for each
// artifact, and a file NAME.ktap in a field results for each file of test
// results. Invalid names the field.
func Read(form *multipart.Reader) (Form, error) {
	f := Form{Ending: Ending{Cause: Exited, Artifacts: map[string]string{}}}
	sum := sha256.New()
	for left := int64(maxForm); ; {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			sum.Sum(f.request[:0])
			return f, f.check()
		}
		var content []byte
		if err == nil {
			content, err = io.ReadAll(io.LimitReader(part, left+1))
		}
		if err != nil {
			return f, errs.New(errs.Invalid, "the form breaks off: %s", err)
		}
		if left -= int64(len(content)); left < 0 {
			return f, errs.New(errs.Invalid, "the form is longer than %d bytes", maxForm)
		}
		for _, text := range []string{part.FormName(), part.FileName(), string(content)} {
			sum.Write(strconv.AppendInt(nil, int64(len(text)), 10))
			sum.Write([]byte(":" + text))
		}
		if err := f.set(part.FormName(), part.FileName(), content); err != nil {
			return f, err
		}
	}
}

// set takes one field of a form. One that is not known is ignored.
func (f *Form) set(field, file string, content []byte) (err error) {
	text := strings.TrimSpace(string(content))
	switch field {
	case "cause":
		f.Cause = Cause(text)
	case "exit":
		f.Exit, err = strconv.Atoi(text)
		f.Detail = "a signal (exit status " + strconv.Itoa(f.Exit) + ")"
	case "limit":
		f.Limit, err = seconds(text)
	case "holdoff":
		f.Holdoff, err = seconds(text)
	case "error":
		f.Error = Printable(text, maxError)
	case "data":
		if len(content) > maxData {
			return errs.New(errs.Invalid, "data: longer than %d bytes", maxData)
		}
		err = json.Unmarshal(content, &f.Data)
	case "results":
		return f.addSuite(file, content)
	default:
		if name, ok := strings.CutPrefix(field, "artifact:"); ok {
			return f.addArtifact(name, text)
		}
	}
	if err != nil {
		return errs.New(errs.Invalid, "%s: %.40q: %s", field, text, err)
	}
	return nil
}

func seconds(text string) (time.Duration, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err == nil && n > maxSeconds {
		err = strconv.ErrRange
	}
	return time.Duration(n) * time.Second, err
}

func (f *Form) addSuite(file string, content []byte) error {
	if len(f.Suites) == maxSuites {
		return errs.New(errs.Invalid, "results: more than %d files", maxSuites)
	}
	name := Printable(strings.TrimSuffix(file, ".ktap"), maxName)
	if name == "" {
		name = "tests"
	}
	report, err := ktap.Parse(bytes.NewReader(content))
	if err != nil {
		return errs.New(errs.Invalid, "results: %s: %s", name, err)
	}
	f.Suites = append(f.Suites, Suite{Name: name, Report: report})
	return nil
}

func (f *Form) addArtifact(name, link string) error {
	switch {
	case len(f.Artifacts) == maxArtifacts:
		return errs.New(errs.Invalid, "artifact: more than %d", maxArtifacts)
	case name == "" || len(name) > maxName || name != Printable(name, maxName):
		return errs.New(errs.Invalid, "artifact:%.80q: must have a printable name of 1 to %d bytes", name, maxName)
	}
	f.Artifacts[name] = link
	return nil
}

func (f *Form) check() error {
	switch {
	case !slices.Contains(told, f.Cause):
		return errs.New(errs.Invalid, "cause: %.40q is none of %q", f.Cause, told)
	case f.Exit < 0 || f.Exit > 255:
		return errs.New(errs.Invalid, "exit: %d is no exit status", f.Exit)
	}
	return nil
}
