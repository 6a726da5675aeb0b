// Package catalog is the table of Kernelflow's functions: what each is called,
// what wakes it, what it may use, and how it is built from the parts of the
// application. The emulator, Cloud Run, Lambda and the infrastructure code all
// read this table; none repeats it.
//
// infra/functions.json is this table for tools that are not written in Go; a
// test keeps it in step.
package catalog

import (
	"context"
	"net/http"
	"time"

	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Trigger is what wakes a function: exactly one of its fields is set.
type Trigger struct {
	// Path is the prefix of the URLs that an HTTP function answers.
	Path string `json:"path,omitempty"`
	// Post is a pattern of paths (of http.ServeMux) of which the function, beside
	// those of Path, answers POST alone.
	Post string `json:"post,omitempty"`
	// Events selects the events that an event function handles.
	Events *event.Filter `json:"events,omitempty"`
	// Every is the period of a scheduled function.
	Every Seconds `json:"every_seconds,omitempty"`
}

// Seconds is a duration that reads as whole seconds in JSON.
type Seconds int

// Duration returns s as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Function is one row of the table.
type Function struct {
	Name    string  `json:"name"`
	Does    string  `json:"does"`
	Trigger Trigger `json:"trigger"`
	// Timeout bounds one invocation.
	Timeout Seconds `json:"timeout_seconds"`
	// MemoryMiB is what one instance gets.
	MemoryMiB int `json:"memory_mib"`
	// Concurrency is how many invocations may run at once; events of one tree
	// are never handled at once by one function.
	Concurrency int `json:"concurrency"`
	// Open builds the function from the parts of the application.
	Open func(*app.App) (Handler, error) `json:"-"`
}

// Handler is a built function. The field that fits the trigger is set.
type Handler struct {
	HTTP  http.Handler
	Event func(context.Context, event.Event) error
	Tick  func(context.Context) error
}

// Functions is the table, in the order of a checkout's life.
var Functions = []Function{
	{
		Name: "api", Does: "answers the KernelCI API, keeps uploads, and lets listeners wait for events",
		Trigger: Trigger{Path: "/"}, Timeout: 120, MemoryMiB: 512, Concurrency: 200, Open: openAPI,
	},
	{
		Name: "callback", Does: "takes what people ask of the pipeline (checkouts, retries, patchsets) and what labs report",
		Trigger: Trigger{Path: "/api/", Post: "/node/{id}"}, Timeout: 120, MemoryMiB: 512, Concurrency: 50, Open: openCallback,
	},
	{
		Name: "trigger", Does: "looks for new commits on every configured branch and creates checkouts",
		Trigger: Trigger{Every: 60}, Timeout: 300, MemoryMiB: 256, Concurrency: 1, Open: openTrigger,
	},
	{
		Name: "tarball", Does: "turns a new checkout's commit into a source archive in storage",
		Trigger: Trigger{Events: &event.Filter{
			Channel: event.ChannelNode, Kinds: []node.Kind{node.KindCheckout}, States: []node.State{node.Running},
		}}, Timeout: 3600, MemoryMiB: 1024, Concurrency: 2, Open: openTarball,
	},
	{
		Name: "scheduler", Does: "creates and submits the jobs that the configuration asks for",
		// What happens to a node, and requests for another attempt, which are
		// about a node too and come on a channel of their own.
		Trigger: Trigger{Events: &event.Filter{Ops: []event.Op{event.Created, event.Updated}}},
		Timeout: 300, MemoryMiB: 512, Concurrency: 8, Open: openScheduler,
	},
	{
		Name: "retry", Does: "asks for another attempt at builds and jobs that ended without a result",
		Trigger: Trigger{Events: &event.Filter{
			Channel: event.ChannelNode, Kinds: []node.Kind{node.KindKbuild, node.KindJob}, States: []node.State{node.Done},
		}}, Timeout: 60, MemoryMiB: 256, Concurrency: 8, Open: openRetry,
	},
	{
		Name: "submit", Does: "submits the jobs that their runtime did not take when they were created",
		Trigger: Trigger{Every: 60}, Timeout: 300, MemoryMiB: 512, Concurrency: 1, Open: openSubmit,
	},
	{
		Name: "results", Does: "makes results of what labs report",
		Trigger: Trigger{Events: &event.Filter{Channel: event.ChannelCallback}},
		Timeout: 300, MemoryMiB: 1024, Concurrency: 4, Open: openResults,
	},
	{
		Name: "poll", Does: "asks labs for jobs that are overdue",
		Trigger: Trigger{Every: pollPeriod}, Timeout: 300, MemoryMiB: 1024, Concurrency: 1, Open: openPoll,
	},
	{
		Name: "timeout", Does: "closes nodes whose timeout or holdoff has lapsed",
		Trigger: Trigger{Every: 60}, Timeout: 300, MemoryMiB: 256, Concurrency: 1, Open: openTimeout,
	},
	{
		Name: "regression", Does: "finds what passed on the previous checkout and fails now, and what was mended",
		Trigger: Trigger{Events: &event.Filter{
			Channel: event.ChannelNode, Kinds: []node.Kind{node.KindCheckout}, States: []node.State{node.Done},
		}}, Timeout: 600, MemoryMiB: 512, Concurrency: 4, Open: openRegression,
	},
	{
		Name: "report", Does: "mails one report for every finished checkout",
		Trigger: Trigger{Events: &event.Filter{
			Channel: event.ChannelNode, Kinds: []node.Kind{node.KindCheckout}, States: []node.State{node.Done},
		}}, Timeout: 300, MemoryMiB: 256, Concurrency: 4, Open: openReport,
	},
	{
		Name: "relay", Does: "publishes what a crash left unpublished and drops what is older than its retention",
		Trigger: Trigger{Every: 60}, Timeout: 300, MemoryMiB: 256, Concurrency: 1, Open: openRelay,
	},
}

// pollPeriod is between two passes over the jobs that labs have.
const pollPeriod = 60

// Lookup returns the function of that name.
func Lookup(name string) (Function, bool) {
	for _, f := range Functions {
		if f.Name == name {
			return f, true
		}
	}
	return Function{}, false
}
