package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

type newNodeInput struct {
	WithToken
	Body newNodeBody
}

// Change is what every change of a node has.
type Change struct {
	WithToken
	ID      idIn `path:"id"`
	NoEvent bool `query:"noevent" default:"false" doc:"tell nobody"`
}

type replaceInput struct {
	Change
	Body nodeBody
}

type patchInput struct {
	Change
	Body patch
}

const (
	maxHierarchy      = 64 << 20        // bytes of a hierarchy
	hierarchyPatience = 2 * time.Minute // for a client to send it
)

// hierarchyBody is a hierarchy as a client sends it.
type hierarchyBody struct{ node.Hierarchy }

type hierarchyInput struct {
	Change
	Body    hierarchyBody
	RawBody []byte
}

func (in *Change) options() []store.Option {
	if in.NoEvent {
		return []store.Option{store.Silent}
	}
	return nil
}

func (f *Function) postNode(ctx context.Context, in *newNodeInput) (*nodeOutput, error) {
	u, err := f.actor(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	n, err := f.completed(in.Body.Node)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	n, err = f.create(ctx, u, n)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &nodeOutput{Body: &n}, nil
}

func (f *Function) create(ctx context.Context, u user.User, n node.Node) (node.Node, error) {
	var parent node.Node
	var err error
	if n.ID != "" {
		return n, errs.New(errs.Invalid, "Object cannot be created with id: %s", n.ID)
	}
	if n.Parent != "" {
		parent, err = f.store.Get(ctx, n.Parent)
		if errors.Is(err, errs.NotFound) {
			return n, errs.New(errs.NotFound, "Parent not found with id: %s", n.Parent)
		}
		if err != nil {
			return n, err
		}
		if n.TreeID == "" {
			n.TreeID = parent.TreeID
		}
	}
	if !u.MayCreate(parent) {
		return n, errUnauthorized
	}
	if _, err := f.groupsNamed(ctx, n.UserGroups); err != nil {
		return n, err
	}
	n.Owner = u.Username
	if u.IsJob() {
		n.Owner = parent.Owner
	}
	if n.ID, err = f.newID(); err != nil {
		return n, err
	}
	return f.store.Create(ctx, n)
}

// update changes a node on behalf of whoever asks, who must have the right to.
func (f *Function) update(ctx context.Context, in *Change, change func(u user.User, n *node.Node) error) (*nodeOutput, error) {
	u, err := f.actor(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	id, err := in.ID.parse()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	n, err := f.store.Update(ctx, id, func(n *node.Node) error {
		if !u.MayEdit(*n) {
			return errNoEditor
		}
		from := n.State
		if err := change(u, n); err != nil {
			return err
		}
		return node.CheckTransition(from, n.State)
	}, in.options()...)
	if errors.Is(err, errs.NotFound) {
		err = errs.New(errs.NotFound, "Node not found with id: %s", id)
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &nodeOutput{Body: &n}, nil
}

// errNoEditor answers whoever may not change a node.
var errNoEditor = plain(http.StatusUnauthorized, "Unauthorized to complete the operation")

// mayReport says whether u may change n now: a job may until it has ended. What
// it may do then is to leave what n lacks: see onlyAdds and mayUpload.
func mayReport(u user.User, n node.Node) error {
	if !u.MayEdit(n) {
		return errNoEditor
	}
	if u.IsJob() && n.State != node.Running {
		return errs.New(errs.Conflict, "node %s is %s: its job has ended already", n.ID, n.State)
	}
	return nil
}

func (f *Function) putNode(ctx context.Context, in *replaceInput) (*nodeOutput, error) {
	n, err := f.completed(in.Body.Node)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return f.update(ctx, &in.Change, func(u user.User, old *node.Node) error {
		if err := mayReport(u, *old); err != nil {
			return err
		}
		replace(old, n, u)
		return ownParent(*old)
	})
}

func ownParent(n node.Node) error {
	if n.Parent == n.ID {
		return errs.New(errs.Invalid, "Parent cannot be the same as the object")
	}
	return nil
}

// immutable are the keys of a node's data that a job's token cannot change:
// they say what the job is for, and who may edit the node.
var immutable = []string{"kernel_revision", "runtime", "platform", "job_id", "regression"}

// replace puts n in the place of old, but for what never changes. After any
// change KCIDB must be told again, so that its mark stands only where the
// request itself sets it, and not together with another state.
func replace(old *node.Node, n node.Node, u user.User) {
	n = n.Clone()
	n.ID, n.Created = old.ID, old.Created
	n.Owner, n.Submitter, n.UserGroups = old.Owner, old.Submitter, old.UserGroups
	n.KCIDBProcessed = n.KCIDBProcessed && !old.KCIDBProcessed && n.State == old.State
	if u.IsJob() {
		n.Kind, n.Name, n.Path, n.Group, n.Parent = old.Kind, old.Name, old.Path, old.Group, old.Parent
		n.TreeID, n.RetryCounter, n.Timeout = old.TreeID, old.RetryCounter, old.Timeout
		n.JobFilter, n.PlatformFilter = old.JobFilter, old.PlatformFilter
		for _, key := range immutable {
			if v, ok := old.Data[key]; ok {
				n.Set(key, v)
			} else {
				delete(n.Data, key)
			}
		}
		n.Artifacts = both(old.Artifacts, n.Artifacts)
	}
	*old = n
}

// both are the artifacts that a job's node has and those that the job names, which
// come first. The scheduler may have added one since the job read its node.
func both(has, named map[string]string) map[string]string {
	all := maps.Clone(has)
	if all == nil {
		return named
	}
	maps.Copy(all, named)
	return all
}

// patch is the body of a PATCH: what is absent stays.
type patch struct {
	State          *node.State        `json:"state"`
	Result         json.RawMessage    `json:"result"`
	Artifacts      *map[string]string `json:"artifacts"`
	Data           *map[string]any    `json:"data"`
	Debug          *map[string]any    `json:"debug"`
	JobFilter      json.RawMessage    `json:"jobfilter"`
	PlatformFilter *[]string          `json:"platform_filter"`
	Timeout        *string            `json:"timeout"`
	Holdoff        json.RawMessage    `json:"holdoff"`
	KCIDBProcessed *bool              `json:"processed_by_kcidb_bridge"`
}

func (f *Function) patchNode(ctx context.Context, in *patchInput) (*nodeOutput, error) {
	p := &in.Body
	if p.empty() {
		return nil, plain(http.StatusBadRequest, "No fields to update")
	}
	return f.update(ctx, &in.Change, func(u user.User, n *node.Node) error {
		if err := mayReport(u, *n); err != nil && !p.onlyAdds(*n) {
			return err
		}
		before := n.Clone()
		if err := p.apply(n); err != nil {
			return err
		}
		if u.IsJob() {
			patched := n.Clone()
			*n = before
			replace(n, patched, u)
		}
		return checkNode(*n)
	})
}

// UnmarshalJSON refuses null where it means neither a value nor nothing.
func (p *patch) UnmarshalJSON(b []byte) error {
	type fields patch
	if err := json.Unmarshal(b, (*fields)(p)); err != nil {
		return err
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(b, &given); err != nil {
		return err
	}
	for _, key := range []string{"state", "artifacts", "data", "debug", "platform_filter", "timeout", "processed_by_kcidb_bridge"} {
		if raw, ok := given[key]; ok && isNull(raw) {
			return inBody(key, "must not be null")
		}
	}
	return nil
}

func (p *patch) empty() bool {
	return p.State == nil && p.Result == nil && p.Artifacts == nil && p.Data == nil && p.Debug == nil && p.JobFilter == nil &&
		p.PlatformFilter == nil && p.Timeout == nil && p.Holdoff == nil && p.KCIDBProcessed == nil
}

// onlyAdds says whether p gives n artifacts that it lacks and changes nothing
// else. A job whose node somebody else has ended, the timeout function for
// example, may do that, so that its log is not lost.
func (p *patch) onlyAdds(n node.Node) bool {
	if p.Artifacts == nil {
		return false
	}
	others := *p
	others.Artifacts = nil
	for name, link := range n.Artifacts {
		if (*p.Artifacts)[name] != link {
			return false
		}
	}
	return others.empty()
}

func (p *patch) apply(n *node.Node) error {
	set(&n.State, p.State)
	set(&n.Artifacts, p.Artifacts)
	set(&n.Data, p.Data)
	set(&n.Debug, p.Debug)
	set(&n.PlatformFilter, p.PlatformFilter)
	set(&n.KCIDBProcessed, p.KCIDBProcessed)
	if p.Timeout != nil {
		if err := setTime("timeout", &n.Timeout, *p.Timeout); err != nil {
			return err
		}
	}
	for _, field := range []struct {
		name string
		raw  json.RawMessage
		put  func(json.RawMessage) error
	}{
		{"result", p.Result, func(b json.RawMessage) error { n.Result = ""; return json.Unmarshal(b, &n.Result) }},
		{"jobfilter", p.JobFilter, func(b json.RawMessage) error { n.JobFilter = nil; return json.Unmarshal(b, &n.JobFilter) }},
		{"holdoff", p.Holdoff, func(b json.RawMessage) error { return putTime(b, &n.Holdoff) }},
	} {
		if field.raw == nil {
			continue
		}
		if err := field.put(field.raw); err != nil {
			return invalidBody(errs.New(errs.Invalid, "%s: %s", field.name, err))
		}
	}
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func setTime(field string, to *time.Time, text string) error {
	parsed, err := node.ParseTime(text)
	if err != nil {
		return invalidBody(errs.New(errs.Invalid, "%s: %s", field, err))
	}
	*to = parsed
	return nil
}

// putTime reads a time or null.
func putTime(b json.RawMessage, to *time.Time) error {
	if isNull(b) {
		*to = time.Time{}
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	parsed, err := node.ParseTime(text)
	*to = parsed
	return err
}

type listOfNodes struct{ Body []node.Node }

// putNodes takes a hierarchy. The same body sent again is the same request.
func (f *Function) putNodes(ctx context.Context, in *hierarchyInput) (*listOfNodes, error) {
	u, err := f.actor(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	id, err := in.ID.parse()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	h := in.Body.Hierarchy
	if h.Node, err = f.completed(h.Node); err != nil {
		return nil, f.fail(ctx, err)
	}
	if err := f.mayTouch(ctx, u, id); err != nil {
		return nil, f.fail(ctx, err)
	}
	sum := sha256.Sum256(in.RawBody)
	request := hex.EncodeToString(sum[:16])
	nodes, err := f.store.PutHierarchy(ctx, id, request, func(root *node.Node) ([]node.Node, error) {
		if err := mayReport(u, *root); err != nil {
			return nil, err
		}
		if err := node.CheckTransition(root.State, h.Node.State); err != nil {
			return nil, err
		}
		replace(root, h.Node, u)
		if err := ownParent(*root); err != nil {
			return nil, err
		}
		root.Updated = node.Time(f.now())
		return h.Descendants(*root, request)
	}, in.options()...)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &listOfNodes{Body: nodes}, nil
}

// mayTouch checks the right before anything is told of the node, also where
// the request was committed before and is only answered again.
func (f *Function) mayTouch(ctx context.Context, u user.User, id node.ID) error {
	n, err := f.store.Get(ctx, id)
	if errors.Is(err, errs.NotFound) {
		return errs.New(errs.NotFound, "Node not found with id: %s", id)
	}
	if err == nil && !u.MayEdit(n) {
		return errNoEditor
	}
	return err
}

type nodesetInput struct {
	WithToken
	Body struct {
		Nodes []idIn   `json:"nodes" maxItems:"10000"`
		Field settable `json:"field"`
		Value string   `json:"value" enum:"true,True,false,False"`
	}
}

// settable is the field that many nodes can have set at once.
type settable string

const processed settable = "processed_by_kcidb_bridge"

// Schema implements huma.SchemaProvider. Another field is answered with 400.
func (settable) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Extensions: map[string]any{"enum": []settable{processed}}}
}

// putNodeset changes nothing unless every node exists.
func (f *Function) putNodeset(ctx context.Context, in *nodesetInput) (*countOutput, error) {
	u, err := f.actor(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	if in.Body.Field != processed {
		return nil, plain(http.StatusBadRequest, "Field not supported")
	}
	mine, err := f.editable(ctx, u, in.Body.Nodes)
	if err == nil {
		err = f.store.MarkProcessed(ctx, mine, strings.EqualFold(in.Body.Value, "true"))
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &countOutput{Body: int64(len(mine))}, nil
}

// editableBatch is how many nodes are asked for at once.
const editableBatch = 500

// editable returns those of the nodes that u may edit; NotFound unless all
// exist.
func (f *Function) editable(ctx context.Context, u user.User, given []idIn) ([]node.ID, error) {
	ids, values := make([]node.ID, len(given)), make([]any, len(given))
	for i, text := range given {
		id, err := text.parse()
		if err != nil {
			return nil, err
		}
		ids[i], values[i] = id, id
	}
	may := map[node.ID]bool{} // of those that exist
	for part := range slices.Chunk(values, editableBatch) {
		for n, err := range f.store.Each(ctx, node.Where("id", part...)) {
			if err != nil {
				return nil, err
			}
			may[n.ID] = u.MayEdit(n)
		}
	}
	for _, id := range ids {
		if _, exists := may[id]; !exists {
			return nil, errs.New(errs.NotFound, "Node not found with id: %s", id)
		}
	}
	return slices.DeleteFunc(ids, func(id node.ID) bool { return !may[id] }), nil
}
