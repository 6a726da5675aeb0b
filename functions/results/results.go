package results

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/lavaresult"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// Store is what the function needs of the node store.
type Store interface {
	Get(ctx context.Context, id node.ID) (node.Node, error)
	Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error]
	PutHierarchy(ctx context.Context, root node.ID, request string, change func(root *node.Node) ([]node.Node, error), opts ...store.Option) ([]node.Node, error)
	AddTelemetry(ctx context.Context, events []telemetry.Event) error
}

// Storage keeps callbacks, logs and the like.
type Storage interface {
	Upload(ctx context.Context, path, contentType string, r io.Reader) (url string, err error)
	Open(ctx context.Context, path string) (io.ReadSeekCloser, storage.Info, error)
	URL(path string) string
}

// Options are the parts of the function.
type Options struct {
	Store    Store
	Storage  Storage
	Runtimes map[string]runtime.Runtime // by name
	Owner    string                     // the user who owns the pipeline's nodes
	After    time.Duration              // how old a job's node is when its job is asked for
	Period   time.Duration              // between two passes
	Now      func() time.Time
	Log      *slog.Logger
}

// Function takes results up.
type Function struct{ Options }

// New builds the function; what is missing in the options is Invalid.
func New(o Options) (*Function, error) {
	if o.Store == nil || o.Storage == nil || o.Owner == "" || o.Period <= 0 || o.Now == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "results.New: a part is missing")
	}
	return &Function{o}, nil
}

// Handle takes up the callback that an event tells of.
func (f *Function) Handle(ctx context.Context, e event.Event) error {
	if e.Owner != f.Owner {
		f.Log.WarnContext(ctx, "callback of another user ignored", "event", e.ID, "user", e.Owner)
		return nil
	}
	var kept lavaresult.Kept
	if err := json.Unmarshal(e.Data, &kept); err != nil || kept.Node == "" || kept.Job == "" {
		return errs.New(errs.Invalid, "results.Handle(%s): the event names no job of a node", e.ID)
	}
	n, err := f.Store.Get(ctx, kept.Node)
	switch {
	case errors.Is(err, errs.NotFound):
		return nil
	case err != nil:
	case ended(n):
		return nil
	default:
		err = f.take(ctx, n, kept)
	}
	if err != nil {
		return fmt.Errorf("results.Handle(%s of %s): %w", e.ID, kept.Node, err)
	}
	return nil
}

// ended says whether a node takes no more results.
func ended(n node.Node) bool { return n.State == node.Done && !n.Late() }

// take makes the results of a callback.
func (f *Function) take(ctx context.Context, n node.Node, kept lavaresult.Kept) error {
	report, artifacts, err := f.read(ctx, n, kept.Path)
	if errors.Is(err, errs.Invalid) {
		f.Log.ErrorContext(ctx, "a callback cannot be read", "node", n.ID, "error", err)
		report = lavaresult.Report{Head: lavaresult.Head{Job: kept.Job, Status: lavaresult.Incomplete}, Problem: err.Error()}
	} else if err != nil {
		return err
	}
	if artifacts == nil {
		artifacts = map[string]string{}
	}
	artifacts[lavaresult.ArtifactCallback] = f.Storage.URL(kept.Path)
	return f.put(ctx, n.ID, kept.Job, func(root node.Node) (node.Hierarchy, error) {
		if ended(root) {
			return node.Hierarchy{}, errSettled
		}
		return report.Tree(root, artifacts), nil
	})
}

// read reads a callback, and keeps its log on the way.
func (f *Function) read(ctx context.Context, n node.Node, path string) (lavaresult.Report, map[string]string, error) {
	file, _, err := f.Storage.Open(ctx, path)
	if err != nil {
		return lavaresult.Report{}, nil, err
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return lavaresult.Report{}, nil, errs.Wrap(errs.Invalid, err)
	}
	log, w := io.Pipe()
	var report lavaresult.Report
	parsed := make(chan error, 1)
	go func() {
		var err error
		report, err = lavaresult.Parse(unpacked, w)
		_ = w.CloseWithError(err) // always nil; without an error, the end of the log
		parsed <- err
	}()
	artifacts, err := lavaresult.KeepLog(ctx, log, f.keeper(n))
	_ = log.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // who reads on is told
	if fault := <-parsed; fault != nil && err == nil {
		err = fault
	}
	return report, artifacts, err
}

// keeper keeps files in the folder of a node.
func (f *Function) keeper(n node.Node) runtime.Keep {
	return func(ctx context.Context, name, contentType string, content io.Reader) (string, error) {
		return f.Storage.Upload(ctx, string(n.ID)+"/"+name, contentType, content)
	}
}

// errSettled ends a write that has nothing to change.
var errSettled = errors.New("nothing to change")

// put stores the results of a node's job, once, and tells the telemetry of them.
// tree makes them of the node as it is then.
func (f *Function) put(ctx context.Context, id node.ID, job string, tree func(root node.Node) (node.Hierarchy, error)) error {
	request := "results/" + job
	nodes, err := f.Store.PutHierarchy(ctx, id, request, func(root *node.Node) ([]node.Node, error) {
		h, err := tree(*root)
		if err != nil {
			return nil, err
		}
		*root = h.Node
		root.Updated = node.Time(f.Now())
		return h.Descendants(*root, request)
	})
	if errors.Is(err, errSettled) || errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	f.Log.InfoContext(ctx, "results taken up", "node", id, "job_id", job, "result", nodes[0].Result, "nodes", len(nodes))
	f.tell(ctx, nodes)
	return nil
}

// maxTold bounds the events of one job.
const maxTold = 5000

// tell adds a job and its tests to the telemetry. What is measured is not worth
// the job: an error is logged.
func (f *Function) tell(ctx context.Context, nodes []node.Node) {
	root := nodes[0]
	job := telemetry.About(root, telemetry.JobResult, f.Now())
	job.ID = node.DeriveID(root.ID, "telemetry")
	job.Set(telemetry.Result, string(root.Result))
	job.Set(telemetry.ErrorType, root.Text("error_code"))
	job.Set(telemetry.ErrorMsg, root.Text("error_msg"))
	job.InfraError = root.Result == node.Incomplete && root.Text("error_code") == node.ErrCodeInfrastructure
	events := []telemetry.Event{job}
	for _, n := range nodes[1:] {
		if n.Kind != node.KindTest || len(events) == maxTold {
			continue
		}
		e := telemetry.About(root, telemetry.TestResult, f.Now())
		e.ID = node.DeriveID(n.ID, "telemetry")
		e.Set(telemetry.Result, string(n.Result))
		e.Rest["test_name"] = n.Name
		events = append(events, e)
	}
	if err := f.Store.AddTelemetry(context.WithoutCancel(ctx), events); err != nil {
		f.Log.WarnContext(ctx, "telemetry is lost", "node", root.ID, "events", len(events), "error", err)
	}
}
