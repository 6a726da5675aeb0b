package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

func (f *Function) eventRoutes(api huma.API) {
	register(api, http.MethodGet, "/events", "The history of events, oldest first", f.events,
		answers(http.StatusGatewayTimeout), streams[[]historyEvent](api))
	f.listenerRoutes(api)
}

// streams describes the answer of a route that writes a T by itself.
func streams[T any](api huma.API) func(*huma.Operation) {
	return func(op *huma.Operation) {
		schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
		op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	}
}

// eventsInput has each filter under KernelCI's short name, and what an event's
// data is asked for by its place there too.
type eventsInput struct {
	From      string `query:"from" doc:"later than this time, ISO 8601"`
	Kind      string `query:"kind"`
	State     string `query:"state"`
	Result    string `query:"result"`
	Op        string `query:"op"`
	Name      string `query:"name"`
	Path      string `query:"path" maxLength:"512" doc:"a regular expression, found in the names joined with a dot"`
	Group     string `query:"group"`
	Owner     string `query:"owner"`
	Channel   string `query:"channel"`
	ID        string `query:"id" doc:"of the event"`
	IDs       string `query:"ids" maxLength:"30000" doc:"of events, comma-separated"`
	NodeID    string `query:"node_id"`
	DataID    string `query:"data.id" doc:"the same as node_id"`
	Limit     int    `query:"limit" default:"0" minimum:"0" doc:"at most 10000, also when it is 0"`
	Recursive bool   `query:"recursive" default:"false" doc:"with the node of each event; the limit may be 1000 then"`

	unknown []string
}

// Resolve implements huma.Resolver: what is no filter must not select all.
func (in *eventsInput) Resolve(hc huma.Context) []error {
	u := hc.URL()
	for name := range u.Query() {
		if !slices.Contains(eventFilters, name) {
			in.unknown = append(in.unknown, name)
		}
	}
	slices.Sort(in.unknown)
	return nil
}

var eventFilters = queryNames(reflect.TypeFor[eventsInput]())

func queryNames(input reflect.Type) []string {
	var names []string
	for _, field := range reflect.VisibleFields(input) {
		if name := field.Tag.Get("query"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// historyEvent is an event as the history shows it.
type historyEvent struct {
	ID        node.ID         `json:"id"`
	Timestamp timeOut         `json:"timestamp"`
	Sequence  int64           `json:"sequence_id"`
	Channel   string          `json:"channel"`
	Owner     *string         `json:"owner" nullable:"true"`
	Data      json.RawMessage `json:"data"`
	Node      *node.Node      `json:"node,omitempty"`
}

const (
	mostEvents     = 10_000           // in one answer
	mostRecursive  = 1000             // in one answer with their nodes
	mostIDs        = 1000             // in one question
	eventsPage     = 256              // read at a time
	eventsPatience = 15 * time.Second // for a page
)

func (in *eventsInput) history() (store.History, error) {
	h := store.History{
		Channel: in.Channel, Owner: in.Owner, Kind: node.Kind(in.Kind), State: node.State(in.State), Result: node.Result(in.Result),
		Op: event.Op(in.Op), Name: in.Name, Group: in.Group, PathRe: in.Path, Limit: in.Limit,
	}
	switch {
	case len(in.unknown) > 0:
		return h, errs.New(errs.Invalid, "%.100s: is no filter of events", in.unknown[0])
	case in.Recursive && (in.Limit <= 0 || in.Limit > mostRecursive):
		return h, errs.New(errs.Invalid, "Recursive limit is too large, max is %d", mostRecursive)
	case in.NodeID != "" && in.DataID != "":
		return h, errs.New(errs.Invalid, "Provide either node_id or data.id, not both")
	}
	if h.Limit <= 0 || h.Limit > mostEvents {
		h.Limit = mostEvents
	}
	if _, err := regexp.Compile(in.Path); err != nil {
		return h, errs.New(errs.Invalid, "path: %s", err)
	}
	var err error
	if in.From != "" {
		if h.From, err = node.ParseTime(in.From); err != nil {
			return h, errs.New(errs.Invalid, "from: %s", err)
		}
	}
	if id := in.NodeID + in.DataID; id != "" {
		if h.NodeID, err = node.ParseID(id); err != nil {
			return h, errs.New(errs.Invalid, "node_id: %s", err)
		}
	}
	h.Keys, err = in.keys()
	return h, err
}

// keys reads id or ids.
func (in *eventsInput) keys() ([]node.ID, error) {
	name, list := "ids", strings.Split(in.IDs, ",")
	switch {
	case in.ID != "" && in.IDs != "":
		return nil, errs.New(errs.Invalid, "Provide either id or ids, not both")
	case in.ID != "":
		name, list = "id", []string{in.ID}
	case in.IDs == "":
		return nil, nil
	}
	var keys []node.ID
	for _, text := range list {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, err := node.ParseID(text)
		if err != nil {
			return nil, errs.New(errs.Invalid, "Invalid %s format", name)
		}
		keys = append(keys, key)
	}
	switch {
	case len(keys) == 0:
		return nil, errs.New(errs.Invalid, "ids must contain at least one id")
	case len(keys) > mostIDs:
		return nil, errs.New(errs.Invalid, "ids must contain at most %d ids", mostIDs)
	}
	return keys, nil
}

// events answers page by page, so that neither many events nor a slow client
// takes memory or keeps the store busy. The first page is there before the
// answer begins: what is wrong is said by its status.
func (f *Function) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	h, err := in.history()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	p := &eventPages{store: f.store, next: h, left: h.Limit, recursive: in.Recursive}
	first, err := p.page(ctx)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, plain(http.StatusGatewayTimeout, "Timeout while fetching events")
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/json")
		if err := p.write(ctx, hc.BodyWriter(), first); err != nil {
			f.log.Warn("a list of events broke off", "error", err)
			panic(http.ErrAbortHandler) // the client must not take what it has for all of it
		}
	}}, nil
}

// eventPages goes through the history.
type eventPages struct {
	store     Store
	next      store.History // what comes behind the last page
	left      int
	recursive bool
}

// page returns the next events as JSON; none means that there are no more.
func (p *eventPages) page(ctx context.Context) ([]historyEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, eventsPatience)
	defer cancel()
	if p.left <= 0 {
		return nil, nil
	}
	p.next.Limit = min(p.left, eventsPage)
	found, err := p.store.History(ctx, p.next)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	last := found[len(found)-1]
	p.next.From, p.next.FromSequence, p.left = last.Time, last.Sequence, p.left-len(found)
	out := make([]historyEvent, len(found))
	for i, e := range found {
		out[i] = historyEvent{ID: e.Key(), Timestamp: timeOut(node.FormatTime(e.Time)), Sequence: e.Sequence, Channel: e.Channel, Data: e.Data}
		if e.Owner != "" {
			out[i].Owner = &e.Owner
		}
	}
	if p.recursive {
		err = p.addNodes(ctx, found, out)
	}
	return out, err
}

// write writes the first page and those behind it as one list.
func (p *eventPages) write(ctx context.Context, w io.Writer, events []historyEvent) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	b.WriteByte('[')
	for first := true; len(events) > 0; first = false {
		for i, e := range events {
			if i > 0 || !first {
				b.WriteByte(',')
			}
			if err := encoder.Encode(e); err != nil {
				return err
			}
		}
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
		b.Reset()
		var err error
		if events, err = p.page(ctx); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	_, err := w.Write(b.Bytes())
	return err
}

// addNodes fetches the nodes of the events in one query.
func (p *eventPages) addNodes(ctx context.Context, events []event.Event, out []historyEvent) error {
	var ids []any
	of := make([]node.ID, len(events))
	for i, e := range events {
		if n, err := e.Node(); err == nil {
			of[i] = n.ID
			ids = append(ids, n.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	nodes := map[node.ID]node.Node{}
	for n, err := range p.store.Each(ctx, node.Where("id", ids...)) {
		if err != nil {
			return err
		}
		nodes[n.ID] = n
	}
	for i, id := range of {
		if n, ok := nodes[id]; ok {
			out[i].Node = &n
		}
	}
	return nil
}
