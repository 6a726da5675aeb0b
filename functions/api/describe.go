package api

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernelflow/kernelflow/shared/node"
)

// What ends in Doc is never used but by its description: huma makes the
// schemas of the OpenAPI description from it, where the type that the code
// uses writes its JSON by itself. A body is checked against them too.

// newRegistry returns the schemas of types that huma cannot see through.
func newRegistry() huma.Registry {
	registry := huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		return strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), "Doc")
	})
	for _, alias := range [][2]reflect.Type{
		{reflect.TypeFor[node.Node](), reflect.TypeFor[nodeDoc]()},
		{reflect.TypeFor[newNodeBody](), reflect.TypeFor[NewNodeDoc]()},
		{reflect.TypeFor[nodeBody](), reflect.TypeFor[nodeInDoc]()},
		{reflect.TypeFor[hierarchyBody](), reflect.TypeFor[hierarchyDoc]()},
		{reflect.TypeFor[patch](), reflect.TypeFor[nodePatchDoc]()},
		{reflect.TypeFor[node.ID](), reflect.TypeFor[objectID]()},
		{reflect.TypeFor[failure](), reflect.TypeFor[errorDoc]()},
	} {
		registry.RegisterTypeAlias(alias[0], alias[1])
	}
	return registry
}

// Lists are described as null only where a field says so.
func init() { huma.DefaultArrayNullable = false }

type errorDoc struct {
	Detail detail `json:"detail" doc:"what is wrong"`
}

// detail is a text or, of a password that cannot be set, why.
type detail struct{}

// Schema implements huma.SchemaProvider.
func (detail) Schema(registry huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{{Type: huma.TypeString}, registry.Schema(reflect.TypeFor[reason](), true, "")}}
}

// reason is why a password cannot be set.
type reason struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

type faultsDoc struct {
	Detail []fault `json:"detail" doc:"each fault of the request"`
}

// place is one step of the way to a fault.
type place string

// Schema implements huma.SchemaProvider.
func (place) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeInteger}}}
}

// objectID is the id of a node, user or group.
type objectID string

// Schema implements huma.SchemaProvider.
func (objectID) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9a-fA-F]{24}$", Description: "24 hex digits"}
}

// idIn is an id as clients send it. It is not huma's to check: a malformed one
// is answered with 400.
type idIn string

// Schema implements huma.SchemaProvider.
func (idIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: "24 hex digits", Extensions: map[string]any{"pattern": "^[0-9a-fA-F]{24}$"}}
}

func (id idIn) parse() (node.ID, error) { return node.ParseID(string(id)) }

// timeIn is a time as clients may send it. The format is not huma's to check:
// it knows RFC 3339 alone.
type timeIn string

// Schema implements huma.SchemaProvider.
func (timeIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Description: "ISO 8601; T or a space before the time, which may be left out; UTC without an offset",
		Extensions: map[string]any{"anyOf": []any{map[string]any{"format": "date-time"}, map[string]any{"pattern": isoTime}, map[string]any{"type": "null"}}},
	}
}

// isoTime is what is taken for a time beside RFC 3339: without an offset, or
// without seconds. Time zones have no place in the first and last year: it
// would be another one in UTC.
var isoTime = "^(" + isoDate("[0-9]{2}", "[02468][048]|[13579][26]") + "([T ]" + isoClock + ")?" +
	"|" + isoDate("[1-8][0-9]", "[2468][048]|[1357][26]") + "[T ]" + isoClock + "(Z|[+ -]([01][0-9]|2[0-3]):[0-5][0-9]))$"

const isoClock = `([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]{1,9})?)?`

// isoDate is a date of any year in centuries, of which those in leap have a leap
// year first.
func isoDate(centuries, leap string) string {
	return "(" + centuries + "[0-9]{2}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))" +
		"|(" + centuries + "(0[48]|[2468][048]|[13579][26])|(" + leap + ")00)-02-29)"
}

// timeOut is a time as it is sent.
type timeOut string

// Schema implements huma.SchemaProvider.
func (timeOut) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Pattern: `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$`, Description: "UTC, ISO 8601 without offset, microseconds",
		Examples: []any{"2025-01-12T08:00:00.000000"},
	}
}

// kindIn is a kind that is checked by the node itself: an unknown one is
// answered with 400.
type kindIn string

// Schema implements huma.SchemaProvider.
func (kindIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, MinLength: new(1), Extensions: map[string]any{"enum": orNothing(node.Kinds)}}
}

// orNothing lists the values and null.
func orNothing[T ~string](values []T) []any {
	list := []any{nil}
	for _, v := range values {
		list = append(list, string(v))
	}
	return list
}

// stateIn is a state or null.
type stateIn string

// Schema implements huma.SchemaProvider.
func (stateIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, Enum: orNothing(node.States), Description: "running when absent"}
}

// webAddress is an absolute http or https URL. It is not huma's to check: what
// is one is for the node to say, and no short pattern takes them all.
type webAddress string

// Schema implements huma.SchemaProvider.
func (webAddress) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Extensions: map[string]any{"pattern": webPattern},
		Description: "an absolute http or https URL",
	}
}

// webPattern is what addresses look like but those with an account or a numeric
// IPv6 host, which are taken too.
const webPattern = `^https?://([A-Za-z0-9._~!$&'()*+,;=<>"\-]|[^\x00-\x7F])+(:[0-9]{0,5})?([/?#]([^\x00-\x1F\x7F%]|%[0-9A-Fa-f]{2})*)?$`

type nodeDoc struct {
	ID             objectID          `json:"id"`
	Kind           string            `json:"kind" enum:"node,checkout,kbuild,job,test,process,regression"`
	Name           string            `json:"name"`
	Path           []string          `json:"path" doc:"names from the top node to this one"`
	Group          *string           `json:"group"`
	Parent         *objectID         `json:"parent" nullable:"true"`
	State          string            `json:"state" enum:"running,available,closing,done"`
	Result         *string           `json:"result" nullable:"true" doc:"pass, fail, skip, incomplete, or null for none yet"`
	Artifacts      map[string]string `json:"artifacts" doc:"name to URL"`
	Data           map[string]any    `json:"data" doc:"what the kind says, and keys of the client's own"`
	Debug          map[string]any    `json:"debug"`
	JobFilter      []string          `json:"jobfilter" nullable:"true" doc:"names of jobs, with + for all below one; null for any"`
	PlatformFilter []string          `json:"platform_filter"`
	Created        timeOut           `json:"created"`
	Updated        timeOut           `json:"updated"`
	Timeout        timeOut           `json:"timeout"`
	Holdoff        *timeOut          `json:"holdoff" nullable:"true"`
	Owner          *string           `json:"owner"`
	Submitter      *string           `json:"submitter"`
	TreeID         *string           `json:"treeid"`
	UserGroups     []string          `json:"user_groups"`
	KCIDBProcessed bool              `json:"processed_by_kcidb_bridge"`
	RetryCounter   int               `json:"retry_counter" minimum:"0"`
}

// NewNodeDoc is a node as clients create it. Other fields are ignored; null is
// the same as absent.
type NewNodeDoc struct {
	Kind           kindIn                `json:"kind,omitempty" doc:"node when absent"`
	Name           string                `json:"name" minLength:"1"`
	Path           []string              `json:"path" minItems:"1" doc:"names from the top node to this one"`
	Group          *string               `json:"group,omitempty" nullable:"true"`
	Parent         *objectID             `json:"parent,omitempty" nullable:"true"`
	State          stateIn               `json:"state,omitempty"`
	Result         resultIn              `json:"result,omitempty"`
	Artifacts      map[string]webAddress `json:"artifacts,omitempty" nullable:"true" doc:"name to absolute http or https URL"`
	Data           dataIn                `json:"data,omitempty"`
	Debug          map[string]any        `json:"debug,omitempty" nullable:"true"`
	JobFilter      []string              `json:"jobfilter,omitempty" nullable:"true" doc:"names of jobs, with + for all below one; null for any"`
	PlatformFilter []string              `json:"platform_filter,omitempty" nullable:"true"`
	Created        *timeIn               `json:"created,omitempty" nullable:"true"`
	Updated        *timeIn               `json:"updated,omitempty" nullable:"true"`
	Timeout        *timeIn               `json:"timeout,omitempty" nullable:"true" doc:"six hours from now when absent"`
	Holdoff        *timeIn               `json:"holdoff,omitempty" nullable:"true"`
	Owner          *string               `json:"owner,omitempty" nullable:"true" doc:"ignored: it is who creates the node"`
	Submitter      *string               `json:"submitter,omitempty" nullable:"true"`
	TreeID         *string               `json:"treeid,omitempty" nullable:"true"`
	UserGroups     []string              `json:"user_groups,omitempty" nullable:"true" doc:"names of groups that exist"`
	KCIDBProcessed *bool                 `json:"processed_by_kcidb_bridge,omitempty" nullable:"true"`
	RetryCounter   *int                  `json:"retry_counter,omitempty" nullable:"true" minimum:"0" maximum:"1000000"`
}

// nodeInDoc is a node as clients send it back. The id is that of the path,
// whatever this one says.
type nodeInDoc struct {
	ID    *objectID `json:"id,omitempty" nullable:"true"`
	AltID *objectID `json:"_id,omitempty" nullable:"true" doc:"the same as id"`
	NewNodeDoc
}

// resultIn is a result or null.
type resultIn string

// Schema implements huma.SchemaProvider.
func (resultIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, Enum: orNothing(node.Results)}
}

// orNull is a T or null, for what huma has no nullable form of.
type orNull[T any] struct{}

// Schema implements huma.SchemaProvider.
func (orNull[T]) Schema(registry huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{registry.Schema(reflect.TypeFor[T](), true, ""), {Type: "null"}}}
}

// dataIn is what is known of a node's data; other keys are the client's own.
type dataIn struct{}

// Schema implements huma.SchemaProvider.
func (dataIn) Schema(registry huma.Registry) *huma.Schema {
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString, Nullable: true} }
	properties := map[string]*huma.Schema{
		"kernel_revision": orNull[revisionDoc]{}.Schema(registry),
	}
	for _, key := range node.TextKeys {
		properties[key] = text()
	}
	for _, key := range node.IDKeys {
		properties[key] = objectID("").Schema(registry)
		properties[key].Nullable = true
	}
	return &huma.Schema{
		Type: huma.TypeObject, Nullable: true, Properties: properties, AdditionalProperties: true, Extensions: map[string]any{ownKeys: true},
	}
}

type revisionDoc struct {
	Tree          string             `json:"tree" minLength:"1"`
	URL           gitAddress         `json:"url"`
	Branch        string             `json:"branch" minLength:"1"`
	Commit        string             `json:"commit" minLength:"1"`
	Describe      *string            `json:"describe,omitempty" nullable:"true"`
	Version       orNull[versionDoc] `json:"version,omitempty"`
	Patchset      *string            `json:"patchset,omitempty" nullable:"true"`
	CommitTags    []string           `json:"commit_tags,omitempty" nullable:"true"`
	CommitMessage *string            `json:"commit_message,omitempty" nullable:"true"`
	TipOfBranch   *bool              `json:"tip_of_branch,omitempty" nullable:"true"`
}

// gitAddress is an absolute URL of a tree.
type gitAddress string

// Schema implements huma.SchemaProvider.
func (gitAddress) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: `^[A-Za-z][A-Za-z0-9+.\-]*:`, Extensions: map[string]any{"format": "uri"}}
}

type versionDoc struct {
	Version    number         `json:"version"`
	PatchLevel number         `json:"patchlevel"`
	Sublevel   orNull[number] `json:"sublevel,omitempty"`
	Extra      *string        `json:"extra,omitempty" nullable:"true"`
	Name       *string        `json:"name,omitempty" nullable:"true"`
}

// number is an integer, or the text of one.
type number string

// Schema implements huma.SchemaProvider.
func (number) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{{Type: huma.TypeInteger}, {Type: huma.TypeString, Pattern: `^[0-9]{1,9}$`}}}
}

type hierarchyDoc struct {
	Node     nodeInDoc       `json:"node"`
	Children []descendantDoc `json:"child_nodes,omitempty" nullable:"true"`
}

type descendantDoc struct {
	Node     childDoc        `json:"node"`
	Children []descendantDoc `json:"child_nodes,omitempty" nullable:"true"`
}

type childDoc struct {
	NewNodeDoc
	Kind kindIn   `json:"kind,omitempty" doc:"the parent's when absent"`
	Path []string `json:"path,omitempty" nullable:"true" doc:"the parent's and the name when absent"`
}

// nodePatchDoc has all that a PATCH may change; one at least.
type nodePatchDoc struct {
	State          string                `json:"state,omitempty" enum:"running,available,closing,done"`
	Result         resultIn              `json:"result,omitempty"`
	Artifacts      map[string]webAddress `json:"artifacts,omitempty"`
	Data           patchedData           `json:"data,omitempty"`
	Debug          map[string]any        `json:"debug,omitempty"`
	JobFilter      []string              `json:"jobfilter,omitempty" nullable:"true"`
	PlatformFilter []string              `json:"platform_filter,omitempty"`
	Timeout        timeIn                `json:"timeout,omitempty"`
	Holdoff        *timeIn               `json:"holdoff,omitempty" nullable:"true"`
	KCIDBProcessed bool                  `json:"processed_by_kcidb_bridge,omitempty"`
}

// patchedData is a node's data, not null.
type patchedData struct{}

// Schema implements huma.SchemaProvider.
func (patchedData) Schema(registry huma.Registry) *huma.Schema {
	schema := dataIn{}.Schema(registry)
	schema.Nullable = false
	return schema
}

// TransformSchema implements huma.SchemaTransformer: that nothing is given is
// answered with 400, so that it is not huma's to check.
func (nodePatchDoc) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	var given []any
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		given = append(given, map[string]any{"required": []string{name}})
	}
	schema.Extensions = map[string]any{"anyOf": given}
	return schema
}

// sentEventDoc is an event as clients publish it.
type sentEventDoc struct {
	Data something `json:"data"`
	EventContextDoc
}

// pushedEventDoc is an event as clients push it.
type pushedEventDoc struct {
	Data any `json:"data"`
	EventContextDoc
}

// EventContextDoc is what clients say of an event.
type EventContextDoc struct {
	Type       *string           `json:"type,omitempty" nullable:"true"`
	Source     *string           `json:"source,omitempty" nullable:"true"`
	Attributes map[string]string `json:"attributes,omitempty" nullable:"true" doc:"of the CloudEvent"`
}

// something is any value but null and an empty object.
type something struct{}

// Schema implements huma.SchemaProvider.
func (something) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Not: &huma.Schema{Enum: []any{nil, map[string]any{}}}}
}
