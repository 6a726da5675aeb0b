// Package tarball is the function that turns a new checkout's commit into a
// source archive in storage. It fetches the commit into the tree's mirror,
// streams `git archive` through gzip into storage, and makes the checkout
// available with all that git says of the commit.
//
// A patchset is a checkout with patches among its artifacts, patch0 and on. They
// are fetched, checked and put on the commit, in their order, and the archive
// has a name of its own: that of the commit with the beginning of the patches'
// hash, which is also in data.kernel_revision.patchset. The hash is that of the
// changes, so it does not depend on the mails around them.
//
// A tree or commit that cannot be had, or a patch that does not fit, ends the
// checkout: done, fail, git_checkout_failure, with git's own reason. What may pass (a server that is
// away, a full disk) is tried again by whoever delivers the event; how often it
// was tried is kept in the checkout's debug data, and after the given number
// of attempts the checkout ends too.
//
// Safe to run twice: an upload replaces what is there with the same bytes, and
// the checkout is updated only while it is running, so the slower of two
// changes nothing.
package tarball

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"regexp"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/git"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Store is what the function needs of the node store.
type Store interface {
	Get(ctx context.Context, id node.ID) (node.Node, error)
	Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error)
}

// Storage keeps the archives, and the patches that came without a URL.
type Storage interface {
	Upload(ctx context.Context, path, contentType string, r io.Reader) (url string, err error)
	Open(ctx context.Context, path string) (io.ReadSeekCloser, storage.Info, error)
	URL(path string) string
}

// Patches fetches what people name as patches.
type Patches interface {
	Fetch(ctx context.Context, link string) ([]byte, error)
}

// Git brings commits here.
type Git interface {
	Fetch(ctx context.Context, c git.Commit, report func(git.Progress)) (*git.Snapshot, error)
}

// Options are the parts of the function.
type Options struct {
	Store    Store
	Storage  Storage
	Git      Git
	Patches  Patches
	Holdoff  time.Duration // how long the checkout waits for late jobs
	Attempts int           // how often a failure that may pass is met before the checkout ends
	// Progress hears how far long work on a checkout has come, once a second;
	// nil: the log tells it, less often.
	Progress func(id node.ID, p git.Progress)
	Now      func() time.Time
	Log      *slog.Logger
}

// Function handles events of checkouts.
type Function struct{ Options }

// New builds the function.
func New(o Options) (*Function, error) {
	if o.Store == nil || o.Storage == nil || o.Git == nil || o.Patches == nil || o.Holdoff < 0 || o.Attempts < 1 || o.Now == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "tarball.New: a part is missing")
	}
	return &Function{o}, nil
}

// attempts is where the checkout's debug data counts failures that may pass.
const attempts = "tarball_attempts"

// errMoved ends an update of a checkout that is not running any more.
var errMoved = errs.New(errs.Conflict, "the checkout is not running any more")

// Handle makes the archive of a checkout that is running. The error is
// errs.Temporary when another delivery may succeed.
func (f *Function) Handle(ctx context.Context, e event.Event) error {
	p, err := e.Node()
	if err != nil {
		return err
	}
	n, err := f.Store.Get(ctx, p.ID)
	if errors.Is(err, errs.NotFound) || err == nil && (n.Kind != node.KindCheckout || n.State != node.Running) {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.checkout(ctx, n)
	if err == nil || errors.Is(err, errMoved) {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return err // the host is stopping: nobody is at fault
	}
	return f.failed(context.WithoutCancel(ctx), n, err)
}

// checkout fetches, archives, uploads, and makes the node available.
func (f *Function) checkout(ctx context.Context, n node.Node) error {
	revision, ok := n.Revision()
	if !ok {
		return errs.New(errs.Invalid, "data.kernel_revision is missing")
	}
	progress := f.progress(n.ID)
	snapshot, err := f.Git.Fetch(ctx, git.Commit{URL: revision.URL, Branch: revision.Branch, ID: revision.Commit}, progress)
	if err != nil {
		return err
	}
	defer func() { _ = snapshot.Close() }() // only read
	found, err := snapshot.Revision(ctx)
	if err != nil {
		return err
	}
	found.Tree = revision.Tree
	if n.Name == node.NamePatchset {
		if found.Patchset, err = f.patch(ctx, n, snapshot); err != nil {
			return err
		}
	}
	link, err := f.archive(ctx, n.ID, snapshot, Name(found), progress)
	if err != nil {
		return err
	}
	_, err = f.Store.Update(ctx, n.ID, func(n *node.Node) error {
		if n.State != node.Running {
			return errMoved
		}
		n.State, n.Result, n.Holdoff = node.Available, node.Pass, node.Time(f.Now().Add(f.Holdoff))
		n.Artifacts["tarball"] = link
		delete(n.Debug, attempts)
		return n.SetRevision(found)
	})
	return err
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9._+~-]`)

// shortHash is how many digits of the patches' hash are in a name.
const shortHash = 12

// Name is the name of a revision's archive without its suffix, which is also
// the folder that everything in it is below, as KernelCI names them:
// linux-TREE-BRANCH-DESCRIBE, and -HASH with patches. What could lead elsewhere
// in a path or a URL becomes "_".
func Name(r node.Revision) string {
	name := "linux-" + r.Tree + "-" + r.Branch + "-" + r.Describe
	if r.Patchset != "" {
		name += "-" + r.Patchset[:min(shortHash, len(r.Patchset))]
	}
	return unfit.ReplaceAllString(name, "_")
}

// archive streams the commit's source into storage.
func (f *Function) archive(ctx context.Context, id node.ID, snapshot *git.Snapshot, name string, progress func(git.Progress)) (string, error) {
	r, w := io.Pipe()
	archived := make(chan error, 1)
	go func() {
		err := snapshot.Archive(ctx, name, w, progress)
		w.CloseWithError(err)
		archived <- err
	}()
	link, err := f.Storage.Upload(ctx, path.Join(string(id), name+".tar.gz"), "application/gzip", r)
	// The upload may have ended first: git must not write to nobody.
	r.CloseWithError(err)
	if err := <-archived; err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return "", err
	}
	return link, err
}

// failed takes down a failure: for good when it will not pass or has been met
// often enough, else it is returned for another delivery.
func (f *Function) failed(ctx context.Context, n node.Node, cause error) error {
	over := false
	_, err := f.Store.Update(ctx, n.ID, func(n *node.Node) error {
		if n.State != node.Running {
			return errMoved
		}
		met, _ := n.Debug[attempts].(float64)
		if over = !errs.Retry(cause) || int(met)+1 >= f.Attempts; over {
			n.SetError(node.Fail, node.ErrCodeGitCheckout, cause.Error())
		}
		n.Debug[attempts] = met + 1
		return nil
	}, f.silentUnless(n, cause)...)
	switch {
	case errors.Is(err, errMoved):
		return nil
	case err != nil:
		return err
	case over:
		f.Log.WarnContext(ctx, "a checkout failed", "id", n.ID, "error", cause)
		return nil
	}
	return fmt.Errorf("tarball of checkout %s: %w", n.ID, errs.Wrap(errs.Temporary, cause))
}

// silentUnless makes the counting of attempts cause no event; the end does.
func (f *Function) silentUnless(n node.Node, cause error) []store.Option {
	met, _ := n.Debug[attempts].(float64)
	if !errs.Retry(cause) || int(met)+1 >= f.Attempts {
		return nil
	}
	return []store.Option{store.Silent}
}

// The least time between two words about the same work.
const (
	loggedEvery = 5 * time.Second
	toldEvery   = time.Second
)

// progress tells how far long work has come.
func (f *Function) progress(id node.ID) func(git.Progress) {
	tell, every := f.Progress, toldEvery
	if tell == nil {
		tell, every = f.logProgress, loggedEvery
	}
	last := f.Now()
	return func(p git.Progress) {
		if now := f.Now(); now.Sub(last) >= every {
			last = now
			tell(id, p)
		}
	}
}

func (f *Function) logProgress(id node.ID, p git.Progress) {
	f.Log.Info("working on a checkout", "id", id, "phase", p.Phase, "done", p.Done, "total", p.Total, "bytes", p.Bytes)
}
