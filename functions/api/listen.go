package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

func (f *Function) listenerRoutes(api huma.API) {
	register(api, http.MethodPost, "/subscribe/{channel}", "Listen to a channel", f.subscribe, needsToken)
	register(api, http.MethodGet, "/listen/{id}", "Wait for the next event of a subscription", f.listen, needsToken, streams[message](api))
	register(api, http.MethodPost, "/unsubscribe/{id}", "End a subscription", f.unsubscribe, needsToken)
	register(api, http.MethodGet, "/stats/subscriptions", "All subscriptions", f.subscriptions, needsToken)
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
	if err == nil {
		err = errors.Join(printable("channel", in.Channel), printable("subscriber_id", in.SubscriberID))
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	last, err := f.store.LastSequence(ctx)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	sub, err := f.store.Subscribe(ctx, store.Subscription{
		Channel: in.Channel, User: u.Username, Promiscuous: in.Promiscuous, SubscriberID: in.SubscriberID,
		Acknowledged: last, Delivered: last, Created: f.now(),
	})
	if errors.Is(err, errs.Denied) {
		err = errs.New(errs.Denied, "Subscriber %s owned by different user", in.SubscriberID)
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &subscriptionOutput{Body: sub}, nil
}

// printable refuses names that a store, a log or a metric could not show.
func printable(field, text string) error {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return errs.New(errs.Invalid, "%s: must be printable text", field)
	}
	return nil
}

type subscriptionInput struct {
	WithToken
	ID int64 `path:"id"`
}

// own returns a subscription of the user's: what a listener has been given is
// nobody else's to acknowledge, not even an admin's.
func (f *Function) own(ctx context.Context, in *subscriptionInput) (store.Subscription, error) {
	u, err := f.person(ctx, in.WithToken)
	if err != nil {
		return store.Subscription{}, err
	}
	sub, err := f.store.Subscription(ctx, in.ID)
	if err == nil && sub.User != u.Username {
		err = errs.New(errs.Denied, "Subscription %d not owned by %s", in.ID, u.Username)
	}
	return sub, f.notSubscribed(err, in.ID)
}

// notSubscribed says in KernelCI's words that there is no such subscription.
func (f *Function) notSubscribed(err error, id int64) error {
	if errors.Is(err, errs.NotFound) {
		return errs.New(errs.NotFound, "Subscription id not found: 'Subscription %d not found'", id)
	}
	return err
}

func (f *Function) unsubscribe(ctx context.Context, in *subscriptionInput) (*nothing, error) {
	_, err := f.own(ctx, in)
	if err == nil {
		err = f.notSubscribed(f.store.Unsubscribe(ctx, in.ID), in.ID)
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &nothing{}, nil
}

type subscriptionsOutput struct{ Body []subscriptionStats }

// subscriptionStats is what KernelCI tells of a subscription, and where it is.
type subscriptionStats struct {
	store.Subscription
	Created      timeOut  `json:"created"`
	LastPoll     *timeOut `json:"last_poll" nullable:"true"`
	SubscriberID *string  `json:"subscriber_id" nullable:"true"`
	Position     int64    `json:"position" doc:"sequence up to which all is dealt with"`
	Lag          int64    `json:"lag" doc:"events in the log behind that, of any channel"`
}

const (
	statsPage = 500
	mostStats = 10_000
)

func (f *Function) subscriptions(ctx context.Context, in *WithToken) (*subscriptionsOutput, error) {
	if _, err := f.admin(ctx, *in); err != nil {
		return nil, f.fail(ctx, err)
	}
	last, err := f.store.LastSequence(ctx)
	out := &subscriptionsOutput{Body: []subscriptionStats{}}
	for after := int64(0); err == nil && len(out.Body) < mostStats; {
		var page []store.Subscription
		if page, err = f.store.Subscriptions(ctx, after, statsPage); len(page) == 0 {
			break
		}
		for _, s := range page {
			out.Body = append(out.Body, statsOf(s, last))
		}
		after = page[len(page)-1].ID
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return out, nil
}

func statsOf(s store.Subscription, last int64) subscriptionStats {
	stats := subscriptionStats{Subscription: s, Created: timeOut(node.FormatTime(s.Created)), Position: s.Delivered}
	if s.SubscriberID != "" {
		stats.SubscriberID, stats.Position = &s.SubscriberID, s.Acknowledged
	}
	if !s.LastPoll.IsZero() {
		polled := timeOut(node.FormatTime(s.LastPoll))
		stats.LastPoll = &polled
	}
	stats.Lag = max(0, last-stats.Position)
	return stats
}

// message is what a listener gets, in the form of a Redis client.
type message struct {
	Type    string  `json:"type" enum:"message"`
	Pattern *string `json:"pattern" nullable:"true"`
	Channel string  `json:"channel"`
	Data    string  `json:"data" doc:"a CloudEvent as JSON"`
}

// messageOf is the answer with an event.
func messageOf(sub store.Subscription, e event.Event) ([]byte, error) {
	text, err := e.Message()
	if err != nil {
		return nil, err
	}
	var answer bytes.Buffer
	err = huma.DefaultJSONFormat.Marshal(&answer, message{Type: "message", Channel: sub.Channel, Data: string(text)})
	return answer.Bytes(), err
}

// listen hands out the next event. Asking for it says that the one before has
// been dealt with.
func (f *Function) listen(ctx context.Context, in *subscriptionInput) (*huma.StreamResponse, error) {
	if err := f.settle(ctx, in.ID); err != nil {
		return nil, f.fail(ctx, err)
	}
	sub, err := f.own(ctx, in)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	e, err := f.next(ctx, sub)
	if err != nil {
		return nil, f.fail(ctx, f.notSubscribed(err, in.ID))
	}
	answer, err := messageOf(sub, e)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		if e.Sequence == 0 || r.Method == http.MethodHead {
			_ = writeWhole(w, answer) // nobody is given an event by this
			return
		}
		f.deliver(ctx, w, sub, e, answer)
	}}, nil
}

// next returns the next event that the subscription lets through, waiting for
// it, or a sign of life.
func (f *Function) next(ctx context.Context, sub store.Subscription) (event.Event, error) {
	filter := event.Filter{Channel: sub.Channel}
	if !sub.Promiscuous {
		filter.Owner = sub.User
	}
	e, looked, err := f.watch.Look(ctx, sub.Delivered, filter)
	if err == nil && e == nil {
		e, looked, err = f.wait(ctx, sub, looked, filter)
	}
	switch {
	case ctx.Err() != nil || errors.Is(err, context.Canceled):
		// The server stops, or the client has gone. Nothing is noted: who
		// polls again, wherever, goes on from here.
		return f.beep()
	case errors.Is(err, context.DeadlineExceeded):
		// There is nothing for this listener up to where it was looked.
		if err := f.store.Polled(ctx, sub.ID, looked, looked, f.now()); err != nil {
			return event.Event{}, err
		}
		return f.beep()
	case err != nil:
		return event.Event{}, err
	}
	return *e, nil
}

// wait waits for the next event until it is time for a sign of life. A durable
// listener's acknowledgement does not wait with it.
func (f *Function) wait(ctx context.Context, sub store.Subscription, seen int64, filter event.Filter) (*event.Event, int64, error) {
	if sub.SubscriberID != "" && sub.Delivered > sub.Acknowledged {
		if err := f.store.Polled(ctx, sub.ID, sub.Delivered, sub.Delivered, f.now()); err != nil {
			return nil, seen, err
		}
	}
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, f.keepAlive)
	defer cancel()
	return f.watch.Next(ctx, seen, filter)
}

// beep is a sign of life. It has no owner and no place in the log.
func (f *Function) beep() (event.Event, error) {
	id, err := f.newUUID()
	return event.Event{ID: id, Type: event.DefaultType, Source: event.DefaultSource, Time: node.Time(f.now()), Data: json.RawMessage(`"BEEP"`)}, err
}
