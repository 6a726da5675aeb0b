package api

import (
	"context"
	"errors"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/mail"
	"github.com/kernelflow/kernelflow/shared/user"
)

const (
	mailTime   = time.Minute // what sending one mail may take
	maxMailing = 8           // mails under way at once
)

// errNoMail says that this instance sends no mails.
var errNoMail = errs.New(errs.Invalid, "no mail is configured")

// send mails a text to an account's address.
func (f *Function) send(ctx context.Context, to user.User, subject, text string) error {
	if f.mail == nil {
		return errNoMail
	}
	id, err := f.newUUID()
	if err != nil {
		return err
	}
	return f.mail.Send(ctx, mail.Message{
		ID: id + "@kernelflow", Date: f.now(), From: f.mailFrom, To: []string{to.Email}, Subject: subject, Text: text, Private: true,
	})
}

// sendLater is send after the answer, so that the time which it takes does not
// tell whether the account exists. A mail that is lost by a crash, or because
// too many are under way, is asked for again by its reader.
func (f *Function) sendLater(ctx context.Context, to user.User, subject, text string) {
	select {
	case f.mailing <- struct{}{}:
	default:
		f.log.Warn("a mail is not sent: too many are under way", "subject", subject, "user", to.Username)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mailTime)
	go func() {
		defer func() { <-f.mailing }()
		defer cancel()
		if err := f.send(ctx, to, subject, text); err != nil && !errors.Is(err, errNoMail) {
			f.log.Warn("a mail is not sent", "subject", subject, "user", to.Username, "error", err)
		}
	}()
}
