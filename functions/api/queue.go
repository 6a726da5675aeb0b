package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

// longestItem bounds an item: a list of bus.MostItems must fit into memory.
const longestItem = 64 << 10

func (f *Function) queueRoutes(api huma.API) {
	register(api, http.MethodPost, "/publish/{channel}", "Publish an event to all who listen to a channel", f.publish, needsToken, takes[sentEventDoc])
	register(api, http.MethodPost, "/push/{list}", "Append an event to a list", f.push, needsToken, takes[pushedEventDoc],
		func(op *huma.Operation) { op.MaxBodyBytes = longestItem })
	register(api, http.MethodGet, "/pop/{list}", "Take the oldest event of a list", f.pop, needsToken)
}

// eventBody is an event as a client sends it.
type eventBody struct {
	Data       json.RawMessage `json:"data"`
	Type       string          `json:"type,omitempty" maxLength:"200"`
	Source     string          `json:"source,omitempty" maxLength:"1000"`
	Attributes attributes      `json:"attributes,omitempty"`
}

// UnmarshalJSON reads what has these names, to the letter.
func (e *eventBody) UnmarshalJSON(b []byte) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(b, &given); err != nil {
		return err
	}
	e.Data = given["data"]
	for name, to := range map[string]any{"type": &e.Type, "source": &e.Source, "attributes": &e.Attributes} {
		if raw, ok := given[name]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return inBody(name, err.Error())
			}
		}
	}
	return nil
}

// attributes are those of a CloudEvent, each a text.
type attributes map[string]string

// UnmarshalJSON refuses null where a text must be.
func (a *attributes) UnmarshalJSON(b []byte) error {
	var given map[string]*string
	if err := json.Unmarshal(b, &given); err != nil {
		return err
	}
	*a = attributes{}
	for name, text := range given {
		if text == nil {
			return fmt.Errorf("%.40s must be a text, not null", name)
		}
		(*a)[name] = *text
	}
	return nil
}

type publishInput struct {
	WithToken
	Channel string `path:"channel" maxLength:"200"`
	RawBody []byte `contentType:"application/json"`
}

type pushInput struct {
	WithToken
	List    string `path:"list" maxLength:"200"`
	RawBody []byte `contentType:"application/json"`
}

type nothing struct{ Body any }

// event makes an event of a body. Its owner is who sends it.
func (f *Function) event(ctx context.Context, token WithToken, channel string, raw []byte) (event.Event, error) {
	u, err := f.person(ctx, token)
	if err != nil {
		return event.Event{}, err
	}
	var body eventBody
	if err := decode(raw, &body); err != nil {
		return event.Event{}, err
	}
	if len(body.Data) == 0 || isNull(body.Data) || string(body.Data) == "{}" {
		return event.Event{}, invalidBody(errs.New(errs.Invalid, "data: must not be empty"))
	}
	return f.compose(u, channel, body)
}

// compose makes an event of what a client sent.
func (f *Function) compose(u user.User, channel string, body eventBody) (event.Event, error) {
	id, err := f.newUUID()
	if err != nil {
		return event.Event{}, err
	}
	e := event.Event{
		ID: id, Channel: channel, Type: body.Type, Source: body.Source, Time: node.Time(f.now()),
		Owner: u.Username, Attributes: body.Attributes, Data: body.Data,
	}
	if e.Type == "" {
		e.Type = event.DefaultType
	}
	if e.Source == "" {
		e.Source = event.DefaultSource
	}
	_, err = e.CloudEvent()
	return e, err
}

func (f *Function) publish(ctx context.Context, in *publishInput) (*nothing, error) {
	e, err := f.event(ctx, in.WithToken, in.Channel, in.RawBody)
	if err == nil && in.Channel == event.ChannelNode {
		err = errs.New(errs.Denied, "channel %s carries the writes of nodes only", event.ChannelNode)
	}
	if err == nil {
		err = f.store.Append(ctx, e)
	}
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &nothing{}, nil
}

// attributeName is what CloudEvents lets a name of an extension be.
var attributeName = regexp.MustCompile(`^[a-z0-9]{1,20}$`)

// reserved are the names that say something of their own in a CloudEvent.
var reserved = []string{"specversion", "id", "type", "source", "time", "subject", "datacontenttype", "dataschema", "data", "data_base64", "attributes",
	"owner", "channel", "treeid", "sequence"}

// item reads what is to be appended to a list: unlike what is published, its
// data may be anything that is there, and attributes may stand beside it.
func item(raw []byte) (eventBody, error) {
	var body eventBody
	if err := decode(raw, &body); err != nil {
		return body, err
	}
	if body.Data == nil {
		return body, invalidBody(errs.New(errs.Invalid, "data: is missing"))
	}
	var beside map[string]json.RawMessage
	if err := decode(raw, &beside); err != nil {
		return body, err
	}
	all := attributes{}
	for name, value := range beside {
		var text string
		if attributeName.MatchString(name) && !slices.Contains(reserved, name) && json.Unmarshal(value, &text) == nil {
			all[name] = text
		}
	}
	maps.Copy(all, body.Attributes)
	body.Attributes = all
	return body, nil
}

func (f *Function) push(ctx context.Context, in *pushInput) (*nothing, error) {
	u, err := f.person(ctx, in.WithToken)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	body, err := item(in.RawBody)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	e, err := f.compose(u, in.List, body)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	ce, err := e.CloudEvent()
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	item, err := json.Marshal(ce)
	if err == nil {
		err = f.bus.Push(ctx, in.List, item)
	}
	return &nothing{}, f.fail(ctx, err)
}

type popInput struct {
	WithToken
	List string `path:"list" maxLength:"200"`
}

type popOutput struct{ Body json.RawMessage }

func (f *Function) pop(ctx context.Context, in *popInput) (*popOutput, error) {
	if _, err := f.person(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	item, err := f.bus.Pop(ctx, in.List, f.popWait)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &popOutput{Body: item}, nil
}

func (f *Function) deadLetterRoutes(api huma.API) {
	register(api, http.MethodGet, "/dead-letters", "Events that a function gave up, oldest first", f.deadLetters, needsToken)
	register(api, http.MethodPost, "/dead-letters/{function}/{event}/replay", "Deliver such an event once more", f.replay, needsToken)
}

type deadLettersInput struct {
	WithToken
	Limit int `query:"limit" default:"50" minimum:"1" maximum:"1000"`
}

type deadLettersOutput struct{ Body []store.DeadLetter }

func (f *Function) deadLetters(ctx context.Context, in *deadLettersInput) (*deadLettersOutput, error) {
	if _, err := f.admin(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	list, err := f.store.ListDeadLetters(ctx, in.Limit)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	return &deadLettersOutput{Body: list}, nil
}

type replayInput struct {
	WithToken
	Function string `path:"function" maxLength:"100"`
	Event    string `path:"event" maxLength:"200"`
}

// mostLetters is how many dead letters are looked through for one.
const mostLetters = 10_000

// replay logs the event once more under an id that follows from the letter:
// every function sees it again, which is harmless. The letter goes last, so
// that a crash in between loses nothing.
func (f *Function) replay(ctx context.Context, in *replayInput) (*nothing, error) {
	if _, err := f.admin(ctx, in.WithToken); err != nil {
		return nil, f.fail(ctx, err)
	}
	letter, err := f.letter(ctx, in.Function, in.Event)
	if err != nil {
		return nil, f.fail(ctx, err)
	}
	again := letter.Event
	again.Sequence = 0
	again.ID = uuid.NewSHA1(uuid.NameSpaceURL, []byte(letter.Function+"/"+letter.Event.ID+"/"+node.FormatTime(letter.Time))).String()
	if err := f.store.Append(ctx, again); err != nil {
		return nil, f.fail(ctx, err)
	}
	if _, err := f.store.Exhume(ctx, in.Function, in.Event); err != nil && !errors.Is(err, errs.NotFound) {
		return nil, f.fail(ctx, err)
	}
	return &nothing{}, nil
}

func (f *Function) letter(ctx context.Context, function, event string) (store.DeadLetter, error) {
	list, err := f.store.ListDeadLetters(ctx, mostLetters)
	for _, l := range list {
		if l.Function == function && l.Event.ID == event {
			return l, nil
		}
	}
	if err == nil {
		err = errs.New(errs.NotFound, "no dead letter of function %.100s and event %.100s", function, event)
	}
	return store.DeadLetter{}, err
}
