package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// listPatience is how long nodes may be looked for where the options do not
// say. Filters that an index answers take milliseconds; others go through the
// nodes one by one, never holding more than is sent, and are broken off then.
const listPatience = 15 * time.Second

// Filters reads a request's free query parameters.
type Filters struct{ values url.Values }

// Resolve implements huma.Resolver.
func (q *Filters) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return []error{&huma.ErrorDetail{Location: "query", Message: "is malformed: " + err.Error()}}
	}
	q.values = values
	return nil
}

func (q *Filters) query(paging ...string) (node.Query, error) {
	return node.ParseQuery(q.values, paging...)
}

// filteredKey marks a route with free filters.
const filteredKey = "filtered"

// filtered describes the filters of a route. Of one that is there twice the last
// counts, as in KernelCI.
func filtered(op *huma.Operation) {
	op.Metadata[filteredKey] = true
	answers(http.StatusGatewayTimeout)(op)
	op.Description = "Any field filters: FIELD=VALUE, with dots for what is below (data.kernel_revision.tree). FIELD__OP=VALUE compares: " +
		"lt, lte, gt, gte, ne, re (a regular expression, RE2, found anywhere), in and nin (values parted by commas), int (equals the integer). " +
		"null is null or missing; a list is equal to each of its elements. All filters must hold."
	for _, name := range node.Fields {
		op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "query", Schema: filterSchema(name)})
	}
	for _, name := range []string{"created", "updated", "timeout", "holdoff"} {
		for _, bound := range []string{"__lt", "__lte", "__gt", "__gte"} {
			op.Parameters = append(op.Parameters, &huma.Param{Name: name + bound, In: "query", Schema: timeIn("").Schema(nil)})
		}
	}
	explode := true
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: "filters", In: "query", Style: "form", Explode: &explode, Description: "filters on fields of data and debug",
		Schema: &huma.Schema{
			Type: huma.TypeObject, AdditionalProperties: &huma.Schema{Type: huma.TypeString},
			Extensions: map[string]any{"propertyNames": map[string]any{"pattern": `^(data|debug)\.[a-z_]{1,20}[a-z](__(ne|in|nin))?$`}},
		},
	})
}

// filterSchema says what a field may be equal to.
func filterSchema(field string) *huma.Schema {
	var one *huma.Schema
	switch field {
	case "created", "updated", "timeout", "holdoff":
		one = timeIn("").Schema(nil)
	case "id", "parent":
		one = objectID("").Schema(nil)
	case "retry_counter":
		one = &huma.Schema{Type: huma.TypeInteger, Format: "int64"}
	case "processed_by_kcidb_bridge":
		one = &huma.Schema{Type: huma.TypeBoolean}
	default:
		return &huma.Schema{Type: huma.TypeString}
	}
	return &huma.Schema{AnyOf: []*huma.Schema{one, {Type: huma.TypeString, Enum: []any{"null"}}}}
}

type listInput struct {
	Filters
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	Offset int    `query:"offset" default:"0" minimum:"0" maximum:"1000000000"`
	After  string `query:"after" maxLength:"200" doc:"the next of an earlier page; quicker than an offset, and misses nothing while nodes come"`
}

type listOutput struct{ Body nodePage }

type nodePage struct {
	Items  []node.Node `json:"items"`
	Total  int64       `json:"total"`
	Limit  int         `json:"limit"`
	Offset int         `json:"offset"`
	Next   *string     `json:"next" doc:"where the next page begins; null after the last one"`
}

func (f *Function) listNodes(ctx context.Context, in *listInput) (*listOutput, error) {
	q, err := in.query("limit", "offset", "after")
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	patience, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	page, err := f.page(patience, q, in)
	if err != nil {
		return nil, f.failList(ctx, err)
	}
	return &listOutput{Body: *page}, nil
}

// page reads a page, and counts only when nobody has: the total goes on with
// the place of the next page.
func (f *Function) page(ctx context.Context, q node.Query, in *listInput) (*nodePage, error) {
	page := &nodePage{Limit: in.Limit, Offset: in.Offset, Total: -1}
	paged := q.Page(in.Limit, in.Offset)
	if in.After != "" {
		at, err := parsePlace(in.After)
		if err != nil {
			return nil, err
		}
		paged.After, page.Total = at.after, at.total
	}
	items, next, err := f.store.Page(ctx, paged)
	if err != nil {
		return nil, err
	}
	page.Items = items
	switch {
	case page.Total >= 0:
	case next == "" && (len(items) > 0 || in.Offset == 0):
		page.Total = int64(in.Offset + len(items))
	default:
		if page.Total, err = f.counts.count(ctx, f, q); err != nil {
			return nil, err
		}
	}
	if next != "" {
		text := (&pagePlace{total: page.Total, after: next}).String()
		page.Next = &text
	}
	return page, nil
}

// pagePlace is where a page begins, and how many nodes there were in all when
// the first page was read.
type pagePlace struct {
	total int64
	after string
}

func (p *pagePlace) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.total, 10) + " " + p.after))
}

func parsePlace(text string) (pagePlace, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	total, after, parted := strings.Cut(string(b), " ")
	n, notNumber := strconv.ParseInt(total, 10, 64)
	if err != nil || !parted || notNumber != nil || n < 0 || after == "" {
		return pagePlace{}, errs.New(errs.Invalid, "after: %.40q is not the next of a page", text)
	}
	return pagePlace{total: n, after: after}, nil
}

// counts remembers for a moment how many nodes filters select, where counting
// them took long: a client that goes through pages by offset would otherwise
// have the same nodes counted for each. Such a number is large, and out of
// date by the time that it arrives in any case.
type counts struct {
	mu   sync.Mutex
	kept map[string]keptCount
}

type keptCount struct {
	total int64
	until time.Time
}

const (
	slowCount  = 100 * time.Millisecond // a count that takes longer is remembered
	countLife  = 10 * time.Second       // for so long
	keptCounts = 256                    // at most so many
)

func (c *counts) count(ctx context.Context, f *Function, q node.Query) (int64, error) {
	key, err := json.Marshal(q.Where)
	if err != nil {
		return 0, err
	}
	began := f.now()
	c.mu.Lock()
	known, ok := c.kept[string(key)]
	c.mu.Unlock()
	if ok && began.Before(known.until) {
		return known.total, nil
	}
	total, err := f.store.Count(ctx, q)
	if ended := f.now(); err == nil && ended.Sub(began) > slowCount {
		c.keep(string(key), keptCount{total, ended.Add(countLife)})
	}
	return total, err
}

func (c *counts) keep(key string, k keptCount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil || len(c.kept) >= keptCounts {
		c.kept = map[string]keptCount{}
	}
	c.kept[key] = k
}

// failList is fail for what looks for nodes. KernelCI ends its words with those
// of an error that has none.
func (f *Function) failList(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return plain(http.StatusGatewayTimeout, "Timeout while fetching nodes: ")
	}
	return f.fail(ctx, err)
}

type fastInput struct {
	Filters
	Limit  int `query:"limit" default:"0" minimum:"0" maximum:"1000000000" doc:"0: all"`
	Offset int `query:"offset" default:"0" minimum:"0" maximum:"1000000000"`
}

func (f *Function) fastNodes(ctx context.Context, in *fastInput) (*huma.StreamResponse, error) {
	q, err := in.query("limit", "offset")
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) { f.streamNodes(ctx, hc, q.Page(in.Limit, in.Offset)) }}, nil
}

// streamNodes writes a list as it comes. Once it has begun an error can only
// be shown by breaking off, which the client sees as an answer cut short.
func (f *Function) streamNodes(ctx context.Context, hc huma.Context, q node.Query) {
	patience, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	hc.SetHeader("Content-Type", "application/json")
	w, encoder := hc.BodyWriter(), json.NewEncoder(hc.BodyWriter())
	between := "["
	for n, err := range f.store.Each(patience, q) {
		if err == nil {
			if _, err = w.Write([]byte(between)); err == nil {
				err = encoder.Encode(n)
			}
		}
		switch {
		case err == nil:
			between = ","
		case between == "[":
			f.answer(hc, f.failList(ctx, err))
			return
		default:
			f.log.Warn("a list of nodes broke off", "error", err)
			panic(http.ErrAbortHandler)
		}
	}
	end := "]"
	if between == "[" {
		end = "[]"
	}
	if _, err := w.Write([]byte(end)); err != nil {
		f.log.Debug("writing a list of nodes", "error", err)
	}
}

type countOutput struct{ Body int64 }

func (f *Function) countNodes(ctx context.Context, in *struct{ Filters }) (*countOutput, error) {
	q, err := in.query()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	patience, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	count, err := f.store.Count(patience, q)
	if err != nil {
		return nil, f.failList(ctx, err)
	}
	return &countOutput{Body: count}, nil
}
