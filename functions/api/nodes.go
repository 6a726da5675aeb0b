package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// fastPatience is how long an unpaged list may take.
const fastPatience = 15 * time.Second

func (f *Function) nodeRoutes(api huma.API) {
	register(api, http.MethodGet, "/node/{id}", "One node; null when there is none", f.getNode)
	register(api, http.MethodGet, "/nodes", "A page of the nodes that the filters select (FIELD=V, FIELD__lt, lte, gt, gte, ne, re, in, nin)", f.listNodes)
	register(api, http.MethodGet, "/nodes/fast", "The same as a bare list", f.fastNodes)
	register(api, http.MethodGet, "/count", "How many nodes the filters select", f.countNodes)
	register(api, http.MethodPost, "/node", "Create a node", f.postNode, needsToken)
	register(api, http.MethodPut, "/node/{id}", "Replace a node", f.putNode, needsToken)
	register(api, http.MethodPatch, "/node/{id}", "Change fields of a node", f.patchNode, needsToken)
	register(api, http.MethodPut, "/nodes/{id}", "Update a node and create what is below it", f.putNodes, needsToken,
		func(op *huma.Operation) { op.MaxBodyBytes = 64 << 20 })
	register(api, http.MethodPut, "/batch/nodeset", "Set processed_by_kcidb_bridge of many nodes", f.putNodeset, needsToken)
}

type nodeInput struct {
	ID idInPath `path:"id"`
}

type nodeOutput struct{ Body *node.Node }

func (f *Function) getNode(ctx context.Context, in *nodeInput) (*nodeOutput, error) {
	id, err := in.ID.parse()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	n, err := f.store.Get(ctx, id)
	if errors.Is(err, errs.NotFound) {
		return &nodeOutput{}, nil
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &nodeOutput{Body: &n}, nil
}

// Filters reads a request's free query parameters.
type Filters struct{ values url.Values }

// Resolve implements huma.Resolver.
func (q *Filters) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	q.values = u.Query()
	return nil
}

func (q *Filters) query(paging ...string) (node.Query, error) {
	return node.ParseQuery(q.values, paging...)
}

type listInput struct {
	Filters
	Limit  int `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	Offset int `query:"offset" default:"0" minimum:"0"`
}

type listOutput struct {
	Body struct {
		Items  []node.Node `json:"items"`
		Total  int64       `json:"total"`
		Limit  int         `json:"limit"`
		Offset int         `json:"offset"`
	}
}

func (f *Function) listNodes(ctx context.Context, in *listInput) (*listOutput, error) {
	q, err := in.query("limit", "offset")
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	items, err := f.store.Find(ctx, q.Page(in.Limit, in.Offset))
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &listOutput{}
	out.Body.Items, out.Body.Limit, out.Body.Offset = items, in.Limit, in.Offset
	// A page that is not full is the last one: nothing needs to be counted.
	out.Body.Total = int64(in.Offset + len(items))
	if len(items) == in.Limit || len(items) == 0 && in.Offset > 0 {
		if out.Body.Total, err = f.store.Count(ctx, q); err != nil {
			return nil, f.fail(ctx, err)
		}
	}
	return out, nil
}

type fastInput struct {
	Filters
	Limit  int `query:"limit" default:"0" minimum:"0" doc:"0: all"`
	Offset int `query:"offset" default:"0" minimum:"0"`
}

func (f *Function) fastNodes(ctx context.Context, in *fastInput) (*huma.StreamResponse, error) {
	q, err := in.query("limit", "offset")
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) { f.streamNodes(ctx, hc, q.Page(in.Limit, in.Offset)) }}, nil
}

// streamNodes writes a list as it comes. Once it has begun an error can only
// be shown by breaking off, which the client sees as bad JSON.
func (f *Function) streamNodes(ctx context.Context, hc huma.Context, q node.Query) {
	ctx, cancel := context.WithTimeout(ctx, fastPatience)
	defer cancel()
	hc.SetHeader("Content-Type", "application/json")
	w, encoder := hc.BodyWriter(), json.NewEncoder(hc.BodyWriter())
	between := "["
	for n, err := range f.store.Each(ctx, q) {
		if err == nil {
			if _, err = w.Write([]byte(between)); err == nil {
				err = encoder.Encode(n)
			}
		}
		if err != nil {
			if between == "[" {
				f.failStream(ctx, hc, err)
			}
			f.log.Warn("a list of nodes broke off", "error", err)
			return
		}
		between = ","
	}
	if between == "[" {
		between = "[]"
	} else {
		between = "]"
	}
	if _, err := w.Write([]byte(between)); err != nil {
		f.log.Debug("writing a list of nodes", "error", err)
	}
}

func (f *Function) failStream(ctx context.Context, hc huma.Context, err error) {
	answer := &failure{status: http.StatusGatewayTimeout, Detail: "Request timed out"}
	if !errors.Is(err, context.DeadlineExceeded) {
		errors.As(f.fail(ctx, err), &answer)
	}
	hc.SetStatus(answer.status)
	if err := json.NewEncoder(hc.BodyWriter()).Encode(answer); err != nil {
		f.log.Debug("writing an answer", "error", err)
	}
}

type countOutput struct{ Body int64 }

func (f *Function) countNodes(ctx context.Context, in *struct{ Filters }) (*countOutput, error) {
	q, err := in.query()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	count, err := f.store.Count(ctx, q)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &countOutput{Body: count}, nil
}

// nodeBody is a node as a client sends it.
type nodeBody struct{ node.Node }

// completed gives a node from a body what the client left out, and checks it.
func (f *Function) completed(n node.Node) (node.Node, error) {
	n.SetDefaults(f.now())
	return n, checkNode(n)
}

// checkNode answers an invalid node as KernelCI does: an unknown kind with
// 400, all else with a list of faults.
func checkNode(n node.Node) error {
	if !slices.Contains(node.Kinds, n.Kind) {
		return errs.New(errs.Invalid, "Invalid kind: %.40s", n.Kind)
	}
	if err := n.Validate(); err != nil {
		return invalidBody(err)
	}
	return nil
}
