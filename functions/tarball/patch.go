package tarball

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/git"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/patch"
)

// patch puts the patches of n on the snapshot and returns their hash. All is
// checked here, whoever has made the node and whatever a URL leads to by now.
func (f *Function) patch(ctx context.Context, n node.Node, snapshot *git.Snapshot) (string, error) {
	var patches [][]byte
	sum, total := sha256.New(), 0
	for n.Artifacts[artifact(len(patches))] != "" {
		name := artifact(len(patches))
		if len(patches) == patch.MaxCount {
			return "", errs.New(errs.Invalid, "Too many patches")
		}
		text, err := f.read(ctx, n.Artifacts[name])
		if err == nil {
			text, err = patch.Clean(text)
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if total += len(text); total > patch.MaxTotal {
			return "", errs.New(errs.Invalid, "Patches too large")
		}
		one := sha256.Sum256(text)
		sum.Write(one[:])
		patches = append(patches, text)
	}
	if len(patches) == 0 {
		return "", errs.New(errs.Invalid, "artifacts.%s: a patchset needs it", artifact(0))
	}
	return hex.EncodeToString(sum.Sum(nil)), snapshot.Apply(ctx, patches...)
}

// artifact is the name of a patch among the artifacts, from 0.
func artifact(i int) string { return "patch" + strconv.Itoa(i) }

// read returns a patch from our own storage or from where people may have them.
func (f *Function) read(ctx context.Context, link string) (_ []byte, err error) {
	escaped, own := strings.CutPrefix(link, f.Storage.URL(patch.Folder)+"/")
	if !own {
		return f.Patches.Fetch(ctx, link)
	}
	name, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%.200q: is not a URL", link)
	}
	r, _, err := f.Storage.Open(ctx, patch.Folder+"/"+name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return patch.Read(r)
}
