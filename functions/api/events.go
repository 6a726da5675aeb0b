package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

func (f *Function) eventRoutes(api huma.API) {
	register(api, http.MethodGet, "/events", "The history of events", f.events)
	register(api, http.MethodPost, "/subscribe/{channel}", "Listen to a channel", f.subscribe, needsToken)
	register(api, http.MethodGet, "/listen/{id}", "Wait for the next event of a subscription", f.listen, needsToken)
	register(api, http.MethodPost, "/unsubscribe/{id}", "End a subscription", f.unsubscribe, needsToken)
	register(api, http.MethodGet, "/stats/subscriptions", "All subscriptions", f.subscriptions, needsToken)
}

type eventsInput struct {
	From      string `query:"from" doc:"UTC time"`
	Kind      string `query:"kind"`
	State     string `query:"state"`
	Result    string `query:"result"`
	Op        string `query:"op"`
	Name      string `query:"name"`
	Path      string `query:"path" maxLength:"512" doc:"a regular expression"`
	Group     string `query:"group"`
	Owner     string `query:"owner"`
	Channel   string `query:"channel"`
	ID        string `query:"id"`
	IDs       string `query:"ids" doc:"comma-separated"`
	NodeID    string `query:"node_id"`
	Limit     int    `query:"limit" default:"0" minimum:"0" maximum:"10000"`
	Recursive bool   `query:"recursive" default:"false" doc:"with the node of each event"`
}

// historyEvent is an event as the history shows it.
type historyEvent struct {
	ID        string          `json:"id"`
	Timestamp string          `json:"timestamp"`
	Sequence  int64           `json:"sequence_id"`
	Channel   string          `json:"channel"`
	Owner     string          `json:"owner"`
	Data      json.RawMessage `json:"data"`
	Node      *node.Node      `json:"node,omitempty"`
}

type eventsOutput struct{ Body []historyEvent }

// mostRecursive bounds how many nodes one look into the history may bring.
const mostRecursive = 1000

func (in *eventsInput) history() (store.History, error) {
	h := store.History{
		Channel: in.Channel, Owner: in.Owner, Kind: node.Kind(in.Kind), State: node.State(in.State), Result: node.Result(in.Result),
		Op: event.Op(in.Op), Name: in.Name, Group: in.Group, PathRe: in.Path, Limit: in.Limit,
	}
	var err error
	if in.From != "" {
		if h.From, err = node.ParseTime(in.From); err != nil {
			return h, err
		}
	}
	if in.NodeID != "" {
		if h.NodeID, err = node.ParseID(in.NodeID); err != nil {
			return h, err
		}
	}
	if _, err := regexp.Compile(in.Path); err != nil {
		return h, errs.New(errs.Invalid, "path: %s", err)
	}
	for _, id := range append(strings.Split(in.IDs, ","), in.ID) {
		if id = strings.TrimSpace(id); id != "" {
			h.IDs = append(h.IDs, id)
		}
	}
	if in.Recursive && (in.Limit <= 0 || in.Limit > mostRecursive) {
		return h, errs.New(errs.Invalid, "Recursive is allowed only with limit from 1 to %d", mostRecursive)
	}
	return h, nil
}

func (f *Function) events(ctx context.Context, in *eventsInput) (*eventsOutput, error) {
	h, err := in.history()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	found, err := f.store.History(ctx, h)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &eventsOutput{Body: make([]historyEvent, len(found))}
	for i, e := range found {
		out.Body[i] = historyEvent{ID: e.ID, Timestamp: node.FormatTime(e.Time), Sequence: e.Sequence, Channel: e.Channel, Owner: e.Owner, Data: e.Data}
	}
	if in.Recursive {
		err = f.addNodes(ctx, found, out.Body)
	}
	return out, f.fail(ctx, err)
}

// addNodes fetches the nodes of the events in one query.
func (f *Function) addNodes(ctx context.Context, events []event.Event, out []historyEvent) error {
	var ids []any
	of := make([]node.ID, len(events))
	for i, e := range events {
		if p, err := e.Node(); err == nil {
			of[i] = p.ID
			ids = append(ids, p.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	nodes := map[node.ID]node.Node{}
	for n, err := range f.store.Each(ctx, node.Where("id", ids...)) {
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

type subscribeInput struct {
	WithToken
	Channel      string `path:"channel" maxLength:"200"`
	Promiscuous  bool   `query:"promisc" default:"false" doc:"also events of other owners"`
	SubscriberID string `query:"subscriber_id" maxLength:"200" doc:"keeps the place while nobody listens"`
}

type subscriptionOutput struct{ Body store.Subscription }

func (f *Function) subscribe(ctx context.Context, in *subscribeInput) (*subscriptionOutput, error) {
	u, err := f.person(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	last, err := f.store.LastSequence(ctx)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	now := f.now()
	sub, err := f.store.Subscribe(ctx, store.Subscription{
		Channel: in.Channel, User: u.Username, Promiscuous: in.Promiscuous, SubscriberID: in.SubscriberID,
		Acknowledged: last, Delivered: last, Created: now, LastPoll: now,
	})
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &subscriptionOutput{Body: sub}, nil
}

type subscriptionInput struct {
	WithToken
	ID int64 `path:"id"`
}

// own returns a subscription of the user's; an admin has all.
func (f *Function) own(ctx context.Context, in *subscriptionInput) (store.Subscription, user.User, error) {
	u, err := f.person(ctx, in.WithToken)
	if err != nil {
		return store.Subscription{}, u, err
	}
	sub, err := f.store.Subscription(ctx, in.ID)
	if errors.Is(err, errs.NotFound) {
		return sub, u, errs.New(errs.NotFound, "Subscription id not found: %d", in.ID)
	}
	if err == nil && sub.User != u.Username && !u.Superuser {
		return sub, u, errs.New(errs.Denied, "subscription %d belongs to another user", in.ID)
	}
	return sub, u, err
}

type unsubscribeOutput struct{ Body any }

func (f *Function) unsubscribe(ctx context.Context, in *subscriptionInput) (*unsubscribeOutput, error) {
	if _, _, err := f.own(ctx, in); err != nil {
		return nil, f.fail(ctx, err)
	}
	if err := f.store.Unsubscribe(ctx, in.ID); err != nil && !errors.Is(err, errs.NotFound) {
		return nil, f.fail(ctx, err)
	}
	return &unsubscribeOutput{}, nil
}

type subscriptionsOutput struct{ Body []subscriptionStats }

type subscriptionStats struct {
	store.Subscription
	SubscriberID string `json:"subscriber_id,omitempty"`
	Created      string `json:"created"`
	LastPoll     string `json:"last_poll"`
}

func (f *Function) subscriptions(ctx context.Context, in *WithToken) (*subscriptionsOutput, error) {
	if _, err := f.admin(ctx, *in); err != nil {
		return nil, f.fail(ctx, err)
	}
	list, err := f.store.Subscriptions(ctx)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	out := &subscriptionsOutput{Body: []subscriptionStats{}}
	for _, s := range list {
		out.Body = append(out.Body, subscriptionStats{s, s.SubscriberID, node.FormatTime(s.Created), node.FormatTime(s.LastPoll)})
	}
	return out, nil
}

// message is what a listener gets, in the form of a Redis client.
type message struct {
	Type    string  `json:"type"`
	Pattern *string `json:"pattern"`
	Channel string  `json:"channel"`
	Data    string  `json:"data" doc:"a CloudEvent as JSON"`
}

type listenOutput struct{ Body message }

// batch is how many events are looked through at a time.
const batch = 256

// listen hands out the next event. Asking for it says that the one before has
// been dealt with.
func (f *Function) listen(ctx context.Context, in *subscriptionInput) (*listenOutput, error) {
	sub, _, err := f.own(ctx, in)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	e, seen, err := f.next(ctx, sub)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	acknowledged := sub.Delivered
	if e == nil {
		acknowledged = seen // nothing for this listener up to there
		if e, err = f.beep(sub); err != nil {
			return nil, f.fail(ctx, err)
		}
	}
	if err := f.store.Polled(ctx, sub.ID, acknowledged, seen, f.now()); err != nil {
		return nil, f.fail(ctx, err)
	}
	ce, err := e.CloudEvent()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	text, err := json.Marshal(ce)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &listenOutput{Body: message{Type: "message", Channel: sub.Channel, Data: string(text)}}, nil
}

// next waits for an event that the subscription lets through; nil when it is
// time for a sign of life. seen is how far the log was looked through.
func (f *Function) next(ctx context.Context, sub store.Subscription) (*event.Event, int64, error) {
	wait, cancel := context.WithTimeout(ctx, f.keepAlive)
	defer cancel()
	seen := sub.Delivered
	for {
		events, looked, err := f.store.After(ctx, seen, event.Filter{Channel: sub.Channel}, batch)
		if err != nil {
			return nil, seen, err
		}
		for i, e := range events {
			if sub.Promiscuous || e.Owner == sub.User {
				return &events[i], e.Sequence, nil
			}
		}
		if looked > seen {
			seen = looked
			continue
		}
		if err := f.watch.Wait(wait, seen); err != nil && ctx.Err() == nil && wait.Err() == nil {
			return nil, seen, err
		}
		if ctx.Err() != nil {
			return nil, seen, ctx.Err()
		}
		if wait.Err() != nil {
			return nil, seen, nil
		}
	}
}

// beep is a sign of life.
func (f *Function) beep(sub store.Subscription) (*event.Event, error) {
	id, err := f.newUUID()
	return &event.Event{
		ID: id, Channel: sub.Channel, Type: event.DefaultType, Source: event.DefaultSource,
		Time: f.now().UTC().Truncate(time.Microsecond), Owner: sub.User, Data: json.RawMessage(`"BEEP"`),
	}, err
}
