package api

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/bus"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/mail"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Store is what the API needs of the store.
type Store interface {
	store.Reader
	store.Pages
	store.Tallies
	store.Writer
	store.Events
	store.Subscriptions
	store.Claims
	store.Users
	store.Groups
	store.Tokens
	store.DeadLetters
	store.Telemetry
	store.Decisions
	store.KV
	store.Batch
	Ping(ctx context.Context) error
}

// Watch finds the events of a listener.
type Watch interface {
	// Look returns the first event behind seen that passes the filter, nil
	// when there is none yet, and how far it has looked.
	Look(ctx context.Context, seen int64, f event.Filter) (found *event.Event, looked int64, err error)
	// Next is Look, but waits for the event until ctx ends.
	Next(ctx context.Context, seen int64, f event.Filter) (found *event.Event, looked int64, err error)
}

// Options are the parts that the API is made of.
type Options struct {
	Store     Store
	Watch     Watch
	Bus       bus.Bus
	Storage   storage.Storage
	Auth      *auth.Auth
	Mail      mail.Sender         // of invites and the like; nil: none are sent
	MailFrom  string              // their sender
	URL       string              // where people reach the API; "": as the client has called it
	Logins    LoginLimits         // zero: 10 by account and 50 by address in 5 minutes
	KeepAlive time.Duration       // between two signs of life to a listener; 0: 45 s
	PopWait   time.Duration       // for an item of a list; 0: 30 s
	Patience  time.Duration       // for a list of nodes; 0: 15 s
	Slowness  time.Duration       // for a client to send a request and take its answer, beside the above; 0: 2 min
	BodyTime  time.Duration       // for a client to send a body; 0: 30 s, 2 min for a hierarchy
	MaxUpload int64               // bytes of an artifact; 0: 4 GiB
	Metrics   prometheus.Gatherer // what is shown beside its own; nil: nothing
	Now       func() time.Time
	Rand      io.Reader
	Log       *slog.Logger
}

// Function answers requests.
type Function struct {
	store     Store
	watch     Watch
	bus       bus.Bus
	storage   storage.Storage
	auth      *auth.Auth
	mail      mail.Sender
	mailFrom  string
	mailing   chan struct{} // holds a place for each mail under way
	url       string
	limits    LoginLimits
	keepAlive time.Duration
	popWait   time.Duration
	metrics   prometheus.Gatherer
	patience  time.Duration
	slowness  time.Duration
	bodyTime  time.Duration
	maxUpload int64
	unpacking chan struct{} // an archive each
	now       func() time.Time
	rand      io.Reader
	log       *slog.Logger
	counts    counts
	dashboard keptPages
	stats     keptPages
	analytics keptPages
	waiting   atomic.Int64 // listeners
	underWay  deliveries
}

// New builds the function; what is missing in the options is Invalid.
func New(o Options) (http.Handler, error) {
	if o.Store == nil || o.Watch == nil || o.Bus == nil || o.Storage == nil || o.Auth == nil || o.Now == nil || o.Rand == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "api.New: a part is missing")
	}
	f := &Function{
		store: o.Store, watch: o.Watch, bus: o.Bus, storage: o.Storage, auth: o.Auth,
		mail: o.Mail, mailFrom: o.MailFrom, mailing: make(chan struct{}, maxMailing), url: strings.TrimRight(o.URL, "/"), limits: o.Logins,
		keepAlive: o.KeepAlive, popWait: o.PopWait, patience: cmp.Or(o.Patience, listPatience),
		slowness: cmp.Or(o.Slowness, slowness), bodyTime: o.BodyTime, maxUpload: o.MaxUpload, metrics: o.Metrics, now: o.Now, rand: o.Rand, log: o.Log,
		unpacking: make(chan struct{}, maxUnpacking), dashboard: newKeptPages(), stats: newKeptPages(), analytics: newKeptPages(),
		underWay: deliveries{of: map[int64]*delivering{}},
	}
	if f.keepAlive <= 0 {
		f.keepAlive = 45 * time.Second
	}
	// Less than the minute after which KernelCI's client hangs up: an item that
	// is taken for one who has gone is lost.
	if f.popWait <= 0 {
		f.popWait = 30 * time.Second
	}
	if f.limits == (LoginLimits{}) {
		f.limits = defaultLimits
	}
	if f.maxUpload <= 0 {
		f.maxUpload = 4 << 30
	}
	return f.routes(), nil
}

func (f *Function) routes() http.Handler {
	versioned := newRouter()
	bodies := &reader{newRegistry(), map[reflect.Type]*huma.Schema{}}
	api := humago.New(versioned, settings(bodies))
	api.UseMiddleware(alwaysJSON, f.authenticate, asDescribed)
	f.userRoutes(api)
	f.nodeRoutes(api)
	f.eventRoutes(api)
	f.queueRoutes(api)
	f.deadLetterRoutes(api)
	f.kvRoutes(api)
	f.telemetryRoutes(api)
	f.scheduleRoutes(api)
	f.pageRoutes(api)
	bodies.learn(api.OpenAPI())
	if f.bodyTime > 0 {
		for op := range operations(api.OpenAPI()) {
			op.BodyReadTimeout = f.bodyTime
		}
	}
	versioned.HandleFunc("POST /node/{id}/results", f.postResults)
	measured := f.healthRoutes(versioned)
	docsRoutes(versioned, api.OpenAPI())
	versioned.close()

	mux := http.NewServeMux()
	f.storageRoutes(mux)
	mux.Handle("/", withVersion(versioned))
	return f.bounded(measured(f.recovering(mux)))
}

// slowness is how long a client may take to send a request and to take its
// answer, beside what the longest route waits by itself.
const slowness = 2 * time.Minute

// bounded cuts off who is too slow, but where files are sent.
func (f *Function) bounded(next http.Handler) http.Handler {
	longest := f.slowness + max(f.keepAlive, f.popWait, f.patience)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		end := time.Now().Add(longest)
		if strings.HasPrefix(r.URL.Path, "/storage/") {
			end = time.Time{} // also of a request before on this connection
		}
		connection := http.NewResponseController(w)
		// Not every server can: then it has its own limits.
		_, _ = connection.SetReadDeadline(end), connection.SetWriteDeadline(end)
		next.ServeHTTP(w, r)
	})
}

// settings is how huma reads requests and what the description says of all
// routes. The pages with the description are our own: see docs.go.
func settings(bodies *reader) huma.Config {
	config := huma.DefaultConfig("Kernelflow: the KernelCI API", "0")
	config.CreateHooks = nil // no $schema in what we send: clients of KernelCI do not expect it
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.Formats, config.DefaultFormat = bodies.formats(), "application/json"
	config.AllowAdditionalPropertiesByDefault = true // as KernelCI: what is not known is ignored
	config.Components = &huma.Components{
		Schemas: bodies.schemas,
		SecuritySchemes: map[string]*huma.SecurityScheme{
			"token":    {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
			"password": {Type: "oauth2", Flows: &huma.OAuthFlows{Password: &huma.OAuthFlow{TokenURL: "user/login", Scopes: map[string]string{}}}},
		},
	}
	return config
}

// alwaysJSON makes answers JSON whatever a client would rather have: forms are
// a format too, but of bodies only.
func alwaysJSON(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	r.Header.Del("Accept")
	next(ctx)
}

var otherVersion = regexp.MustCompile(`^/(v[0-9.]+)(/|$)`)

// withVersion takes the version off the path: /latest/x and /v0/x are x.
func withVersion(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, prefix := range []string{"/latest", "/v0"} {
			if rest, ok := strings.CutPrefix(r.URL.Path, prefix); ok && (rest == "" || rest[0] == '/') {
				http.StripPrefix(prefix, next).ServeHTTP(w, rooted(r, prefix))
				return
			}
		}
		if m := otherVersion.FindStringSubmatch(r.URL.Path); m != nil {
			http.Error(w, "Unsupported API version: "+m[1], http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// rooted makes "/latest" mean "/latest/".
func rooted(r *http.Request, prefix string) *http.Request {
	if r.URL.Path != prefix {
		return r
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = prefix+"/", ""
	return r
}

func (f *Function) newID() (node.ID, error) {
	var random [8]byte
	if _, err := io.ReadFull(f.rand, random[:]); err != nil {
		return "", errs.Wrap(errs.Temporary, err)
	}
	return node.NewID(f.now(), random), nil
}

func (f *Function) newUUID() (string, error) {
	id, err := uuid.NewRandomFromReader(f.rand)
	return id.String(), errs.Wrap(errs.Temporary, err)
}
