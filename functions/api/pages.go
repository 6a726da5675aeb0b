package api

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// What the pages show at most.
const (
	shownChildren  = 200
	shownAncestors = 32
	shownOfTree    = 100 // nodes on a page
	shownCheckouts = 50
)

// shownData are the keys of data that say what a node is about and went wrong.
var shownData = []string{"arch", "defconfig", "compiler", "platform", "runtime", "job_id", "error_code", "error_msg"}

//go:embed pages.html.tmpl manage.html.tmpl
var pageFiles embed.FS

var pages = template.Must(template.New("pages").Funcs(template.FuncMap{"web": isWeb, "utc": utc, "number": parted, "tells": tellsOf}).ParseFS(pageFiles, "*.html.tmpl"))

func isWeb(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func utc(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func (f *Function) pageRoutes(api huma.API) {
	register(api, http.MethodGet, "/viewer", "A page of a node, or of the nodes of a tree", f.showViewer, asPage,
		failsAsPage(http.StatusBadRequest, http.StatusNotFound), answers(http.StatusGatewayTimeout))
	register(api, http.MethodGet, "/dashboard", "A page of the newest checkouts", f.showDashboard, asPage, answers(http.StatusGatewayTimeout))
	register(api, http.MethodGet, "/stats", "A page that counts the nodes of some days", f.showStats, asPage,
		failsAsPage(http.StatusBadRequest), answers(http.StatusGatewayTimeout))
	register(api, http.MethodGet, "/analytics", "A page of how often jobs and tests passed, and of what stands out", f.showAnalytics, asPage,
		failsAsPage(http.StatusBadRequest), answers(http.StatusGatewayTimeout))
	register(api, http.MethodGet, "/manage", "A page to manage tokens and accounts on", f.showManage, asPage)
	register(api, http.MethodGet, "/manage.js", "The script of that page", f.sendManageScript, asScript)
}

// failsAsPage describes failures that are pages too.
func failsAsPage(statuses ...int) func(*huma.Operation) {
	return func(op *huma.Operation) {
		for _, status := range statuses {
			op.Responses[strconv.Itoa(status)] = &huma.Response{
				Description: http.StatusText(status),
				Content:     map[string]*huma.MediaType{htmlType: {Schema: &huma.Schema{Type: huma.TypeString}}},
			}
		}
	}
}

// askedID is the id of a node, or nothing from a form that was left empty.
type askedID string

// Schema implements huma.SchemaProvider.
func (askedID) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: "24 hex digits", Extensions: map[string]any{"pattern": "^([0-9a-fA-F]{24})?$"}}
}

type viewerInput struct {
	NodeID askedID `query:"node_id"`
	TreeID string  `query:"treeid" maxLength:"200" doc:"where no node_id is given"`
	After  string  `query:"after" maxLength:"200" doc:"where the page of a tree begins"`
}

// showViewer shows a node, the nodes of a tree, or a form for either's id.
func (f *Function) showViewer(ctx context.Context, in *viewerInput) (*pageOutput, error) {
	patience, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	switch {
	case in.NodeID != "":
		view, err := f.viewNode(patience, string(in.NodeID))
		return f.draw(ctx, "node", view, err)
	case in.TreeID != "":
		view, err := f.viewTree(patience, in)
		return f.draw(ctx, "tree", view, err)
	}
	return f.draw(ctx, "ask", nil, nil)
}

// draw makes a page, or one that says what is wrong with the request.
func (f *Function) draw(ctx context.Context, name string, view any, err error) (*pageOutput, error) {
	status := errs.Status(err)
	switch status {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusNotFound:
		name, view = "sorry", struct{ Title, Reason string }{http.StatusText(status), err.Error()}
	default:
		return nil, f.failList(ctx, err)
	}
	var content bytes.Buffer
	if err := pages.ExecuteTemplate(&content, name, view); err != nil {
		return nil, f.fail(ctx, err)
	}
	page := newPage(content.Bytes(), "form-action 'self'")
	page.Status = status
	return page, nil
}

// nodeView is a node and what is around it.
type nodeView struct {
	node.Node
	Ancestors []node.Node // the top one first
	Cut       bool        // there are more above
	Kernel    *node.Revision
	Fields    []fieldView
	Children  []node.Node // the oldest first
	More      int64       // children that are not shown
}

// fieldView is something that data says; Node when it is the id of one.
type fieldView struct {
	Name, Text string
	Node       bool
}

func (f *Function) viewNode(ctx context.Context, text string) (*nodeView, error) {
	id, err := node.ParseID(text)
	if err != nil {
		return nil, err
	}
	n, err := f.store.Get(ctx, id)
	if errors.Is(err, errs.NotFound) {
		return nil, errs.New(errs.NotFound, "no node has the id %s, or it was removed", id)
	}
	if err != nil {
		return nil, err
	}
	view := &nodeView{Node: n, Kernel: kernelOf(n), Fields: fieldsOf(n)}
	if err := f.climb(ctx, view); err != nil {
		return nil, err
	}
	below := node.Where("parent", id)
	children, next, err := f.store.Page(ctx, below.Page(shownChildren, 0))
	if err != nil {
		return nil, err
	}
	view.Children = children
	if next != "" {
		all, err := f.counts.count(ctx, f, below)
		if err != nil {
			return nil, err
		}
		view.More = max(0, all-int64(len(children)))
	}
	return view, nil
}

// climb finds what is above a node, as far as it is still there.
func (f *Function) climb(ctx context.Context, view *nodeView) error {
	parent := view.Parent
	for parent != "" && len(view.Ancestors) < shownAncestors {
		n, err := f.store.Get(ctx, parent)
		if errors.Is(err, errs.NotFound) {
			break
		}
		if err != nil {
			return err
		}
		view.Ancestors, parent = append(view.Ancestors, n), n.Parent
	}
	slices.Reverse(view.Ancestors)
	view.Cut = parent != ""
	return nil
}

func kernelOf(n node.Node) *node.Revision {
	if r, ok := n.Revision(); ok {
		return &r
	}
	return nil
}

func fieldsOf(n node.Node) []fieldView {
	var fields []fieldView
	for _, key := range slices.Concat(shownData, node.IDKeys) {
		if text := textOf(n.Data[key]); text != "" {
			fields = append(fields, fieldView{Name: key, Text: text, Node: slices.Contains(node.IDKeys, key)})
		}
	}
	return fields
}

func textOf(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// treeView is a page of a tree's nodes.
type treeView struct {
	*nodePage
	TreeID string
}

func (f *Function) viewTree(ctx context.Context, in *viewerInput) (*treeView, error) {
	q, err := node.ParseQuery(url.Values{"treeid": {in.TreeID}})
	if err != nil {
		return nil, err
	}
	page, err := f.page(ctx, q, &listInput{Limit: shownOfTree, After: in.After})
	if err != nil {
		return nil, err
	}
	return &treeView{page, in.TreeID}, nil
}

// showDashboard shows the newest checkouts.
func (f *Function) showDashboard(ctx context.Context, _ *struct{}) (*pageOutput, error) {
	return f.dashboard.show(ctx, f, "", func(patience context.Context) (*pageOutput, error) {
		view, err := f.viewDashboard(patience)
		return f.draw(ctx, "dashboard", view, err)
	})
}

type dashboardView struct {
	Now       time.Time
	Checkouts []checkoutView // the newest first
}

// checkoutView is a checkout and how what it caused went.
type checkoutView struct {
	node.Node
	Kernel *node.Revision
	Age    string
	outcome
}

type outcome struct{ Builds, Jobs []resultCount }

// resultCount is how many there are of one result.
type resultCount struct {
	Result node.Result
	Count  int64
}

func (f *Function) viewDashboard(ctx context.Context) (*dashboardView, error) {
	checkouts, _, err := f.store.Page(ctx, node.Query{Newest: true, Limit: shownCheckouts}.And("kind", node.KindCheckout))
	if err != nil {
		return nil, err
	}
	below, err := f.outcomes(ctx, checkouts)
	if err != nil {
		return nil, err
	}
	view := &dashboardView{Now: f.now()}
	for _, n := range checkouts {
		view.Checkouts = append(view.Checkouts, checkoutView{n, kernelOf(n), age(view.Now.Sub(n.Created)), below[n.TreeID]})
	}
	return view, nil
}

// outcomes counts the builds and jobs of each checkout's tree, all at once.
func (f *Function) outcomes(ctx context.Context, checkouts []node.Node) (map[string]outcome, error) {
	var trees []any
	for _, n := range checkouts {
		if n.TreeID != "" {
			trees = append(trees, n.TreeID)
		}
	}
	below := map[string]outcome{}
	if len(trees) == 0 {
		return below, nil
	}
	q := node.Where("treeid", trees...).And("kind", node.KindKbuild, node.KindJob)
	tallies, err := f.store.TallyNodes(ctx, q, "treeid", "kind", "result")
	if err != nil {
		return nil, err
	}
	for _, t := range tallies {
		o, one := below[t.Values[0]], resultCount{node.Result(t.Values[2]), t.Count}
		if node.Kind(t.Values[1]) == node.KindKbuild {
			o.Builds = append(o.Builds, one)
		} else {
			o.Jobs = append(o.Jobs, one)
		}
		below[t.Values[0]] = o
	}
	for _, o := range below {
		inOrder(o.Builds)
		inOrder(o.Jobs)
	}
	return below, nil
}

// inOrder sorts counts as results are listed, those of none last.
func inOrder(counts []resultCount) {
	slices.SortFunc(counts, func(a, b resultCount) int { return cmp.Compare(placeOf(a.Result), placeOf(b.Result)) })
}

func placeOf(r node.Result) int {
	if place := slices.Index(node.Results, r); place >= 0 {
		return place
	}
	return len(node.Results)
}

// age is a time's largest part: minutes, hours or days.
func age(d time.Duration) string {
	minutes := max(0, int(d.Minutes()))
	switch {
	case minutes < 60:
		return fmt.Sprintf("%d min", minutes)
	case minutes < 48*60:
		return fmt.Sprintf("%d h", minutes/60)
	}
	return fmt.Sprintf("%d days", minutes/(24*60))
}
