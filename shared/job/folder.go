package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Defaults of what a Spec may leave out.
const (
	DefaultGrace  = 10 * time.Second
	DefaultMaxLog = 64 << 20
)

// Bounds of what a runtime hands over.
const (
	maxScript = 1 << 20
	minToken  = 8    // to blank out less would blank out half of a log
	maxToken  = 2048 // the redactor's window holds one
)

// tokens are the bearer tokens of RFC 6750: none of their characters is written
// in another way in JSON, so that they can be found in it.
var tokens = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// Spec says what one job is. Durations are nanoseconds in job.json.
type Spec struct {
	Node       node.Node     `json:"node"`        // as stored
	JobID      string        `json:"job_id"`      // the runtime's id for it
	Token      string        `json:"token"`       // for that node alone
	APIURL     string        `json:"api_url"`     // without /latest
	StorageURL string        `json:"storage_url"` // artifacts are uploaded below it and read there
	Limit      time.Duration `json:"limit"`       // how long the script may run
	Holdoff    time.Duration `json:"holdoff"`     // how long the node stays available when it ends so
	Grace      time.Duration `json:"grace"`       // between SIGTERM and SIGKILL; 0: DefaultGrace
	MaxLog     int64         `json:"max_log"`     // bytes of log that are kept; 0: DefaultMaxLog
	PassEnv    []string      `json:"pass_env"`    // variables of the supervisor that the script sees
}

func (s *Spec) validate(script string) error {
	bad := func(field, fix string) error {
		return errs.New(errs.Invalid, "job of node %q: %s: %s", s.Node.ID, field, fix)
	}
	if _, err := node.ParseID(string(s.Node.ID)); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	switch {
	case script == "" || len(script) > maxScript:
		return bad("definition", "must be a script of 1 to 1048576 bytes")
	case len(s.Token) < minToken || len(s.Token) > maxToken || !tokens.MatchString(s.Token):
		return bad("token", "must be a bearer token of 8 to 2048 characters")
	case strings.Contains(script, s.Token):
		return bad("definition", "holds the job's token; a script reads it from KCI_API_TOKEN")
	case s.Limit <= 0:
		return bad("limit", "must be more than nothing")
	}
	return checkAddresses(s.APIURL, s.StorageURL)
}

func checkAddresses(addresses ...string) error {
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
			return errs.New(errs.Invalid, "the addresses of API and storage must be absolute http(s) URLs without a user")
		}
	}
	return nil
}

// The files of a job's folder.
const (
	specFile   = "job.json"
	scriptFile = "script.sh"
	stateFile  = "state.json"
	lockFile   = "lock"
	cancelFile = "cancel"
	reportFile = "report.json"
	logDir     = "log"
	scratchDir = "scratch"
)

// partPrefix begins the names of folders that Prepare has not finished.
const partPrefix = ".part-"

// Prepare makes the folder dir of a job, complete or not at all, also when it is
// killed or called by several at once. Its errors: Invalid when the job can
// never run, Conflict when dir is there already, else Temporary.
func Prepare(dir string, spec Spec, script string) error {
	if err := spec.validate(script); err != nil {
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		return errs.New(errs.Conflict, "job.Prepare(%q): is there already", dir)
	}
	parent := filepath.Dir(dir)
	part, err := os.MkdirTemp(parent, partPrefix)
	if err != nil {
		return errs.Wrap(errs.Temporary, err)
	}
	if err := fill(part, spec, script); err != nil {
		return errs.Wrap(errs.Temporary, errors.Join(err, os.RemoveAll(part)))
	}
	if err := os.Rename(part, dir); err != nil {
		kind := errs.Temporary
		if _, there := os.Stat(dir); there == nil {
			kind = errs.Conflict
		}
		return errs.Wrap(kind, errors.Join(err, os.RemoveAll(part)))
	}
	return errs.Wrap(errs.Temporary, syncDir(parent))
}

func fill(dir string, spec Spec, script string) error {
	if err := writeFile(dir, scriptFile, []byte(script), 0o600); err != nil {
		return err
	}
	if err := writeJSON(dir, stateFile, Status{Phase: Ready}); err != nil {
		return err
	}
	return writeJSON(dir, specFile, spec)
}

// Sweep removes what a Prepare that was killed before the time old left in
// parent: half a folder may hold a token.
func Sweep(parent string, old time.Time) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	var problems []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), partPrefix) || info.ModTime().After(old) {
			continue
		}
		problems = append(problems, os.RemoveAll(filepath.Join(parent, e.Name())))
	}
	return errors.Join(problems...)
}

// Phase is how far a job is.
type Phase string

// The phases, in order. A job that is lost could not be reported.
const (
	Ready    Phase = "ready"
	Running  Phase = "running"
	Ended    Phase = "ended"
	Reported Phase = "reported"
	Lost     Phase = "lost"
)

// Over says whether nothing is left to do for the job.
func (p Phase) Over() bool { return p == Reported || p == Lost }

// Status is the content of state.json.
type Status struct {
	Phase   Phase    `json:"phase"`
	Script  *process `json:"script,omitempty"`  // while running
	Outcome *outcome `json:"outcome,omitempty"` // from ended on
	Reason  string   `json:"reason,omitempty"`  // why it is lost, or was not reported by us
}

// Load reads how far the job of a folder is; NotFound when there is none.
func Load(dir string) (Status, error) {
	var s Status
	err := readJSON(dir, stateFile, &s)
	if errors.Is(err, fs.ErrNotExist) {
		return s, errs.New(errs.NotFound, "job.Load(%q): no such job", dir)
	}
	return s, err
}

// Work is what is left to do for a job.
type Work int

// What may be left to do. A job's script runs only when it is Execute.
const (
	Nothing Work = iota
	Report       // or clean up after the report
	Execute      // and report
)

// Remaining says what a supervisor has to do for the job of a folder; NotFound
// when there is none.
func Remaining(dir string) (Work, error) {
	status, err := Load(dir)
	if err != nil {
		return Nothing, err
	}
	switch {
	case status.Phase == Ready && !canceled(dir):
		return Execute, nil
	case !status.Phase.Over():
		return Report, nil
	}
	// The token goes first when a supervisor cleans up, scratch last.
	for _, name := range []string{specFile, scratchDir} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return Report, nil
		}
	}
	return Nothing, nil
}

// Submitted is when the job was prepared; zero when nobody can tell.
func Submitted(dir string) time.Time {
	info, err := os.Stat(filepath.Join(dir, scriptFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Retarget tells a job that is not over where the API and the storage are now.
func Retarget(dir, apiURL, storageURL string) error {
	if err := checkAddresses(apiURL, storageURL); err != nil {
		return err
	}
	var s Spec
	err := readJSON(dir, specFile, &s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is over
	}
	if err != nil {
		return err
	}
	if s.APIURL == apiURL && s.StorageURL == storageURL {
		return nil
	}
	s.APIURL, s.StorageURL = apiURL, storageURL
	return unlessOver(dir, specFile, writeJSON(dir, specFile, s))
}

// unlessOver ends the writing of a file that nobody needs when the job is over:
// its supervisor may have cleaned up at the same time, and a token must not stay
// behind.
func unlessOver(dir, name string, written error) error {
	status, err := Load(dir)
	if err == nil && status.Phase.Over() {
		return remove(dir, name)
	}
	return errors.Join(written, err)
}

// remove removes a file; an absent one is no error.
func remove(dir, name string) error {
	err := os.Remove(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Cancel asks for the job to be stopped. The wish stays in the folder; alive
// says whether a supervisor is there that knows of it. Without one, the next
// supervisor reports the job as cancelled.
func Cancel(dir string) (alive bool, err error) {
	if err := unlessOver(dir, cancelFile, writeFile(dir, cancelFile, nil, 0o600)); err != nil {
		return false, err
	}
	if !Supervised(dir) {
		return false, nil
	}
	var p process
	if err := readJSON(dir, lockFile, &p); err != nil {
		// Not written yet: that supervisor looks for the wish after it wrote.
		return true, nil //nolint:nilerr
	}
	return true, p.terminate()
}

func canceled(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, cancelFile))
	return err == nil
}

func writeJSON(dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return writeFile(dir, name, b, 0o600)
}

func readJSON(dir, name string, v any) error {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

func tempPrefix(name string) string { return "." + name + "-" }

// writeFile replaces a file: after a crash it has its old content or the new.
func writeFile(dir, name string, content []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(dir, tempPrefix(name))
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
