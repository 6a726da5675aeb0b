package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/runtime/lava"
	"github.com/kernelflow/kernelflow/shared/runtime/shell"
)

// errNoDriver says that this program cannot drive a runtime.
var errNoDriver = errors.New("no driver")

// drivers holds what makes a runtime of each lab type. A driver that has to be
// closed is an io.Closer, and one that has jobs of an earlier host to take over
// has a method Resume.
var drivers = map[string]func(*App, *pipeline.Runtime) (runtime.Runtime, error){
	"lava":  openLava,
	"shell": openShell,
}

// openRuntimes makes a driver for each configured runtime that this program
// can drive; entries for the others never fire.
func (a *App) openRuntimes(ctx context.Context) error {
	a.Runtimes = map[string]runtime.Runtime{}
	if err := a.readTokens(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(a.Pipeline.Runtimes)) {
		if err := a.openRuntime(ctx, a.Pipeline.Runtimes[name]); err != nil {
			return fmt.Errorf("runtime %s (%s): %w", name, a.Pipeline.Runtimes[name].Place, err)
		}
	}
	return nil
}

func (a *App) openRuntime(ctx context.Context, r *pipeline.Runtime) error {
	open, known := drivers[r.LabType]
	driver, err := runtime.Runtime(nil), errNoDriver
	if known {
		driver, err = open(a, r)
	}
	if errors.Is(err, errNoDriver) {
		a.Log.Warn("no jobs will run here: this program has no driver for it", "runtime", r.Name, "lab_type", r.LabType, "place", r.Place.String())
		return nil
	}
	if err != nil {
		return err
	}
	if c, ok := driver.(io.Closer); ok {
		a.closing(c)
	}
	if earlier, ok := driver.(interface{ Resume(context.Context) error }); ok {
		if err := earlier.Resume(ctx); err != nil {
			// The other jobs have been taken over: one bad folder must not stop the start.
			a.Log.Error("a job could not be taken over", "runtime", r.Name, "error", err)
		}
	}
	a.Runtimes[r.Name] = driver
	return nil
}

func openShell(a *App, r *pipeline.Runtime) (runtime.Runtime, error) {
	if len(a.Config.Supervisor) == 0 {
		return nil, errNoDriver
	}
	return shell.New(shell.Options{
		Name: r.Name, Dir: filepath.Join(a.path("jobs"), "runtime-"+url.PathEscape(r.Name)), Supervisor: a.Config.Supervisor,
		APIURL: a.APIURL(), StorageURL: a.StorageURL(), Parallel: a.Config.ShellJobs, PassEnv: a.Config.ShellEnv, Log: a.Log,
	})
}

func openLava(a *App, r *pipeline.Runtime) (runtime.Runtime, error) {
	if r.URL == "" {
		return nil, errNoDriver // its lab fetches its jobs itself
	}
	depth := r.MaxQueueDepth
	if r.DisableQueueLimit {
		depth = 0
	}
	holder := make([]byte, 12)
	if _, err := io.ReadFull(a.Rand, holder); err != nil {
		return nil, errs.Wrap(errs.Temporary, err)
	}
	return lava.New(lava.Options{
		Name: r.Name, URL: r.URL, Tokens: a.Tokens[r.Name], Claims: a.Store, Holder: hex.EncodeToString(holder),
		QueueDepth: depth, Factor: r.MaxQueueDepthPriorityFactor, Now: a.Now,
	})
}

// readTokens reads the tokens of the runtimes from the settings file.
func (a *App) readTokens() error {
	a.Tokens = map[string]runtime.Tokens{}
	if a.Config.Settings == "" {
		return nil
	}
	var file struct {
		Runtime map[string]struct {
			Runtime  string `toml:"runtime_token"`
			Callback string `toml:"callback_token"`
		} `toml:"runtime"`
	}
	if _, err := toml.DecodeFile(a.Config.Settings, &file); err != nil {
		return fmt.Errorf("KCI_SETTINGS %s: %w", a.Config.Settings, errs.Wrap(errs.Invalid, withoutText(err)))
	}
	for name, of := range file.Runtime {
		a.Tokens[name] = runtime.Tokens{Runtime: strings.TrimSpace(of.Runtime), Callback: strings.TrimSpace(of.Callback)}
		if a.Pipeline.Runtimes[name] == nil {
			a.Log.Warn("tokens of a runtime that is not configured", "runtime", name, "file", a.Config.Settings)
		}
	}
	return nil
}

// withoutText leaves out of an error what the file says: it may be a secret.
func withoutText(err error) error {
	var malformed toml.ParseError
	if errors.As(err, &malformed) {
		return fmt.Errorf("line %d is not as TOML has it", malformed.Position.Line)
	}
	return err
}
