// Package report is the function that mails one report for every finished
// checkout: regressions first, then a table of what ran, then each failing
// test with a link to its log. It waits for the regression function, whose
// findings are in the checkout's data.regressions.
//
// # One mail, whatever happens
//
// The message's id follows from the checkout. A sender that knows by the id
// what it has sent (a folder) is simply asked again after a crash. Another one
// (SMTP) is asked only by who has claimed the checkout's report for good; when
// that one crashes between the claim and the mail, the mail is not sent, since
// nobody can tell whether it was: the log says so. The same holds when the mail
// server's answer is lost: the event ends as a dead letter and the claim stays.
// That a report is out is taken down in the checkout's debug data, so that later
// events end early.
//
// The report of what a person asked for, a checkout or a patchset, goes to that
// person alone. The submitter names who that is, and is believed of nodes of the
// pipeline's owner: anybody else could send mail to anybody by it.
//
// # What is counted
//
// A run is a build or a job. Its totals are over the test cases below it that
// have none below themselves. A failure is a failing test case, or a failing
// run without one; the subject, the table and the list agree on it. Of several
// attempts at a run one counts (see node.Attempts); the others are a list of their
// own.
//
// Lists in a mail are bounded; a last line says how many more there are.
package report

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/mail"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	post "github.com/kernelflow/kernelflow/shared/mail"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Store is what the function needs of the node store.
type Store interface {
	Get(ctx context.Context, id node.ID) (node.Node, error)
	Each(ctx context.Context, q node.Query) iter.Seq2[node.Node, error]
	Update(ctx context.Context, id node.ID, change func(*node.Node) error, opts ...store.Option) (node.Node, error)
	store.Claims
}

// Options are the parts of the function.
type Options struct {
	Store  Store
	Sender post.Sender
	From   string // the sender's address, with or without a name
	To     []string
	Owner  string // of the pipeline's nodes, whose submitters are believed
	Prefix string // first word of the subject; "" for none
	URL    string // of the API, for links to nodes
	Holder string // names this process, in claims
	Log    *slog.Logger
}

// Function handles events of checkouts.
type Function struct {
	Options
	host  string
	calls atomic.Int64
}

// New builds the function; an address that is none is Invalid.
func New(o Options) (*Function, error) {
	if o.Store == nil || o.Sender == nil || o.Holder == "" || o.Log == nil {
		return nil, errs.New(errs.Invalid, "report.New: a part is missing")
	}
	from, err := mail.ParseAddress(o.From)
	if err != nil {
		return nil, errs.New(errs.Invalid, "MAIL_FROM %q: %s", o.From, err)
	}
	if len(o.To) == 0 {
		return nil, errs.New(errs.Invalid, "MAIL_TO: names nobody")
	}
	for _, to := range o.To {
		if _, err := mail.ParseAddress(to); err != nil {
			return nil, errs.New(errs.Invalid, "MAIL_TO %q: %s", to, err)
		}
	}
	_, host, _ := strings.Cut(from.Address, "@")
	return &Function{Options: o, host: host}, nil
}

// sentKey is where the checkout's debug data holds the id of its report.
const sentKey = "report"

// Handle sends the report of the event's checkout, unless it is out already or
// something is still missing.
func (f *Function) Handle(ctx context.Context, e event.Event) error {
	p, err := e.Node()
	if err != nil {
		return err
	}
	checkout, err := f.Store.Get(ctx, p.ID)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if checkout.Kind != node.KindCheckout || checkout.State != node.Done || checkout.Data["regressions"] == nil || checkout.Debug[sentKey] != nil {
		return nil
	}
	if err := f.report(ctx, checkout); err != nil {
		return fmt.Errorf("report of checkout %s: %w", checkout.ID, err)
	}
	return nil
}

func (f *Function) report(ctx context.Context, checkout node.Node) error {
	key := "report/" + string(checkout.ID)
	// A holder may claim twice, so each call is one of its own.
	holder := f.Holder + "/" + strconv.FormatInt(f.calls.Add(1), 10)
	if !f.Sender.Repeatable() {
		err := f.Store.Claim(ctx, key, holder, time.Time{})
		if errors.Is(err, errs.Conflict) {
			f.Log.WarnContext(ctx, "a report is claimed already and is not sent again", "checkout", checkout.ID)
			return nil
		}
		if err != nil {
			return err
		}
	}
	message, err := f.message(ctx, checkout)
	if err == nil {
		err = f.Sender.Send(ctx, message)
	}
	switch {
	case errors.Is(err, post.ErrUnsure):
		return err
	case err != nil:
		return errors.Join(err, f.Store.Release(context.WithoutCancel(ctx), key, holder))
	}
	f.Log.InfoContext(ctx, "report sent", "checkout", checkout.ID, "subject", message.Subject)
	return f.mark(ctx, checkout.ID, message.ID)
}

// mark takes down that the report is out. A claim says so too, so only without
// one the event has to come again for it.
func (f *Function) mark(ctx context.Context, id node.ID, message string) error {
	_, err := f.Store.Update(context.WithoutCancel(ctx), id, func(n *node.Node) error {
		if n.Debug == nil {
			n.Debug = map[string]any{}
		}
		n.Debug[sentKey] = message
		return nil
	}, store.Silent)
	if err != nil && !f.Sender.Repeatable() {
		f.Log.WarnContext(ctx, "that a report is sent could not be taken down", "checkout", id, "error", err)
		return nil
	}
	return err
}

// message makes the mail.
func (f *Function) message(ctx context.Context, checkout node.Node) (post.Message, error) {
	r, err := f.gather(ctx, checkout)
	if err != nil {
		return post.Message{}, err
	}
	var plain, rich bytes.Buffer
	if err := r.WriteText(&plain); err != nil {
		return post.Message{}, err
	}
	if err := r.WriteHTML(&rich); err != nil {
		return post.Message{}, err
	}
	thread := f.thread(r.Tree, r.Branch)
	return post.Message{
		ID: string(checkout.ID) + ".report@" + f.host, Date: checkout.Updated, From: f.From, To: f.to(checkout),
		Subject: strings.TrimSpace(f.Prefix + " " + r.Subject()), Text: plain.String(), HTML: rich.String(),
		InReplyTo: thread, References: []string{thread},
	}, nil
}

// to lists whom the report is for.
func (f *Function) to(checkout node.Node) []string {
	address, person := strings.CutPrefix(checkout.Submitter, "user:")
	if !person || checkout.Owner != f.Owner {
		return f.To
	}
	if _, err := mail.ParseAddress(address); err != nil {
		return f.To
	}
	return []string{address}
}

// thread is the id that the reports of one tree and branch refer to, so that a
// mail reader shows them together.
func (f *Function) thread(tree, branch string) string {
	sum := sha256.Sum256([]byte(tree + "\x00" + branch))
	return hex.EncodeToString(sum[:12]) + ".thread@" + f.host
}

// Subject is the report's subject without its prefix.
func (r *Report) Subject() string {
	return fmt.Sprintf("%s/%s %s: %d runs %d failures", r.Tree, r.Branch, r.Describe, len(r.Runs)+r.MoreRuns, r.Failures)
}

// WriteText writes the plain text part.
func (r *Report) WriteText(w io.Writer) error { return textTemplate.Execute(w, r) }

// WriteHTML writes the HTML part, which loads nothing from anywhere.
func (r *Report) WriteHTML(w io.Writer) error { return htmlTemplate.Execute(w, r) }
