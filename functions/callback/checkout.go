package callback

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// timeout is how long what a person asked for may take in all.
const timeout = 300 * time.Minute

// maxFilter bounds the lists of jobs and platforms.
const maxFilter = 8

// checkoutBody is what a checkout is asked for with: a URL and branch, or a node
// whose tree and branch are meant.
type checkoutBody struct {
	nodeID, url, branch, commit string
	filters
}

type filters struct{ jobs, platforms []string }

// readers reads both lists.
func (l *filters) readers() map[string]func(*json.Decoder) error {
	return map[string]func(*json.Decoder) error{
		"jobfilter": texts(&l.jobs, "jobfilter"), "platformfilter": texts(&l.platforms, "platformfilter"),
	}
}

// checkout makes a checkout of a commit of a configured tree.
func (f *Function) checkout(ctx context.Context, r request) (answer, error) {
	var b checkoutBody
	readers := b.readers()
	readers["nodeid"], readers["url"] = text(&b.nodeID, "nodeid"), text(&b.url, "url")
	readers["branch"], readers["commit"] = text(&b.branch, "branch"), text(&b.commit, "commit")
	if err := object(r.body, readers); err != nil {
		return answer{}, err
	}
	if err := f.resolve(ctx, &b); err != nil {
		return answer{}, err
	}
	tree := f.tree(b.url)
	if tree == "" {
		return answer{}, errs.New(errs.NotFound, "Tree not found")
	}
	if err := f.known(b.filters); err != nil {
		return answer{}, err
	}
	n, err := f.newRoot(r.email, b.url, b.branch)
	if err != nil {
		return answer{}, err
	}
	tip := false
	n.Name, n.Path, n.JobFilter, n.PlatformFilter = "checkout", []string{"checkout"}, b.jobs, b.platforms
	if err := n.SetRevision(node.Revision{Tree: tree, URL: b.url, Branch: b.branch, Commit: b.commit, TipOfBranch: &tip}); err != nil {
		return answer{}, err
	}
	return f.create(ctx, n)
}

var commitForm = regexp.MustCompile(`^[0-9a-f]{7,40}$`)

// resolve makes sure that the body names a URL, a branch and a commit.
func (f *Function) resolve(ctx context.Context, b *checkoutBody) error {
	if b.nodeID == "" && (b.url == "" || b.branch == "" || b.commit == "") {
		return errs.New(errs.Invalid, "Missing tree URL, branch or commit")
	}
	if !commitForm.MatchString(b.commit) {
		return errs.New(errs.Invalid, "Invalid commit format")
	}
	if b.nodeID == "" {
		return nil
	}
	n, err := f.node(ctx, b.nodeID)
	if err != nil {
		return err
	}
	revision, ok := n.Revision()
	if !ok {
		return errs.New(errs.Invalid, "Node does not have kernel revision data")
	}
	b.url, b.branch = revision.URL, revision.Branch
	if len(b.jobs) == 0 {
		b.jobs, err = f.jobsOf(ctx, n)
	}
	return err
}

// jobsOf names the kernel build and the job that led to n; nil when there is no
// build above it.
func (f *Function) jobsOf(ctx context.Context, n node.Node) ([]string, error) {
	job, err := n, error(nil)
	if n.Kind != node.KindJob {
		job, err = f.above(ctx, n, node.KindJob)
	}
	if err == nil {
		n, err = f.above(ctx, job, node.KindKbuild)
	}
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	return []string{n.Name, job.Name}, err
}

// tree is the name of the configured tree with that URL that some build config
// uses; "" when there is none.
func (f *Function) tree(url string) string {
	for _, name := range slices.Sorted(maps.Keys(f.Config.BuildConfigs)) {
		if tree := f.Config.Trees[f.Config.BuildConfigs[name].Tree]; tree != nil && tree.URL == url {
			return tree.Name
		}
	}
	return ""
}

// known checks lists of jobs and platforms. A "+" behind a job stands for what it
// starts.
func (f *Function) known(l filters) error {
	if len(l.jobs) > maxFilter {
		return errs.New(errs.Invalid, "Too many jobs in jobfilter")
	}
	for _, name := range l.jobs {
		if f.Config.Jobs[strings.TrimSuffix(name, "+")] == nil {
			return errs.New(errs.NotFound, "Job %.100s not found", name)
		}
	}
	if len(l.platforms) > maxFilter {
		return errs.New(errs.Invalid, "Too many platforms in platformfilter")
	}
	for _, name := range l.platforms {
		if f.Config.Platforms[name] == nil {
			return errs.New(errs.NotFound, "Platform %.100s not found", name)
		}
	}
	return nil
}

// newRoot is a checkout's node as far as it follows from who asks and when.
func (f *Function) newRoot(email, url, branch string) (node.Node, error) {
	id, err := f.newID()
	if err != nil {
		return node.Node{}, err
	}
	now := f.Now()
	sum := sha256.Sum256([]byte(url + branch + now.String() + string(id)))
	n := node.Node{
		ID: id, Kind: node.KindCheckout, State: node.Running, Owner: f.Owner, Submitter: "user:" + email,
		TreeID: hex.EncodeToString(sum[:]), Timeout: now.Add(timeout),
	}
	n.SetDefaults(now)
	return n, nil
}

func (f *Function) create(ctx context.Context, n node.Node) (answer, error) {
	n.SetDefaults(f.Now())
	n, err := f.Store.Create(ctx, n)
	return answer{Message: "OK", Node: &n}, err
}
