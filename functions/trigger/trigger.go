// Package trigger is the function that finds new commits: on its schedule it
// asks each configured tree for the heads of its branches and makes a checkout
// node for each commit that has none.
//
// A commit of a branch is left alone when a checkout of it by this instance's
// pipeline exists, unless that one ended incomplete; after three incomplete ones
// the commit is given up. What people ask for (a checkout with a few jobs, a
// patchset) does not count. A build config with a frequency also waits until its
// last checkout is old enough. Force overrides all of it but the limit of one
// checkout a pass.
//
// Safe to run twice and from any number of instances: the id of the checkout
// follows from the build config, the commit and the number of the attempt, so
// that of two instances that find the same commit one creates its node and the
// other meets a conflict. A forced checkout's id follows from the time, to the
// second.
//
// Trees that cannot be reached are logged and the others go on; the pass then
// fails as a whole with errs.Temporary, so that it is seen.
package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/store"
)

// maxIncomplete is how many incomplete checkouts end a commit.
const maxIncomplete = 3

// parallel is how many trees are asked at once.
const parallel = 8

// submitter is what KernelCI's pipeline calls itself.
const submitter = "service:pipeline"

// Heads asks a git server for the commits of branches.
type Heads interface {
	Heads(ctx context.Context, url string, branches ...string) (map[string]string, error)
}

// Store is what the function needs of the node store.
type Store interface {
	Find(ctx context.Context, q node.Query) ([]node.Node, error)
	Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error)
}

// Options are the parts of the function.
type Options struct {
	Config  *pipeline.Config
	Store   Store
	Git     Heads
	HTTP    *http.Client // fetches lists of branches
	Owner   string
	Timeout time.Duration // how long a checkout may take in all
	Force   bool
	Now     func() time.Time
	Log     *slog.Logger
}

// Function looks for new commits.
type Function struct{ Options }

// New builds the function.
func New(o Options) (*Function, error) {
	if o.Config == nil || o.Store == nil || o.Git == nil || o.HTTP == nil || o.Owner == "" || o.Timeout <= 0 || o.Now == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "trigger.New: a part is missing")
	}
	return &Function{o}, nil
}

// Tick makes one pass over all build configs.
func (f *Function) Tick(ctx context.Context) error {
	trees := map[string][]*pipeline.BuildConfig{}
	for _, name := range slices.Sorted(maps.Keys(f.Config.BuildConfigs)) {
		b := f.Config.BuildConfigs[name]
		trees[b.Tree] = append(trees[b.Tree], b)
	}
	names := slices.Sorted(maps.Keys(trees))
	failures := make([]error, len(names))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, name := range names {
		group.Go(func() error {
			failures[i] = f.tree(ctx, f.Config.Trees[name], trees[name])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("trigger.Tick: %w", errs.Wrap(errs.Temporary, err))
	}
	return nil
}

// tree looks at all branches of one tree with one call.
func (f *Function) tree(ctx context.Context, tree *pipeline.Tree, configs []*pipeline.BuildConfig) error {
	branches := make([]string, len(configs))
	var problems []error
	for i, b := range configs {
		var err error
		if branches[i], err = f.branch(ctx, b.Branch); err != nil {
			problems = append(problems, fmt.Errorf("build config %s: %w", b.Name, err))
		}
	}
	wanted := slices.DeleteFunc(slices.Clone(branches), func(b string) bool { return b == "" })
	if len(wanted) == 0 {
		return errors.Join(problems...)
	}
	heads, err := f.Git.Heads(ctx, tree.URL, wanted...)
	if err != nil {
		return errors.Join(append(problems, fmt.Errorf("tree %s: %w", tree.Name, err))...)
	}
	for i, b := range configs {
		if branches[i] == "" {
			continue
		}
		commit, ok := heads[branches[i]]
		if !ok {
			problems = append(problems, errs.New(errs.NotFound, "build config %s: tree %s has no branch %q", b.Name, tree.Name, branches[i]))
			continue
		}
		if err := f.checkout(ctx, tree, b, branches[i], commit); err != nil {
			problems = append(problems, fmt.Errorf("build config %s: %w", b.Name, err))
		}
	}
	return errors.Join(problems...)
}

// maxList bounds a list of branches, bytes.
const maxList = 1 << 20

// branch is the name of the branch: as configured, or the newest of the list
// of {branch, date} behind an http(s) URL.
func (f *Function) branch(ctx context.Context, configured string) (string, error) {
	if !strings.HasPrefix(configured, "http://") && !strings.HasPrefix(configured, "https://") {
		return configured, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, configured, nil)
	if err != nil {
		return "", errs.Wrap(errs.Invalid, err)
	}
	response, err := f.HTTP.Do(r)
	if err != nil {
		return "", errs.Wrap(errs.Temporary, err)
	}
	defer func() { _ = response.Body.Close() }() // only read
	if response.StatusCode != http.StatusOK {
		return "", errs.New(errs.Temporary, "list of branches %s: %s", configured, response.Status)
	}
	var list []struct{ Branch, Date string }
	if err := json.NewDecoder(io.LimitReader(response.Body, maxList)).Decode(&list); err != nil {
		return "", fmt.Errorf("list of branches %s: %w", configured, errs.Wrap(errs.Invalid, err))
	}
	newest, at := "", time.Time{}
	for _, item := range list {
		date, err := node.ParseTime(item.Date)
		if err != nil {
			return "", fmt.Errorf("list of branches %s: %w", configured, err)
		}
		if newest == "" || date.After(at) {
			newest, at = item.Branch, date
		}
	}
	if newest == "" {
		return "", errs.New(errs.NotFound, "list of branches %s is empty", configured)
	}
	return newest, nil
}

func (f *Function) checkout(ctx context.Context, tree *pipeline.Tree, b *pipeline.BuildConfig, branch, commit string) error {
	same := node.Where("kind", node.KindCheckout).And("data.kernel_revision.tree", tree.Name).And("data.kernel_revision.branch", branch).
		And("owner", f.Owner).And("submitter", submitter)
	earlier, err := f.Store.Find(ctx, same.And("data.kernel_revision.commit", commit))
	if err != nil {
		return err
	}
	attempt, reason := f.attempt(earlier)
	if reason == "" && b.Frequency > 0 && !f.Force {
		reason, err = f.tooSoon(ctx, b, same)
		if err != nil {
			return err
		}
	}
	if reason != "" {
		f.Log.DebugContext(ctx, "no checkout", "build_config", b.Name, "commit", commit, "reason", reason)
		return nil
	}
	n, err := f.node(tree, b, branch, commit, attempt)
	if err != nil {
		return err
	}
	_, err = f.Store.Create(ctx, n)
	if errors.Is(err, errs.Conflict) {
		return nil // another instance was faster
	}
	if err == nil {
		f.Log.InfoContext(ctx, "checkout created", "id", n.ID, "build_config", b.Name, "commit", commit)
	}
	return err
}

// attempt names the attempt to make of a commit, or says why none is made.
func (f *Function) attempt(earlier []node.Node) (attempt, reason string) {
	if f.Force {
		return "forced " + strconv.FormatInt(f.Now().Unix(), 10), ""
	}
	incomplete := 0
	for _, n := range earlier {
		if n.Result != node.Incomplete && !failed(n) {
			return "", "checkout " + string(n.ID) + " exists"
		}
		incomplete++
	}
	if incomplete >= maxIncomplete {
		return "", strconv.Itoa(incomplete) + " incomplete checkouts exist"
	}
	return strconv.Itoa(incomplete), ""
}

// failed says whether the source of the checkout could not be had: that tells
// nothing of the commit.
func failed(n node.Node) bool {
	return n.State == node.Done && n.Result == node.Fail && n.Text("error_code") == node.ErrCodeGitCheckout
}

func (f *Function) tooSoon(ctx context.Context, b *pipeline.BuildConfig, same node.Query) (string, error) {
	recent, err := f.Store.Find(ctx, same.Cond("created", node.Gt, f.Now().Add(-b.Frequency)).Page(1, 0))
	if err != nil || len(recent) == 0 {
		return "", err
	}
	return fmt.Sprintf("checkout %s is younger than %s", recent[0].ID, b.Frequency), nil
}

func (f *Function) node(tree *pipeline.Tree, b *pipeline.BuildConfig, branch, commit, attempt string) (node.Node, error) {
	now := f.Now()
	var age [8]byte
	id := node.DeriveID(node.NewID(epoch, age), "checkout", f.Owner, tree.Name, branch, commit, attempt)
	n := node.Node{
		ID: id, Kind: node.KindCheckout, Name: "checkout", Path: []string{"checkout"}, State: node.Running,
		TreeID: treeID(id), Owner: f.Owner, Submitter: submitter, Timeout: now.Add(f.Timeout),
	}
	n.SetDefaults(now)
	if len(b.Architectures) > 0 {
		n.Set("architecture_filter", b.Architectures)
	}
	if b.Priority != "" {
		n.Set("priority", b.Priority)
	}
	return n, n.SetRevision(node.Revision{Tree: tree.Name, URL: tree.URL, Branch: branch, Commit: commit})
}

// epoch is the age part of every checkout's id: two instances that find the
// same commit at different seconds must derive the same id.
var epoch = time.Unix(0, 0)

// treeID is unique for each checkout, as KernelCI's is: 64 hex digits there,
// an opaque text to all who read it.
func treeID(id node.ID) string { return "checkout-" + string(id) }
