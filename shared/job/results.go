package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/ending"
	"github.com/kernelflow/kernelflow/shared/ktap"
)

// The files of $KCI_RESULTS.
const (
	suiteSuffix  = ".ktap"
	artifactsDir = "artifacts"
	dataFile     = "data.json"
	errorFile    = "error"
)

// Bounds of what a script may leave. What is beyond them is named in the log.
const (
	maxSuites    = 100
	maxArtifacts = 100
	maxSuite     = 256 << 20 // bytes of a file of test results
	maxData      = 1 << 20   // bytes of data.json
	maxError     = 4 << 10   // bytes of the error text
	maxName      = 200       // bytes of the name of a suite or artifact
)

// results is what a script left behind.
type results struct {
	folder    *os.Root // nil: the script removed it
	secret    string
	suites    []ending.Suite
	artifacts []string // names of files in the folder's artifacts
	data      map[string]any
	message   string   // the error text
	notes     []string // what was wrong with the results, for the log
}

// readResults reads what the script left in the folder. What is wrong with it
// is noted, never an error: a script may leave anything.
func readResults(folder, secret string) *results {
	r := &results{secret: secret}
	// The script may have put a link in the folder's place.
	info, err := os.Lstat(folder)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder any more", filepath.Base(folder))
	}
	var root *os.Root
	if err == nil {
		root, err = os.OpenRoot(folder)
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.note("there are no results")
		return r
	}
	if err != nil {
		r.note("no results: %v", err)
		return r
	}
	r.folder = root
	names := r.list(".", maxSuites, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), suiteSuffix) })
	for _, name := range names {
		r.readSuite(name)
	}
	r.artifacts = r.list(artifactsDir, maxArtifacts, func(fs.DirEntry) bool { return true })
	r.artifacts = slices.DeleteFunc(r.artifacts, func(name string) bool {
		why := badArtifact(name, secret)
		if why != "" {
			r.note("artifact %.80q: %s", name, why)
		}
		return why != ""
	})
	r.data = r.readData()
	r.message = r.readMessage()
	return r
}

// Close closes the folder.
func (r *results) Close() error {
	if r.folder == nil {
		return nil
	}
	return r.folder.Close()
}

func (r *results) note(format string, args ...any) {
	r.notes = append(r.notes, redactText(fmt.Sprintf(format, args...), r.secret))
}

// batch is how many entries of a folder are looked at together.
const batch = 1000

// list returns the names of the entries that are wanted, sorted; the first
// limit of them when there are more.
func (r *results) list(dir string, limit int, wanted func(fs.DirEntry) bool) []string {
	// Without these flags a pipe in the folder's place would block for ever.
	f, err := r.folder.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.note("%s: %v", dir, err)
		}
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	var names []string
	total := 0
	for {
		entries, err := f.ReadDir(batch)
		for _, e := range entries {
			if wanted(e) {
				total++
				names = append(names, e.Name())
			}
		}
		slices.Sort(names)
		names = names[:min(len(names), limit)]
		if err != nil {
			break
		}
	}
	if total > limit {
		r.note("%s: %d files, only the first %d are taken", dir, total, limit)
	}
	return names
}

// badArtifact says why a file cannot be an artifact; "" when it can.
func badArtifact(name, secret string) string {
	switch {
	case len(name) > maxName:
		return fmt.Sprintf("its name is longer than %d bytes", maxName)
	case name == logArtifact || name == logName:
		return "that name is the log's"
	case strings.Contains(name, secret):
		return "its name holds the job's token"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f || strings.ContainsRune(`\$`, c) }):
		return `control characters, \ and $ are not allowed in its name`
	}
	return ""
}

// open opens a regular file of the folder, and nothing else: no link, no
// device, no pipe. The reader leaves the secret out.
func (r *results) open(name string) (io.Reader, *os.File, error) {
	before, err := r.folder.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: not a regular file", name)
	}
	f, err := r.folder.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s: was exchanged while it was opened", name)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return redact(f, r.secret), f, nil
}

func (r *results) readSuite(file string) {
	content, f, err := r.open(file)
	if err != nil {
		r.note("test results: %v", err)
		return
	}
	defer func() { _ = f.Close() }() // only read
	report, err := ktap.Parse(io.LimitReader(content, maxSuite))
	if err != nil {
		r.note("test results %s: %v", file, err)
	}
	if info, err := f.Stat(); err == nil && info.Size() > maxSuite {
		r.note("test results %s: only the first %d bytes are read", file, maxSuite)
	}
	name := ending.Printable(redactText(strings.TrimSuffix(file, suiteSuffix), r.secret), maxName)
	r.suites = append(r.suites, ending.Suite{Name: orElse(name, "tests"), Report: report})
}

func (r *results) readData() map[string]any {
	b, err := r.readAll(dataFile, maxData)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var data map[string]any
	if err == nil && len(b) > maxData {
		err = fmt.Errorf("longer than %d bytes", maxData)
	}
	if err == nil {
		err = json.Unmarshal(b, &data)
	}
	if err != nil {
		r.note("%s is ignored: %v", dataFile, err)
	}
	return data
}

func (r *results) readMessage() string {
	b, err := r.readAll(errorFile, maxError)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.note("%s: %v", errorFile, err)
	}
	// Control characters may have hidden the secret so far.
	return redactText(ending.Printable(string(b), maxError), r.secret)
}

// readAll reads a file up to one byte more than limit.
func (r *results) readAll(name string, limit int64) ([]byte, error) {
	content, f, err := r.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return io.ReadAll(io.LimitReader(content, limit+1))
}

// openArtifact opens an artifact for its upload.
func (r *results) openArtifact(name string) (io.ReadCloser, error) {
	content, f, err := r.open(filepath.Join(artifactsDir, name))
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{content, f}, nil
}
