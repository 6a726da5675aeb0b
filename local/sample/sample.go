// Package sample is something to look at for who starts Kernelflow without a
// configuration: a small git tree of C code with its own tests, and a
// configuration that builds and tests it with the shell runtime. Both are
// written to disk once and are then the user's to change.
package sample

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"

	"github.com/kernelflow/kernelflow/shared/errs"
)

//go:embed tree
var tree embed.FS

//go:embed pipeline.yaml
var configuration string

// Write makes sure that dir holds the sample: dir/sample-tree, a git
// repository with one tagged commit, and dir/config. What exists is left
// alone. It returns the folder of the configuration.
func Write(ctx context.Context, dir string) (string, error) {
	repository, err := filepath.Abs(filepath.Join(dir, "sample-tree"))
	if err != nil {
		return "", fmt.Errorf("sample.Write(%s): %w", dir, err)
	}
	if err := once(repository, func(tmp string) error { return makeTree(ctx, tmp) }); err != nil {
		return "", fmt.Errorf("sample.Write(%s): %w", dir, err)
	}
	config := filepath.Join(dir, "config")
	if err := once(config, func(tmp string) error { return writeConfig(tmp, repository) }); err != nil {
		return "", fmt.Errorf("sample.Write(%s): %w", dir, err)
	}
	return config, nil
}

// once fills a folder beside its final place and moves it there, so that a
// crash leaves all of it or nothing.
func once(dir string, fill func(tmp string) error) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-"+filepath.Base(dir)+"-*")
	if err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

func makeTree(ctx context.Context, dir string) error {
	files, err := fs.Sub(tree, "tree")
	if err != nil {
		return err
	}
	if err := os.CopyFS(dir, files); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"config", "user.name", "Sample Author"},
		{"config", "user.email", "author@example.org"},
		{"add", "--all"},
		{"commit", "--quiet", "--message=sample: a ring buffer and some text helpers"},
		{"tag", "--annotate", "--message=Sample 1.0", "v1.0"},
	} {
		if err := git(ctx, dir, args...); err != nil {
			return err
		}
	}
	return nil
}

// git runs with a fixed date, so that the first commit is the same everywhere.
func git(ctx context.Context, dir string, args ...string) error {
	const date = "2025-01-12T08:00:00Z"
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %s: %w", args[0], bytes.TrimSpace(out), errs.Wrap(errs.Temporary, err))
	}
	return nil
}

func writeConfig(dir, repository string) error {
	text, err := template.New("pipeline.yaml").Parse(configuration)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	link := url.URL{Scheme: "file", Path: filepath.ToSlash(repository)}
	if err := text.Execute(&out, struct{ TreeURL string }{link.String()}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "pipeline.yaml"), out.Bytes(), 0o644)
}
