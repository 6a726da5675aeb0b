package callback

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Store is what the function needs of the node store.
type Store interface {
	Get(ctx context.Context, id node.ID) (node.Node, error)
	Find(ctx context.Context, q node.Query) ([]node.Node, error)
	Create(ctx context.Context, n node.Node, opts ...store.Option) (node.Node, error)
	Append(ctx context.Context, events ...event.Event) error
	auth.Accounts
}

// Storage keeps the patches that come without a URL.
type Storage interface {
	Upload(ctx context.Context, path, contentType string, r io.Reader) (url string, err error)
}

// Patches asks whether a patch can be had from where people say.
type Patches interface {
	Check(ctx context.Context, link string) error
}

// Options are the parts of the function.
type Options struct {
	Config  *pipeline.Config
	Store   Store
	Storage Storage
	Patches Patches
	Auth    *auth.Auth
	Tokens  map[string]runtime.Tokens // of the labs, by the name of the runtime
	Owner   string                    // the user who owns the pipeline's nodes
	Now     func() time.Time
	Rand    io.Reader
	Log     *slog.Logger
}

// Function answers requests.
type Function struct {
	Options
	counts  counts
	holding chan struct{} // a place for each request whose patches are held
}

// New builds the function; what is missing in the options is Invalid.
func New(o Options) (http.Handler, error) {
	if o.Config == nil || o.Store == nil || o.Storage == nil || o.Patches == nil || o.Auth == nil || o.Owner == "" ||
		o.Now == nil || o.Rand == nil || o.Log == nil {
		return nil, errs.New(errs.Invalid, "callback.New: a part is missing")
	}
	f := &Function{Options: o, holding: make(chan struct{}, 2)}
	mux := http.NewServeMux()
	f.route(mux, http.MethodGet, "/api/metrics", f.counts.handler())
	f.route(mux, http.MethodPost, "/api/checkout", f.endpoint("checkout", f.checkout))
	f.route(mux, http.MethodPost, "/api/jobretry", f.endpoint("testretry", f.jobRetry))
	f.route(mux, http.MethodPost, "/api/patchset", f.endpoint("patchset", f.patchset))
	f.route(mux, http.MethodPost, "/node/{id}", http.HandlerFunc(f.lava))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { f.write(w, http.StatusNotFound, detail{"Not Found"}) })
	return f.counts.counting(mux), nil
}

// route adds one path and what other methods are told there.
func (f *Function) route(mux *http.ServeMux, method, path string, h http.Handler) {
	mux.Handle(method+" "+path, h)
	mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", method)
		f.write(w, http.StatusMethodNotAllowed, detail{"Method Not Allowed"})
	})
}

// request is one request of somebody who may make it.
type request struct {
	email  string
	body   io.Reader
	length int64 // of the body, bytes; -1: not known
}

// answer is what a request that ends well is told.
type answer struct {
	Message string     `json:"message"`
	Node    *node.Node `json:"node,omitempty"`
}

// endpoint makes a handler of do, which only who has the permission reaches.
func (f *Function) endpoint(permission string, do func(context.Context, request) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.counts.calls.Inc()
		email, err := f.permitted(r.Context(), r.Header.Get("Authorization"), permission)
		if errors.Is(err, errs.Unauthenticated) {
			f.counts.refused.Inc()
		}
		var out answer
		if err == nil {
			body := &timedBody{Reader: http.MaxBytesReader(w, r.Body, limitOf(permission)), control: http.NewResponseController(w), now: f.Now}
			out, err = recovered(func() (answer, error) {
				return do(r.Context(), request{email: email, body: body, length: r.ContentLength})
			})
		}
		if err != nil {
			f.fail(w, r, err)
			return
		}
		f.Log.InfoContext(r.Context(), "the pipeline was asked", "for", permission, "by", email)
		f.write(w, http.StatusOK, out)
	}
}

var errUnauthorized = errs.New(errs.Unauthenticated, "Unauthorized")

// nameless is the permission for which a token needs no e-mail address, as in
// KernelCI: a retry makes no node that would have to say who wanted it.
const nameless = "testretry"

// permitted returns the e-mail address of who has the permission;
// Unauthenticated.
func (f *Function) permitted(ctx context.Context, header, permission string) (string, error) {
	token := auth.FromHeader(header)
	permit, err := f.Auth.Pipeline(ctx, f.Store, token)
	if err == nil && permit.Allows(permission) && (permit.Email != "" || permission == nameless) {
		return permit.Email, nil
	}
	if err != nil && !errors.Is(err, errs.Unauthenticated) {
		return "", err
	}
	u, err := f.Auth.Authenticate(ctx, f.Store, token)
	if err != nil {
		return "", err
	}
	if !u.Superuser || u.IsJob() || u.Email == "" {
		return "", errUnauthorized
	}
	return u.Email, nil
}

// node returns the node that a body names; NotFound with KernelCI's text.
func (f *Function) node(ctx context.Context, text string) (node.Node, error) {
	id, err := node.ParseID(text)
	if err != nil {
		return node.Node{}, errs.New(errs.Invalid, "nodeid: %s", err)
	}
	n, err := f.Store.Get(ctx, id)
	if errors.Is(err, errs.NotFound) {
		return node.Node{}, errs.New(errs.NotFound, "Node not found")
	}
	return n, err
}

// maxDepth bounds the way up to the root.
const maxDepth = 32

// above finds the nearest node of that kind above n; NotFound.
func (f *Function) above(ctx context.Context, n node.Node, kind node.Kind) (node.Node, error) {
	for range maxDepth {
		if n.Parent == "" {
			break
		}
		var err error
		if n, err = f.Store.Get(ctx, n.Parent); err != nil || n.Kind == kind {
			return n, err
		}
	}
	return node.Node{}, errs.New(errs.NotFound, "nothing of kind %s is above", kind)
}

func (f *Function) newID() (node.ID, error) {
	var random [8]byte
	if _, err := io.ReadFull(f.Rand, random[:]); err != nil {
		return "", errs.Wrap(errs.Temporary, err)
	}
	return node.NewID(f.Now(), random), nil
}
