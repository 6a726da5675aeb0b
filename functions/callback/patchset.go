package callback

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/patch"
)

// patchsetBody is what a patchset is asked for with: patches, or where they are.
type patchsetBody struct {
	nodeID         string
	urls, contents []any
	filters
}

// small is the length of a body that need not wait for its place, bytes.
const small = 1 << 20

// patchset makes a checkout that is another one with patches on it.
func (f *Function) patchset(ctx context.Context, r request) (answer, error) {
	if r.length < 0 || r.length > small {
		select {
		case f.holding <- struct{}{}:
			defer func() { <-f.holding }()
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
	}
	var b patchsetBody
	readers := b.readers()
	readers["nodeid"] = text(&b.nodeID, "nodeid")
	readers["patchurl"] = func(d *json.Decoder) error { return d.Decode(&b.urls) }
	readers["patch"] = func(d *json.Decoder) error { return d.Decode(&b.contents) }
	err := object(r.body, readers)
	if err == nil {
		err = needed(b.nodeID, "nodeid")
	}
	if err != nil {
		return answer{}, err
	}
	base, err := f.node(ctx, b.nodeID)
	if err != nil {
		return answer{}, err
	}
	revision, ok := base.Revision()
	if base.Kind != node.KindCheckout || !ok {
		return answer{}, errs.New(errs.Invalid, "Node is not a checkout")
	}
	n, err := f.newRoot(r.email, revision.URL, revision.Branch)
	if err != nil {
		return answer{}, err
	}
	inherit(&n, base, b.filters)
	links, err := f.links(ctx, r.email, n.ID, b)
	if err == nil {
		err = addPatches(&n, base, links)
	}
	if err != nil {
		return answer{}, err
	}
	return f.create(ctx, n)
}

// ofRun are the keys of a checkout's data that say what became of it.
var ofRun = []string{"regressions", "error_code", "error_msg"}

// inherit gives the patchset what it has of its checkout.
func inherit(n *node.Node, base node.Node, l filters) {
	base = base.Clone()
	n.Name, n.Group, n.Path, n.Parent = node.NamePatchset, node.NamePatchset, []string{"checkout", node.NamePatchset}, base.ID
	n.UserGroups, n.JobFilter, n.PlatformFilter, n.Data = base.UserGroups, base.JobFilter, base.PlatformFilter, base.Data
	for _, key := range ofRun {
		delete(n.Data, key)
	}
	if revision, ok := n.Data["kernel_revision"].(map[string]any); ok {
		delete(revision, "patchset")
	}
	if len(l.jobs) > 0 {
		n.JobFilter = l.jobs
	}
	if len(l.platforms) > 0 {
		n.PlatformFilter = l.platforms
	}
}

// addPatches makes the links artifacts of n, behind those that base has when it
// is a patchset itself.
func addPatches(n *node.Node, base node.Node, links []string) error {
	n.Artifacts = map[string]string{}
	for base.Name == node.NamePatchset && base.Artifacts[artifact(len(n.Artifacts))] != "" {
		name := artifact(len(n.Artifacts))
		n.Artifacts[name] = base.Artifacts[name]
	}
	for _, link := range links {
		n.Artifacts[artifact(len(n.Artifacts))] = link
	}
	if len(n.Artifacts) > patch.MaxCount {
		return errs.New(errs.Invalid, "Too many patches")
	}
	return nil
}

// artifact is the name of a patch among the artifacts, from 0.
func artifact(i int) string { return "patch" + strconv.Itoa(i) }

// links returns where the patches are, each checked. Patches that came with the
// request are stored when all of it is found good.
func (f *Function) links(ctx context.Context, email string, id node.ID, b patchsetBody) ([]string, error) {
	if len(b.urls) > 0 {
		links, err := f.reachable(ctx, b.urls)
		if err == nil {
			err = f.known(b.filters)
		}
		return links, err
	}
	if len(b.contents) == 0 {
		return nil, errs.New(errs.Invalid, "Missing patch URL or patch")
	}
	patches, err := checked(b.contents)
	if err == nil {
		err = f.known(b.filters)
	}
	if err != nil {
		return nil, err
	}
	return f.keep(ctx, email, id, patches)
}

// How URLs are asked for: together for less than clients wait for an answer.
const (
	askTime = 40 * time.Second
	askers  = 8
)

var errURL = errs.New(errs.Invalid, "Invalid patch URL")

// reachable checks URLs of patches.
func (f *Function) reachable(ctx context.Context, urls []any) ([]string, error) {
	if len(urls) > patch.MaxCount {
		return nil, errs.New(errs.Invalid, "Too many patches")
	}
	links := make([]string, len(urls))
	for i, u := range urls {
		var ok bool
		if links[i], ok = u.(string); !ok {
			return nil, errURL
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askers)
	for _, link := range links {
		group.Go(func() error {
			if err := f.Patches.Check(ctx, link); err != nil {
				f.Log.WarnContext(ctx, "a patch cannot be had", "error", err)
				return errURL
			}
			return nil
		})
	}
	return links, group.Wait()
}

// checked checks patches that came with a request.
func checked(contents []any) ([]string, error) {
	if len(contents) > patch.MaxCount {
		return nil, errs.New(errs.Invalid, "Too many patches")
	}
	patches, total := make([]string, len(contents)), 0
	for i, content := range contents {
		text, ok := content.(string)
		if !ok {
			return nil, errs.New(errs.Invalid, "Invalid patch element type")
		}
		if total += len(text); total > patch.MaxTotal {
			return nil, errs.New(errs.Invalid, "Patch too large: all together are more than %d bytes", patch.MaxTotal)
		}
		patches[i] = text
	}
	for _, text := range patches {
		if _, err := patch.Clean([]byte(text)); err != nil {
			return nil, err
		}
	}
	return patches, nil
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// folder is the name of somebody's folder, from the e-mail address.
func folder(email string) string {
	name := strings.TrimLeft(unfit.ReplaceAllString(email, "_"), ".")
	return name[:min(len(name), 100)]
}

// keep stores patches and returns their URLs.
func (f *Function) keep(ctx context.Context, email string, id node.ID, patches []string) ([]string, error) {
	links := make([]string, len(patches))
	for i, text := range patches {
		name := fmt.Sprintf("%s/%s/%s-%d-%d.patch", patch.Folder, folder(email), id, f.Now().Unix(), i)
		var err error
		if links[i], err = f.Storage.Upload(ctx, name, "text/x-patch; charset=utf-8", strings.NewReader(text)); err != nil {
			return nil, err
		}
	}
	return links, nil
}
