package app

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"reflect"
	"text/tabwriter"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Config is every setting of Kernelflow. Each is an environment variable; the
// emulator's flags set some of them. Durations are Go's (90s, 10m, 168h).
type Config struct {
	Data      string `env:"KERNELFLOW_DATA" envDefault:"data" help:"folder of everything that the embedded parts keep"`
	ConfigDir string `env:"KERNELFLOW_CONFIG" help:"folder of the KernelCI YAML configuration"`
	Templates string `env:"KERNELFLOW_TEMPLATES" help:"folders of job templates, colon-separated, looked through before the shipped ones"`
	URL       string `env:"KERNELFLOW_URL" help:"where jobs and people reach the API; http://ADDR when empty"`
	Strict    bool   `env:"KERNELFLOW_STRICT" help:"take warnings about the configuration as errors"`
	Settings  string `env:"KCI_SETTINGS" help:"file of secrets, KernelCI's kernelci.toml: [runtime.NAME] with runtime_token and callback_token"`

	Mongo         string `env:"MONGO_SERVICE" help:"MongoDB to keep nodes in, mongodb://...; embedded SQLite when empty"`
	MongoDatabase string `env:"MONGO_DATABASE" envDefault:"kernelci" help:"name of the MongoDB database"`
	Redis         string `env:"REDIS_HOST" help:"Redis to wake instances by, host or host:port; embedded when empty"`
	RedisPassword string `env:"REDIS_PASSWORD" help:"password of that Redis"`
	Storage       string `env:"STORAGE_URL" help:"bucket for artifacts, file:///DIR; the folder DATA/storage when empty"`
	StorageURL    string `env:"STORAGE_BASE_URL" help:"where artifacts can be read by HTTP; URL/storage when empty"`

	SMTPHost     string   `env:"SMTP_HOST" help:"mail server; mails become files in DATA/mail when empty"`
	SMTPPort     int      `env:"SMTP_PORT" envDefault:"587" help:"port of the mail server"`
	SMTPUser     string   `env:"SMTP_USER" help:"account on the mail server"`
	SMTPPassword string   `env:"SMTP_PASSWORD" help:"password of that account"`
	MailFrom     string   `env:"MAIL_FROM" envDefault:"Kernelflow <kernelflow@localhost>" help:"sender of the reports and of what people are mailed about their accounts"`
	MailTo       []string `env:"MAIL_TO" envDefault:"kernel@localhost" help:"recipients of the reports, comma-separated"`
	MailPrefix   string   `env:"MAIL_PREFIX" envDefault:"[STAGING]" help:"first word of a report's subject"`

	SecretKey     string        `env:"SECRET_KEY" help:"signs tokens; kept in DATA/secret.key when empty"`
	UnifiedSecret string        `env:"UNIFIED_SECRET" help:"a second key whose tokens are accepted"`
	TokenLife     time.Duration `env:"TOKEN_LIFETIME" envDefault:"0s" help:"how long a login lasts; 0s is for ever"`
	AdminPassword string        `env:"KCI_INITIAL_PASSWORD" help:"password of the first admin; random when empty"`
	AdminName     string        `env:"KCI_INITIAL_ADMIN_USERNAME" envDefault:"admin" help:"name of the first admin, who owns the pipeline's nodes"`
	AdminEmail    string        `env:"KCI_INITIAL_ADMIN_EMAIL" envDefault:"admin@localhost" help:"address of the first admin"`

	InstanceID       string        `env:"INSTANCE_ID" envDefault:"kernelflow" help:"name of this instance, for job templates"`
	InstanceCallback string        `env:"KCI_INSTANCE_CALLBACK" help:"where labs send results, for job templates; the lab's own setting when empty"`
	ImagePrefix      string        `env:"IMAGE_PREFIX" help:"what {image_prefix} in the images of jobs stands for"`
	CheckoutTimeout  time.Duration `env:"CHECKOUT_TIMEOUT" envDefault:"24h" help:"how long a checkout may take in all"`
	Holdoff          time.Duration `env:"HOLDOFF" envDefault:"10m" help:"how long a checkout or build waits for late jobs before it closes"`
	TarballAttempts  int           `env:"TARBALL_ATTEMPTS" envDefault:"5" help:"how often an unreachable tree is tried before its checkout fails"`
	LocalGit         bool          `env:"GIT_ALLOW_LOCAL" envDefault:"false" help:"allow trees on this machine (file URLs and paths); the emulator sets it"`
	PatchHosts       []string      `env:"PATCH_HOSTS" envDefault:"patchwork.kernel.org" help:"hosts that patches may be fetched from, comma-separated, without ports"`
	PrivatePatches   bool          `env:"PATCH_ALLOW_PRIVATE" envDefault:"false" help:"let those hosts have private addresses, such as one of this machine"`
	PrivateFiles     bool          `env:"ARTIFACTS_ALLOW_PRIVATE" envDefault:"false" help:"read artifacts of kernel builds from private addresses too, not only from this instance's storage"`
	PollAfter        time.Duration `env:"POLL_AFTER" envDefault:"5m" help:"how old a job is when its lab is asked what came of it, should it not have called back"`
	ShellJobs        int           `env:"SHELL_JOBS" envDefault:"2" help:"how many jobs the shell runtime runs at once"`
	ShellEnv         []string      `env:"SHELL_ENV" help:"names of environment variables that shell jobs may see, comma-separated"`
	Retention        time.Duration `env:"EVENTS_RETENTION" envDefault:"168h" help:"how long events are kept"`
	TelemetryLife    time.Duration `env:"TELEMETRY_RETENTION" envDefault:"336h" help:"how long telemetry is kept"`
	ScheduleLife     time.Duration `env:"SCHEDULE_RETENTION" envDefault:"336h" help:"how long it is kept why each job was created or not"`
	NodesLife        time.Duration `env:"NODES_RETENTION" envDefault:"0s" help:"how long finished checkouts are kept, with all below them and their files; 0s is for ever"`
	KeepAlive        time.Duration `env:"LISTEN_KEEPALIVE" envDefault:"45s" help:"how long a listener waits for an event before it gets a sign of life"`
	PopWait          time.Duration `env:"POP_WAIT" envDefault:"30s" help:"how long a consumer of a list waits for an item"`
	MaxUpload        int64         `env:"MAX_UPLOAD" envDefault:"4294967296" help:"largest artifact that may be uploaded, bytes"`
	LogLevel         string        `env:"LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`

	// Supervisor is the command that runs one shell job; the job's folder is
	// added to it. It belongs to the host, not to the environment.
	Supervisor []string `env:"-"`
	// Speed divides holdoffs and the periods of scheduled functions, for
	// demonstrations. It belongs to the host.
	Speed int `env:"-"`
	// Force makes the trigger create a checkout even of a commit that has one.
	Force bool `env:"-"`
}

// FromEnvironment reads the settings; what is malformed is an errs.Invalid
// error that names the variable.
func FromEnvironment() (Config, error) {
	c, err := env.ParseAs[Config]()
	if err != nil {
		return Config{}, fmt.Errorf("settings: %w", errs.Wrap(errs.Invalid, byVariable(err)))
	}
	return c, nil
}

// byVariable names the variables where the parser names our fields.
func byVariable(err error) error {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return err
	}
	named := make([]error, len(all.Errors))
	for i, one := range all.Errors {
		named[i] = one
		var malformed env.ParseError
		if field, ok := reflect.TypeFor[Config](), errors.As(one, &malformed); ok {
			f, _ := field.FieldByName(malformed.Name)
			named[i] = fmt.Errorf("%s: %w", f.Tag.Get("env"), malformed.Err)
		}
	}
	return errors.Join(named...)
}

// check finds what no part would find by itself.
func (c Config) check() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errs.New(errs.Invalid, "KERNELFLOW_URL %q: must be the http(s) URL under which jobs reach the API", c.URL)
	case c.Data == "":
		return errs.New(errs.Invalid, "KERNELFLOW_DATA: must name a folder")
	case c.CheckoutTimeout <= 0:
		return errs.New(errs.Invalid, "CHECKOUT_TIMEOUT %s: must be more than nothing", c.CheckoutTimeout)
	case c.Holdoff < 0:
		return errs.New(errs.Invalid, "HOLDOFF %s: must not be negative", c.Holdoff)
	case c.PollAfter < 0:
		return errs.New(errs.Invalid, "POLL_AFTER %s: must not be negative", c.PollAfter)
	case c.Retention <= 0:
		return errs.New(errs.Invalid, "EVENTS_RETENTION %s: must be more than nothing", c.Retention)
	case c.TelemetryLife <= 0:
		return errs.New(errs.Invalid, "TELEMETRY_RETENTION %s: must be more than nothing", c.TelemetryLife)
	case c.ScheduleLife <= 0:
		return errs.New(errs.Invalid, "SCHEDULE_RETENTION %s: must be more than nothing", c.ScheduleLife)
	case c.NodesLife < 0:
		return errs.New(errs.Invalid, "NODES_RETENTION %s: must not be negative", c.NodesLife)
	case c.KeepAlive <= 0:
		return errs.New(errs.Invalid, "LISTEN_KEEPALIVE %s: must be more than nothing", c.KeepAlive)
	case c.TarballAttempts < 1:
		return errs.New(errs.Invalid, "TARBALL_ATTEMPTS %d: must be 1 or more", c.TarballAttempts)
	case c.ShellJobs < 1:
		return errs.New(errs.Invalid, "SHELL_JOBS %d: must be 1 or more", c.ShellJobs)
	case new(slog.Level).UnmarshalText([]byte(c.LogLevel)) != nil:
		return errs.New(errs.Invalid, "LOG_LEVEL %q: must be debug, info, warn or error", c.LogLevel)
	}
	return nil
}

// Level is the least level that is logged.
func (c Config) Level() slog.Level {
	var level slog.Level
	if level.UnmarshalText([]byte(c.LogLevel)) != nil {
		return slog.LevelInfo // Open says what is wrong
	}
	return level
}

// Describe writes every setting with its default, for -help.
func Describe(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		name := f.Tag.Get("env")
		if name == "-" {
			continue
		}
		otherwise := ""
		if value := f.Tag.Get("envDefault"); value != "" {
			otherwise = " (" + value + ")"
		}
		fmt.Fprintf(table, "  %s\t%s%s\n", name, f.Tag.Get("help"), otherwise)
	}
	return table.Flush()
}
