// Package app opens the parts that the configuration names (store, channel,
// storage, mail, git, templates, runtimes) and hands them to the functions. It
// is the only package that imports drivers.
//
// Without configuration everything is embedded and kept in one folder, DATA:
//
//	kernelflow.db   nodes, events, users (SQLite)
//	storage/        artifacts
//	mail/           mails as .eml files
//	mirrors/        bare mirrors of the git trees
//	jobs/           the folders of the shell runtime's jobs
//	secret.key      signs tokens (0600)
//
// A part named by MONGO_SERVICE, REDIS_HOST, STORAGE_URL or SMTP_HOST takes the
// place of the embedded one; the functions cannot tell.
//
// Decisions. [Config] is one struct of environment variables, because that is
// what every host (a cloud's console, a compose file, a shell) can set; it
// prints itself for -help, so that no setting is documented elsewhere.
package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/bus/redis"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/git"
	"github.com/kernelflow/kernelflow/shared/jobdef"
	"github.com/kernelflow/kernelflow/shared/mail"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/relay"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/storage/blob"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/sqlite"
)

// App is the opened parts. A host may replace Mail and set Progress before it
// opens functions.
type App struct {
	Config    Config
	Log       *slog.Logger
	Now       func() time.Time
	Rand      io.Reader
	Pipeline  *pipeline.Config
	Store     *relay.Relay
	Watch     *relay.Watch
	Bus       bus.Bus
	Storage   storage.Storage
	Mail      mail.Sender
	Git       *git.Git
	Auth      *auth.Auth
	Templates *jobdef.Renderer
	Runtimes  map[string]runtime.Runtime // by name; those that this program can drive
	Tokens    map[string]runtime.Tokens  // of runtimes, by name
	Metrics   *prometheus.Registry       // what functions measure beside their requests
	// Progress hears how far git's work on a checkout is; nil: the log tells.
	Progress func(checkout node.ID, p git.Progress)

	closers []io.Closer // in the order of opening
}

// watchInterval is after how long a listener looks at the log although nothing
// woke it.
const watchInterval = 2 * time.Second

// Open opens everything that the configuration names. What is wrong with the
// configuration is errs.Invalid and names the setting or the place in a file;
// a server that does not answer is errs.Temporary. Close the App when done.
func Open(ctx context.Context, c Config, log *slog.Logger, now func() time.Time, rand io.Reader) (*App, error) {
	a := &App{Config: c, Log: log, Now: now, Rand: rand, Metrics: prometheus.NewRegistry()}
	for _, step := range []func(context.Context) error{
		a.openPipeline, a.openAuth, a.openStore, a.openStorage, a.openMail, a.openGit, a.ensureAdmin, a.openRuntimes,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, a.Close())
		}
	}
	return a, nil
}

// Close closes the parts, the last opened first.
func (a *App) Close() error {
	var problems []error
	for _, c := range slices.Backward(a.closers) {
		problems = append(problems, c.Close())
	}
	a.closers = nil
	return errors.Join(problems...)
}

func (a *App) closing(c io.Closer) { a.closers = append(a.closers, c) }

func (a *App) path(name string) string { return filepath.Join(a.Config.Data, name) }

// Divided is a time span as -speed shortens it.
func (a *App) Divided(d time.Duration) time.Duration {
	return d / time.Duration(max(a.Config.Speed, 1))
}

// openPipeline loads the YAML and the templates. Warnings are logged.
func (a *App) openPipeline(context.Context) error {
	if err := a.Config.check(); err != nil {
		return err
	}
	var folders []string
	for _, dir := range filepath.SplitList(a.Config.Templates) {
		if dir != "" {
			folders = append(folders, dir)
		}
	}
	var err error
	if a.Templates, err = jobdef.New(folders...); err != nil {
		return err
	}
	if a.Config.ConfigDir == "" {
		a.Pipeline = &pipeline.Config{}
		return nil
	}
	config, warnings, err := pipeline.LoadDir(a.Config.ConfigDir, pipeline.Options{Strict: a.Config.Strict})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		a.Log.Warn("configuration", "place", w.Place.String(), "problem", w.Text)
	}
	a.Pipeline = config
	return nil
}

func (a *App) openAuth(context.Context) error {
	secret := []byte(a.Config.SecretKey)
	if len(secret) == 0 {
		var err error
		if secret, err = keptSecret(a.path("secret.key"), a.Rand); err != nil {
			return err
		}
	}
	var err error
	a.Auth, err = auth.New(auth.Options{Secret: secret, Unified: []byte(a.Config.UnifiedSecret), Life: a.Config.TokenLife, Now: a.Now})
	return err
}

func (a *App) openStore(ctx context.Context) error {
	b, err := a.openBus()
	if err != nil {
		return err
	}
	a.Bus = b
	a.closing(b)
	st, err := a.openDatabase(ctx)
	if err != nil {
		return err
	}
	a.Store = relay.New(st, b, a.Log)
	a.closing(a.Store)
	a.Watch = relay.NewWatch(a.Store, b, watchInterval, a.Log)
	a.closing(a.Watch)
	return nil
}

func (a *App) openBus() (*redis.Bus, error) {
	if a.Config.Redis == "" {
		return redis.Embedded(a.Log)
	}
	return redis.Open(redis.Options{Addr: a.Config.Redis, Password: a.Config.RedisPassword, Log: a.Log})
}

func (a *App) openDatabase(ctx context.Context) (store.Store, error) {
	if a.Config.Mongo != "" {
		return mongo.Open(ctx, mongo.Options{URI: a.Config.Mongo, Database: a.Config.MongoDatabase, Now: a.Now, Log: a.Log})
	}
	if err := os.MkdirAll(a.Config.Data, 0o755); err != nil {
		return nil, errs.Wrap(errs.Invalid, err)
	}
	return sqlite.Open(ctx, sqlite.Options{Path: a.path("kernelflow.db"), Now: a.Now})
}

func (a *App) openStorage(context.Context) error {
	bucket := a.Config.Storage
	if bucket == "" {
		dir, err := filepath.Abs(a.path("storage"))
		if err != nil {
			return errs.Wrap(errs.Invalid, err)
		}
		bucket = (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()
	}
	files, err := blob.Open(bucket, a.StorageURL())
	if err != nil {
		return err
	}
	a.Storage = files
	a.closing(files)
	return nil
}

// StorageURL is where artifacts are read by HTTP.
func (a *App) StorageURL() string {
	if a.Config.StorageURL != "" {
		return strings.TrimRight(a.Config.StorageURL, "/")
	}
	return a.APIURL() + "/storage"
}

// APIURL is where the API answers, without a version.
func (a *App) APIURL() string { return strings.TrimRight(a.Config.URL, "/") }

func (a *App) openMail(context.Context) error {
	var err error
	if a.Config.SMTPHost == "" {
		a.Mail, err = mail.NewFolder(a.path("mail"))
		return err
	}
	a.Mail, err = mail.NewSMTP(mail.SMTPConfig{
		Host: a.Config.SMTPHost, Port: a.Config.SMTPPort, User: a.Config.SMTPUser, Password: a.Config.SMTPPassword,
	})
	return err
}

func (a *App) openGit(context.Context) error {
	var err error
	a.Git, err = git.New(git.Options{Dir: a.path("mirrors"), AllowLocal: a.Config.LocalGit, Logger: a.Log})
	return err
}
