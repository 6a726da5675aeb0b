package job

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/ending"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// The artifact that is the script's log.
const (
	logArtifact = "log"
	logName     = "log.txt.gz"
)

// reportGrace is how long after the node's timeout a report is still tried: the
// clocks of two machines differ.
const reportGrace = 5 * time.Minute

// uploadPatience is how long uploads are tried while the API answers.
const uploadPatience = 15 * time.Minute

// Run is a supervisor's main: it brings the job in the folder dir to its end,
// from wherever it is, and returns nil when nothing is left to do or another
// supervisor does it. When ctx ends the script is killed and the job reported as
// cancelled; a report under way goes on. What happens goes to w as text.
func Run(ctx context.Context, dir string, w io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	slot := inheritedSlot()
	lock, err := supervise(dir)
	if err != nil || lock == nil {
		return err
	}
	s := &supervisor{dir: dir, now: time.Now, log: slog.New(slog.NewTextHandler(w, nil)).With("job", filepath.Base(dir))}
	s.api = newClient(s.load, s.now, rand.Float64, s.log)
	if slot != nil {
		s.release = slot.Close
	}
	err = s.run(ctx)
	return errors.Join(err, lock.Close())
}

// supervisor brings one job to its end.
type supervisor struct {
	dir     string
	spec    Spec
	status  Status
	release func() error // gives the runtime's slot back; nil: none
	api     *client
	now     func() time.Time
	log     *slog.Logger
}

func (s *supervisor) load() (Spec, error) {
	err := readJSON(s.dir, specFile, &s.spec)
	return s.spec, err
}

func (s *supervisor) run(ctx context.Context) error {
	status, err := Load(s.dir)
	if err != nil {
		return err
	}
	if s.status = status; status.Phase.Over() {
		return s.clean()
	}
	if _, err := s.load(); err != nil {
		return err
	}
	if status.Phase != Ended {
		if err := s.execute(ctx); err != nil {
			return err
		}
	}
	if s.release != nil {
		if err := s.release(); err != nil {
			return err
		}
	}
	ctx = context.WithoutCancel(ctx)
	err = s.deliver(ctx)
	if errs.KindOf(err) == errs.Conflict {
		if err := s.leaveLog(ctx); err != nil {
			s.log.Error("the log is not among the node's artifacts", "error", err)
		}
	}
	return s.finish(err)
}

// outcome is how the script ended, as far as that can be trusted.
func (s *supervisor) outcome() outcome {
	switch o := s.status.Outcome; {
	case o == nil:
		return outcome{Cause: ending.Orphaned} // somebody tampered with the state
	case o.Boot != bootID():
		return outcome{Cause: ending.Rebooted}
	default:
		return *o
	}
}

// execute makes sure that the script has run at most once and is over.
func (s *supervisor) execute(ctx context.Context) error {
	script := script{dir: s.dir, spec: s.spec}
	var ended outcome
	switch {
	case s.status.Phase == Running:
		script.killOrphans(s.status.Script)
		if ended.Cause = ending.Orphaned; canceled(s.dir) {
			ended.Cause = ending.Canceled
		}
	case canceled(s.dir) || ctx.Err() != nil:
		ended.Cause = ending.Canceled
	default:
		if err := s.save(Status{Phase: Running}); err != nil {
			return err
		}
		ended = script.run(ctx, func(pid int) error {
			leader := identify(pid)
			return s.save(Status{Phase: Running, Script: &leader})
		})
	}
	s.log.Info("the script is over", "cause", ended.Cause, "exit", ended.Exit, "detail", ended.Detail)
	ended.Boot = bootID()
	return s.save(Status{Phase: Ended, Outcome: &ended})
}

func (s *supervisor) save(next Status) error {
	if err := writeJSON(s.dir, stateFile, next); err != nil {
		return err
	}
	s.status = next
	return nil
}

// deliver uploads what the script left and reports its results.
func (s *supervisor) deliver(ctx context.Context) error {
	until := s.spec.Node.Timeout.Add(reportGrace)
	body, err := os.ReadFile(filepath.Join(s.dir, reportFile))
	if errors.Is(err, fs.ErrNotExist) {
		body, err = s.compose(ctx, until)
	}
	if err != nil {
		return err
	}
	send := func() error { return s.api.put(ctx, body) }
	if err = s.api.retry(ctx, until, send); errs.KindOf(err) != errs.Invalid {
		return err
	}
	s.log.Error("the report is refused", "error", err)
	if body, err = s.composeBare(ctx, until, body, err); err != nil {
		return err
	}
	return s.api.retry(ctx, until, send)
}

// leaveLog adds the log to a node that somebody else has ended, unless it is
// there: our own report may have come that far.
func (s *supervisor) leaveLog(ctx context.Context) error {
	until := s.spec.Node.Timeout.Add(reportGrace)
	root, err := s.read(ctx, until)
	if err != nil || root.Artifacts[logArtifact] != "" {
		return err
	}
	found := readResults(filepath.Join(s.dir, scratchDir, resultsDir), s.spec.Token)
	defer func() { _ = found.Close() }() // only read
	link, err := s.uploadLog(ctx, until, s.ending(found).Verdict(), found.notes)
	// Conflict: it is there, only the node does not name it yet.
	if err != nil && errs.KindOf(err) != errs.Conflict {
		return err
	}
	return s.api.retry(ctx, until, func() error { return s.api.addArtifact(ctx, logArtifact, link) })
}

// read reads the job's node.
func (s *supervisor) read(ctx context.Context, until time.Time) (root node.Node, err error) {
	err = s.api.retry(ctx, until, func() (err error) {
		root, err = s.api.get(ctx)
		return err
	})
	return root, err
}

// running reads the job's node; Conflict when it has ended without us.
func (s *supervisor) running(ctx context.Context, until time.Time) (node.Node, error) {
	root, err := s.read(ctx, until)
	if err == nil && root.State != node.Running {
		err = errs.New(errs.Conflict, "node %s is %s already", root.ID, root.State)
	}
	if root.Text("job_id") == "" && s.spec.JobID != "" {
		root.Set("job_id", s.spec.JobID)
	}
	return root, err
}

// composeBare makes the report that takes the place of a refused one.
func (s *supervisor) composeBare(ctx context.Context, until time.Time, refused []byte, why error) ([]byte, error) {
	root, err := s.running(ctx, until)
	if err != nil {
		return nil, err
	}
	var h node.Hierarchy
	if err := json.Unmarshal(refused, &h); err != nil {
		return nil, err
	}
	root.Artifacts = h.Node.Artifacts
	return s.record(ending.Bare(root, why))
}

// compose makes the report and writes it down. Uploads come first: a report
// names only what is there.
func (s *supervisor) compose(ctx context.Context, until time.Time) ([]byte, error) {
	root, err := s.running(ctx, until)
	if err != nil {
		return nil, err
	}
	found := readResults(filepath.Join(s.dir, scratchDir, resultsDir), s.spec.Token)
	defer func() { _ = found.Close() }() // only read
	e := s.ending(found)
	e.Artifacts = s.uploadAll(ctx, until, found)
	h, notes := e.Report(root, s.now())
	for _, text := range notes {
		found.note("%s", text)
	}
	if link, err := s.uploadLog(ctx, until, e.Verdict(), found.notes); err != nil {
		s.log.Error("the log is not uploaded", "error", err)
	} else {
		h.Node.Artifacts[logArtifact] = link
	}
	return s.record(h)
}

// ending is what is known of the job when its script is over.
func (s *supervisor) ending(r *results) ending.Ending {
	o := s.outcome()
	return ending.Ending{
		Cause: o.Cause, Exit: o.Exit, Detail: o.Detail, Error: r.message, Data: r.data, Suites: r.suites,
		Limit: s.spec.Limit, Holdoff: s.spec.Holdoff,
	}
}

// record writes the report down, so that whoever sends it sends the same.
func (s *supervisor) record(h node.Hierarchy) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	// Escapes and control characters may have hidden the token until now.
	body = []byte(redactText(string(body), s.spec.Token))
	return body, writeFile(s.dir, reportFile, body, 0o600)
}

// share gives uploads half of the time that is left for the report, which
// matters more than they do; last is when an attempt may begin.
func (s *supervisor) share(ctx context.Context, until time.Time) (_ context.Context, last time.Time, cancel func()) {
	half := until.Sub(s.now()) / 2
	ctx, cancel = context.WithTimeout(ctx, max(half, callTime))
	return ctx, s.now().Add(min(uploadPatience, half)), cancel
}

// uploadAll uploads the script's artifacts and returns their URLs.
func (s *supervisor) uploadAll(ctx context.Context, until time.Time, found *results) map[string]string {
	ctx, until, cancel := s.share(ctx, until)
	defer cancel()
	links := map[string]string{}
	for _, name := range found.artifacts {
		err := s.api.retry(ctx, until, func() error {
			content, err := found.openArtifact(name)
			if err != nil {
				return errs.Wrap(errs.Invalid, err)
			}
			defer func() { _ = content.Close() }() // only read
			links[name], err = s.api.upload(ctx, name, content)
			return err
		})
		if err != nil {
			delete(links, name)
			found.note("artifact %s: %v", name, err)
		}
	}
	return links
}

// uploadLog uploads the log, with what there is to say about the job at its end.
func (s *supervisor) uploadLog(ctx context.Context, until time.Time, v ending.Verdict, notes []string) (link string, err error) {
	ctx, until, cancel := s.share(ctx, until)
	defer cancel()
	ends := fmt.Sprintf("job %s", v.Result)
	if v.Text != "" {
		ends += ": " + v.Text
	}
	var tail strings.Builder
	for _, line := range append(notes, ends) {
		fmt.Fprintf(&tail, "[kernelflow: %s]\n", redactText(line, s.spec.Token))
	}
	err = s.api.retry(ctx, until, func() error {
		log, err := readLog(filepath.Join(s.dir, logDir))
		if err != nil {
			return err
		}
		defer func() { _ = log.Close() }() // only read
		r := compress(io.MultiReader(log, strings.NewReader(tail.String())))
		defer func() { _ = r.Close() }()
		link, err = s.api.upload(ctx, logName, r)
		return err
	})
	return link, err
}

// note is a line of our own in the log.
func note(format string, args ...any) io.Reader {
	return strings.NewReader(fmt.Sprintf(format, args...))
}

// compress reads r as gzip. Closing it frees the sender.
func compress(r io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		z := gzip.NewWriter(in)
		_, err := io.Copy(z, r)
		in.CloseWithError(errors.Join(err, z.Close()))
	}()
	return out
}

// finish takes down how the report went. It returns an error only where another
// supervisor may do better.
func (s *supervisor) finish(err error) error {
	next := Status{Phase: Reported, Outcome: s.status.Outcome}
	switch kind := errs.KindOf(err); {
	case err == nil:
	case kind == errs.Conflict:
		s.log.Info("not reported: the job is over for the API", "reason", err)
		next.Reason = err.Error()
	case kind == nil:
		return err
	default:
		s.log.Error("the job cannot be reported", "error", err)
		next.Phase, next.Reason = Lost, err.Error()
	}
	if err := s.save(next); err != nil {
		return err
	}
	return s.clean()
}

// clean removes what nobody needs any more, the token first of all. The log, the
// script and the state stay.
func (s *supervisor) clean() error {
	var problems []error
	for _, name := range []string{specFile, reportFile, cancelFile} {
		problems = append(problems, remove(s.dir, name))
	}
	// What a killed Retarget left holds the token too.
	entries, err := os.ReadDir(s.dir)
	problems = append(problems, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix(specFile)) {
			problems = append(problems, remove(s.dir, e.Name()))
		}
	}
	return errors.Join(append(problems, removeAll(filepath.Join(s.dir, scratchDir)))...)
}

// removeAll removes a folder in which a script may have made folders that
// cannot be written to.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	open := func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	}
	return errors.Join(filepath.WalkDir(dir, open), os.RemoveAll(dir))
}
