package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/kernelflow/kernelflow/shared/ending"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

// postResults takes a job's end from a machine that has no supervisor, as a form
// (see ending.Read): a shell with curl can say it, and the API makes of it
// the hierarchy that a supervisor would have sent. It is no operation of the
// description: what a form is allowed to be is for package ending to say.
func (f *Function) postResults(w http.ResponseWriter, r *http.Request) {
	n, err := f.takeResults(w, r)
	if err != nil {
		writeFailure(w, f.failed(r.Context(), err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(n) // to a client that is gone, for all we know
}

// takeResults returns the job's node as it is when its end is stored.
func (f *Function) takeResults(w http.ResponseWriter, r *http.Request) (node.Node, error) {
	ctx := withScope(r.Context(), scopeOf(r.Method, "/node"))
	u, err := f.actor(ctx, WithToken{Authorization: r.Header.Get("Authorization")})
	if err != nil {
		return node.Node{}, err
	}
	id, err := node.ParseID(r.PathValue("id"))
	if err == nil {
		err = f.mayTouch(ctx, u, id)
	}
	if err != nil {
		return node.Node{}, err
	}
	form, err := readEnding(w, r)
	if err != nil {
		return node.Node{}, err
	}
	request := form.Request()
	nodes, err := f.store.PutHierarchy(ctx, id, request, func(root *node.Node) ([]node.Node, error) {
		h, err := f.ended(u, *root, form)
		if err != nil {
			return nil, err
		}
		replace(root, h.Node, u)
		root.Updated = node.Time(f.now())
		return h.Descendants(*root, request)
	})
	if errors.Is(err, errs.Conflict) {
		return node.Node{}, errors.Join(f.leaveLog(ctx, id, form.Artifacts["log"]), err)
	}
	if err != nil {
		return node.Node{}, err
	}
	return nodes[0], nil
}

func readEnding(w http.ResponseWriter, r *http.Request) (ending.Form, error) {
	// Not every server can: then it has its own limit.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(hierarchyPatience))
	r.Body = http.MaxBytesReader(w, r.Body, maxHierarchy)
	form, err := r.MultipartReader()
	if err != nil {
		return ending.Form{}, errs.New(errs.Invalid, "the body is no multipart form: %s", err)
	}
	return ending.Read(form)
}

// ended is root as u says that its job has ended. A lab that took the job does
// not set it running: it is available until it ends.
func (f *Function) ended(u user.User, root node.Node, e ending.Form) (node.Hierarchy, error) {
	if err := mayReport(u, root); err != nil {
		return node.Hierarchy{}, err
	}
	if root.State != node.Running && root.State != node.Available {
		return node.Hierarchy{}, errs.New(errs.Conflict, "node %s is %s: its job has ended already", root.ID, root.State)
	}
	h, _ := e.Report(root, f.now())
	return h, checkNode(h.Node)
}

// errLogged ends an update of a node that has a log.
var errLogged = errors.New("has a log already")

// leaveLog adds the log to a node that somebody else has ended, unless it has
// one.
func (f *Function) leaveLog(ctx context.Context, id node.ID, link string) error {
	if link == "" {
		return nil
	}
	_, err := f.store.Update(ctx, id, func(n *node.Node) error {
		if n.Artifacts["log"] != "" {
			return errLogged
		}
		n.Artifacts = maps.Clone(n.Artifacts)
		if n.Artifacts == nil {
			n.Artifacts = map[string]string{}
		}
		n.Artifacts["log"] = link
		return checkNode(*n)
	}, store.Silent)
	if errors.Is(err, errLogged) {
		return nil
	}
	return err
}
