package git

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Progress is how far a long piece of work has come.
type Progress struct {
	Phase string // git's own word ("Receiving objects"), or "Archiving"
	Done  int64  // objects
	Total int64  // objects; 0: not known
	Bytes int64  // bytes received, or of the archive before compression; 0: not known
}

var progressForm = regexp.MustCompile(`^(?:remote: )?([A-Z][a-z]+(?: [a-z]+)*): +\d+% \((\d+)/(\d+)\)(?:, ([\d.]+) (bytes|KiB|MiB|GiB))?`)

var units = map[string]float64{"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

func parseProgress(line string) (Progress, bool) {
	m := progressForm.FindStringSubmatch(line)
	if m == nil {
		return Progress{}, false
	}
	p := Progress{Phase: m[1]}
	p.Done, _ = strconv.ParseInt(m[2], 10, 64)
	p.Total, _ = strconv.ParseInt(m[3], 10, 64)
	if amount, err := strconv.ParseFloat(m[4], 64); err == nil {
		p.Bytes = int64(amount * units[m[5]])
	}
	return p, true
}

// maxLine bounds what is kept of a line that git, or the server through git,
// says.
const maxLine = 1024

// listener reads what git says beside its answer: progress, and why it failed.
type listener struct {
	report func(Progress)
	line   []byte
	fault  string   // the first line that calls itself an error
	last   string   // the last line that is not progress
	local  []string // the first lines that the server did not say
}

// Write splits what comes at line ends; progress lines end in a bare CR.
func (l *listener) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		end := bytes.IndexAny(rest, "\r\n")
		if end < 0 {
			l.keep(rest)
			break
		}
		l.keep(rest[:end])
		l.hear(string(l.line))
		l.line = l.line[:0]
		rest = rest[end+1:]
	}
	return len(p), nil
}

func (l *listener) keep(b []byte) {
	l.line = append(l.line, b[:min(len(b), maxLine-len(l.line))]...)
}

func (l *listener) hear(line string) {
	if p, ok := parseProgress(line); ok {
		if l.report != nil {
			l.report(p)
		}
		return
	}
	line = strings.ToValidUTF8(strings.TrimSpace(line), "\uFFFD")
	if line == "" {
		return
	}
	l.last = line
	if l.fault == "" && (strings.HasPrefix(line, "fatal: ") || strings.HasPrefix(line, "error: ")) {
		l.fault = line
	}
	if !strings.HasPrefix(line, "remote: ") && len(l.local) < 20 {
		l.local = append(l.local, line)
	}
}

func (l *listener) reason() reason {
	l.hear(string(l.line))
	text := l.fault
	if text == "" {
		text = l.last
	}
	return reason{text: redact(text), all: strings.Join(l.local, "\n")}
}

// reason is why git failed: its one line for people, and all its own lines for
// telling failures apart.
type reason struct{ text, all string }

// failure is a run of git that ended badly.
type failure struct {
	command string
	reason  reason
	cause   error
}

func (f *failure) Error() string {
	if f.reason.text == "" {
		return fmt.Sprintf("git %s: %v", f.command, f.cause)
	}
	return fmt.Sprintf("git %s: %s", f.command, f.reason.text)
}

func (f *failure) Unwrap() error { return f.cause }

var meanings = []struct {
	kind *errs.Kind
	said *regexp.Regexp
}{
	{errs.Invalid, regexp.MustCompile(`transport '.*' not allowed`)},
	{errs.NotFound, regexp.MustCompile(`couldn't find remote ref|not our ref|unadvertised object|repository '.*' not found|` +
		`does not appear to be a git repository|not valid: is this a git repository|Repository not found`)},
	{errs.Denied, regexp.MustCompile(`Authentication failed|could not read (Username|Password)|Permission denied|` +
		`Host key verification failed|returned error: 40[13]|dubious ownership|access denied`)},
}

// meaning gives an error of run its kind. What nobody knows may pass: it is
// Temporary. A cancelled context and an error that has a kind stay as they are.
func meaning(err error) error {
	var f *failure
	if !errors.As(err, &f) {
		if err != nil && errors.Is(err, syscall.ENOSPC) {
			return errs.Wrap(errs.Temporary, err)
		}
		return err
	}
	for _, m := range meanings {
		if m.said.MatchString(f.reason.all) {
			return errs.Wrap(m.kind, err)
		}
	}
	return errs.Wrap(errs.Temporary, err)
}

var damage = regexp.MustCompile(`(?i)bad object|corrupt|not a git repository: |object file .* is empty|unable to (read|parse|unpack|find)|` +
	`packfile|index file|did not send all necessary objects|inflate|bad (numeric )?config|unknown error occurred while reading|missing (blob|tree|commit)|` +
	`could not parse|loose object|hash mismatch|invalid sha1 pointer|broken (ref|link)|bad (tree|signature)|Could not read [0-9a-f]{40}|cannot mkdir .* File exists`)

// damaged says whether err tells of a broken mirror rather than of a server.
func damaged(err error) bool {
	var f *failure
	return errors.As(err, &f) && damage.MatchString(f.reason.all)
}
