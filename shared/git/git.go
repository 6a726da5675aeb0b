package git

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Options say where mirrors are kept and what is allowed.
type Options struct {
	Dir        string // folder of the mirrors; made when it does not exist
	AllowLocal bool   // trees on this machine too: file URLs and absolute paths
	Logger     *slog.Logger
}

// Git runs git. It is safe for concurrent use, also by several processes with
// the same folder.
type Git struct {
	dir        string
	allowLocal bool
	logger     *slog.Logger
	env        []string
}

// New prepares the folder of mirrors. The error is errs.Invalid when a part is
// missing, else errs.Temporary.
func New(o Options) (*Git, error) {
	if o.Dir == "" || o.Logger == nil {
		return nil, errs.New(errs.Invalid, "git.New: no folder or no logger")
	}
	dir, err := filepath.Abs(o.Dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("git.New(%s): %w", o.Dir, errs.Wrap(errs.Temporary, err))
	}
	return &Git{dir: dir, allowLocal: o.AllowLocal, logger: o.Logger, env: environment(dir, o.AllowLocal)}, nil
}

// maxHeads bounds the answer about heads, bytes.
const maxHeads = 4 << 20

// Heads asks the server for the commits at the heads of branches. A branch
// that the server does not have is missing in the answer; an empty repository
// has none. Errors are those of the package; Invalid names the bad argument.
func (g *Git) Heads(ctx context.Context, address string, branches ...string) (map[string]string, error) {
	if err := g.checkURL(address); err != nil {
		return nil, err
	}
	args := []string{"ls-remote", "--end-of-options", address}
	for _, b := range branches {
		if err := checkBranch(b); err != nil {
			return nil, err
		}
		args = append(args, "refs/heads/"+b)
	}
	answer, err := g.ask(ctx, maxHeads, call{args: args})
	if err != nil {
		return nil, fmt.Errorf("git.Heads(%s): %w", redact(address), meaning(err))
	}
	return pick(string(answer), branches), nil
}

// pick keeps the branches asked for: ls-remote also lists other refs that end
// in the same name.
func pick(answer string, branches []string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(answer) {
		if commit, ref, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			all[ref] = commit
		}
	}
	heads := map[string]string{}
	for _, b := range branches {
		if commit := all["refs/heads/"+b]; checkCommit(commit) == nil {
			heads[b] = commit
		}
	}
	return heads
}
