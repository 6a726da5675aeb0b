package callback

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/lavaresult"
	"github.com/kernelflow/kernelflow/shared/node"
)

// maxCallback is how long a callback of a lab may be, bytes. What is longer is
// found by polling, if at all.
const maxCallback = 256 << 20

// lava takes the callback of a lab, for the job of a node.
func (f *Function) lava(w http.ResponseWriter, r *http.Request) {
	f.counts.callbacks.Inc()
	_, err := recovered(func() (answer, error) { return answer{}, f.takeCallback(w, r) })
	if errors.Is(err, errs.Unauthenticated) {
		f.counts.strangers.Inc()
	}
	if err != nil {
		f.fail(w, r, err)
		return
	}
	f.write(w, http.StatusAccepted, answer{Message: "OK"})
}

func (f *Function) takeCallback(w http.ResponseWriter, r *http.Request) error {
	labs, err := f.labs(r.Header.Get("Authorization"))
	if err != nil {
		return err
	}
	ctx := r.Context()
	n, err := f.node(ctx, r.PathValue("id"))
	if err != nil {
		return err
	}
	if !slices.Contains(labs, n.Text("runtime")) {
		return errs.New(errs.Denied, "the node's job runs in another lab")
	}
	if n.State == node.Done && !n.Late() {
		f.Log.InfoContext(ctx, "callback of a job that has ended", "node", n.ID)
		return nil
	}
	body := &timedBody{Reader: http.MaxBytesReader(w, r.Body, maxCallback), control: http.NewResponseController(w), now: f.Now}
	head, path, err := f.keepCallback(ctx, n, body)
	if err != nil {
		return err
	}
	f.Log.InfoContext(ctx, "callback taken", "node", n.ID, "runtime", n.Text("runtime"), "job_id", head.Job, "status", head.Status)
	return f.announce(ctx, n, head, path)
}

// labs returns the runtimes whose token this is. All tokens are compared, so that
// the time says nothing.
func (f *Function) labs(token string) ([]string, error) {
	if len(f.Tokens) == 0 {
		f.Log.Error("a callback came, and no runtime has a token: see KCI_SETTINGS")
	}
	given := sha256.Sum256([]byte(token))
	var found []string
	for name, of := range f.Tokens {
		for _, secret := range []string{of.Callback, of.Runtime} {
			want := sha256.Sum256([]byte(secret))
			if same := subtle.ConstantTimeCompare(given[:], want[:]) == 1; same && secret != "" {
				found = append(found, name)
			}
		}
	}
	if token == "" || len(found) == 0 {
		return nil, errUnauthorized
	}
	return found, nil
}

// keepCallback streams the body into the storage, packed and without secrets. A
// body that is not good leaves nothing there.
func (f *Function) keepCallback(ctx context.Context, n node.Node, body io.Reader) (head lavaresult.Head, path string, err error) {
	of := f.Tokens[n.Text("runtime")]
	r, w := io.Pipe()
	copied := make(chan error, 1)
	go func() {
		packed, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is a good one
		var err error
		head, err = lavaresult.Copy(packed, body, of.Callback, of.Runtime)
		if known := n.Text("job_id"); err == nil && known != "" && known != head.Job {
			err = errs.New(errs.Conflict, "the node's job is %s in its lab, not %s", known, head.Job)
		}
		if err == nil {
			err = packed.Close()
		}
		_ = w.CloseWithError(err) // always nil; without an error, the end of the file
		copied <- err
	}()
	path = string(n.ID) + "/" + lavaresult.CallbackFile
	_, err = f.Storage.Upload(ctx, path, "application/gzip", r)
	_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // who copies on is told
	if fault := <-copied; err == nil || errs.KindOf(fault) != nil || isTooLarge(fault) {
		err = fault
	}
	if errors.Is(err, errs.Invalid) {
		err = errs.New(errs.Invalid, "Error decoding JSON: %s", err)
	}
	return head, path, err
}

func isTooLarge(err error) bool {
	var large *http.MaxBytesError
	return errors.As(err, &large)
}

// space is the namespace of the ids of events about callbacks: a UUID of this
// project's own, made once.
var space = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/kernelflow/kernelflow/callback"))

// announce has the results function take the callback up. The event's id follows
// from the job, so that the same callback is never two events.
func (f *Function) announce(ctx context.Context, n node.Node, head lavaresult.Head, path string) error {
	data, err := json.Marshal(lavaresult.Kept{Node: n.ID, Job: head.Job, Path: path})
	if err != nil {
		return err
	}
	err = f.Store.Append(ctx, event.Event{
		ID:      uuid.NewSHA1(space, []byte(string(n.ID)+"/"+head.Job)).String(),
		Channel: event.ChannelCallback, Type: event.DefaultType, Source: event.DefaultSource,
		Time: node.Time(f.Now()), Owner: f.Owner, TreeID: n.TreeID, Data: data,
	})
	if err != nil {
		return fmt.Errorf("callback for %s: %w", n.ID, err)
	}
	return nil
}
