package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

func (f *Function) nodeRoutes(api huma.API) {
	register(api, http.MethodGet, "/node/{id}", "One node; null when there is none", f.getNode)
	register(api, http.MethodGet, "/nodes", "A page of the nodes that the filters select, oldest first", f.listNodes, filtered)
	register(api, http.MethodGet, "/nodes/fast", "The same as a bare list", f.fastNodes, filtered, returns[[]node.Node])
	register(api, http.MethodGet, "/count", "How many nodes the filters select", f.countNodes, filtered)
	register(api, http.MethodPost, "/node", "Create a node", f.postNode, needsToken, answers(http.StatusNotFound))
	register(api, http.MethodPut, "/node/{id}", "Replace a node", f.putNode, needsToken)
	register(api, http.MethodPatch, "/node/{id}", "Change fields of a node", f.patchNode, needsToken)
	register(api, http.MethodPut, "/nodes/{id}", "Update a node and create what is below it", f.putNodes, needsToken,
		func(op *huma.Operation) { op.MaxBodyBytes, op.BodyReadTimeout = maxHierarchy, hierarchyPatience })
	register(api, http.MethodPut, "/batch/nodeset", "Set processed_by_kcidb_bridge of many nodes; those that the account may not edit are left out",
		f.putNodeset, needsToken, answers(http.StatusNotFound))
}

type nodeInput struct {
	ID idIn `path:"id"`
}

type nodeOutput struct{ Body *node.Node }

// maybeNode is a node, or null.
type maybeNode struct{ node *node.Node }

// MarshalJSON implements json.Marshaler.
func (m maybeNode) MarshalJSON() ([]byte, error) { return json.Marshal(m.node) }

// Schema implements huma.SchemaProvider.
func (maybeNode) Schema(registry huma.Registry) *huma.Schema {
	return orNull[node.Node]{}.Schema(registry)
}

type maybeNodeOutput struct{ Body maybeNode }

func (f *Function) getNode(ctx context.Context, in *nodeInput) (*maybeNodeOutput, error) {
	id, err := in.ID.parse()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	n, err := f.store.Get(ctx, id)
	if errors.Is(err, errs.NotFound) {
		return &maybeNodeOutput{}, nil
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &maybeNodeOutput{Body: maybeNode{&n}}, nil
}

// newNodeBody is a node as a client creates it.
type newNodeBody struct{ node.Node }

// nodeBody is a node as a client sends it back.
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
		return errs.New(errs.Invalid, "Unsupported node kind: %.40s", n.Kind)
	}
	if err := n.Validate(); err != nil {
		return invalidBody(err)
	}
	return nil
}
