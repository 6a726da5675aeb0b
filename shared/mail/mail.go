// Package mail sends reports, by SMTP or into a folder of .eml files, through
// go-mail.
//
// The same [Message] always becomes the same bytes, so that a report can be
// held to a golden file. A folder tells by the Message-ID what it has, so
// sending again does nothing ([Sender.Repeatable]); a mail server cannot tell,
// so who sends by SMTP must remember that it did.
package mail

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Message is one mail, with a plain text and an HTML part.
type Message struct {
	ID         string    // Message-ID without the angle brackets
	Date       time.Time // UTC
	From       string
	To, Cc     []string
	Subject    string
	Text       string
	HTML       string   // "": plain text only
	InReplyTo  string   // Message-ID without brackets; "": starts a thread
	References []string // Message-IDs without brackets
	Private    bool     // what it says is for its recipients' eyes alone
}

// ErrUnsure says that a mail is on the server and that the server's answer was
// lost: to send it again may be to send it twice. It is an errs.Conflict.
var ErrUnsure = errs.New(errs.Conflict, "the mail server may have taken the mail, its answer was lost")

// Sender sends mails.
type Sender interface {
	// Send returns when the mail is handed over. Invalid: it will never be
	// taken; Temporary: it may be later; ErrUnsure: it may have been.
	Send(ctx context.Context, m Message) error
	// Repeatable says whether sending a message of the same ID again has no
	// second effect.
	Repeatable() bool
}

// compose builds the mail. Header values are encoded by go-mail, which lets no
// line break through.
func compose(m Message) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent(), mail.WithEncoding(mail.EncodingQP), mail.WithBoundary(boundary(m.ID)))
	if err := errors.Join(msg.From(m.From), msg.To(m.To...), msg.Cc(m.Cc...)); err != nil {
		return nil, errs.Wrap(errs.Invalid, err)
	}
	if len(m.To)+len(m.Cc) == 0 {
		return nil, errs.New(errs.Invalid, "nobody to send it to")
	}
	if err := checkIDs(m); err != nil {
		return nil, err
	}
	msg.SetMessageIDWithValue(m.ID)
	msg.SetDateWithValue(m.Date.UTC())
	msg.Subject(oneLine(m.Subject))
	// Not preformatted: go-mail writes those in an order that changes.
	if m.InReplyTo != "" {
		msg.SetGenHeader(mail.HeaderInReplyTo, "<"+m.InReplyTo+">")
	}
	if len(m.References) > 0 {
		msg.SetGenHeader(mail.HeaderReferences, "<"+strings.Join(m.References, "> <")+">")
	}
	msg.SetBodyString(mail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(mail.TypeTextHTML, m.HTML)
	}
	return msg, nil
}

// idForm is an id of a message as it stands in a header without encoding.
var idForm = regexp.MustCompile(`^[!#-;=?-~]{1,200}$`)

func checkIDs(m Message) error {
	ids := append([]string{m.ID}, m.References...)
	if m.InReplyTo != "" {
		ids = append(ids, m.InReplyTo)
	}
	for _, id := range ids {
		if !idForm.MatchString(id) {
			return errs.New(errs.Invalid, "message id %.80q", id)
		}
	}
	return nil
}

// boundary parts the bodies; it follows from the ID so that the bytes do.
func boundary(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\r' || r == '\n' }), " ")
}

// Folder keeps mails as files.
type Folder struct{ dir string }

// NewFolder returns a sender into dir, which is made when it does not exist.
func NewFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("mail.NewFolder(%s): %w", dir, errs.Wrap(errs.Temporary, err))
	}
	return &Folder{dir: dir}, nil
}

// Repeatable implements Sender: a file of the same name is the same mail.
func (*Folder) Repeatable() bool { return true }

// Send writes the mail to a file named by its Message-ID.
func (f *Folder) Send(_ context.Context, m Message) error {
	if err := f.write(m); err != nil {
		return fmt.Errorf("mail.Folder.Send(%s): %w", m.ID, err)
	}
	return nil
}

func (f *Folder) write(m Message) error {
	msg, err := compose(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return errs.Wrap(errs.Invalid, err)
	}
	file := filepath.Join(f.dir, fileName(m.ID))
	if _, err := os.Lstat(file); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap(errs.Temporary, err)
	}
	return errs.Wrap(errs.Temporary, durable(file, b.Bytes()))
}

// fileName keeps the readable part of the id and nothing that leads elsewhere.
// An id that loses something by that gets a word of its own instead, so that no
// two ids share a file.
func fileName(id string) string {
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_@.", r) {
			return r
		}
		return '_'
	}, id)
	plain = strings.TrimLeft(plain, ".")
	if plain != id {
		plain += "-" + boundary(id)
	}
	return plain + ".eml"
}

// durable writes a file so that it is there whole or not at all, and leaves
// alone what is there.
func durable(file string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*") // mode 0600: a mail is between its sender and who gets it
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = place(tmp.Name(), file)
	}
	if gone := os.Remove(tmp.Name()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// place gives a file its name unless there is one of that name. A file system
// without links replaces it, by the same bytes.
func place(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.Rename(from, to)
}

// SMTPConfig says which server sends mails, and as whom.
type SMTPConfig struct {
	Host     string
	Port     int // 0: 587
	User     string
	Password string
}

// SMTP sends through a mail server. The connection is encrypted, unless the
// server is this machine.
type SMTP struct {
	client *mail.Client
	secret *strings.Replacer
}

// timeout bounds one conversation with the mail server.
const timeout = 30 * time.Second

// NewSMTP returns a sender through a server; nothing is connected yet.
func NewSMTP(c SMTPConfig) (*SMTP, error) {
	port := c.Port
	if port == 0 {
		port = mail.DefaultPortTLS
	}
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(timeout), mail.WithTLSPolicy(policy(c.Host))}
	if port == mail.DefaultPortSSL {
		options = append(options, mail.WithSSL())
	}
	if isThisMachine(c.Host) && c.User == "" {
		// Its certificate is often made out to another name, by itself. A
		// password goes only to a server that proves its name.
		options = append(options, mail.WithTLSConfig(&tls.Config{ServerName: c.Host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}))
	}
	if c.User != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(c.User), mail.WithPassword(c.Password))
	}
	client, err := mail.NewClient(c.Host, options...)
	if err != nil {
		return nil, fmt.Errorf("mail.NewSMTP(%s): %w", c.Host, errs.Wrap(errs.Invalid, err))
	}
	return &SMTP{client: client, secret: hiding(c)}, nil
}

// hiding leaves the password out of a text, in any form in which a server could
// say it back.
func hiding(c SMTPConfig) *strings.Replacer {
	if c.Password == "" {
		return strings.NewReplacer()
	}
	const instead = "[password]"
	encoded := base64.StdEncoding.EncodeToString
	return strings.NewReplacer(
		encoded([]byte("\x00"+c.User+"\x00"+c.Password)), instead,
		encoded([]byte(c.Password)), instead, c.Password, instead,
	)
}

// hidden is an error whose text is shown instead of that of its cause.
type hidden struct {
	text string
	kind error
}

func (h *hidden) Error() string { return h.text }
func (h *hidden) Unwrap() error { return h.kind }

func policy(host string) mail.TLSPolicy {
	if isThisMachine(host) {
		return mail.TLSOpportunistic
	}
	return mail.TLSMandatory
}

func isThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Repeatable implements Sender.
func (*SMTP) Repeatable() bool { return false }

// Send hands the mail to the server. Once the server has taken it, trouble in
// taking leave of the server is none.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	msg, err := compose(m)
	if err == nil {
		err = s.deliver(ctx, msg)
	}
	if err != nil {
		return fmt.Errorf("mail.SMTP.Send(%s): %w", m.ID, err)
	}
	return nil
}

func (s *SMTP) deliver(ctx context.Context, msg *mail.Msg) error {
	err := s.client.DialAndSendWithContext(ctx, msg)
	if err == nil || msg.IsDelivered() {
		return nil
	}
	return &hidden{text: s.secret.Replace(err.Error()), kind: outcome(err)}
}

// outcome tells a refusal for good, and an answer that never came, from
// everything that may pass.
func outcome(err error) error {
	var refused *mail.SendError
	if !errors.As(err, &refused) {
		return errs.Temporary
	}
	switch code := refused.ErrorCode(); {
	case code >= 500:
		return errs.Invalid
	case code == 0 && refused.Reason == mail.ErrSMTPDataClose:
		return ErrUnsure
	}
	return errs.Temporary
}
