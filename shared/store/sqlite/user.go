package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// account is a user as stored: with what is never sent.
type account struct {
	user.User
	Hash    string    `json:"password_hash"`
	Created time.Time `json:"created"`
}

func encodeUser(u user.User) (string, error) {
	b, err := json.Marshal(account{User: u, Hash: u.PasswordHash, Created: u.Created})
	return string(b), err
}

func decodeUser(doc string) (user.User, error) {
	var a account
	if err := json.Unmarshal([]byte(doc), &a); err != nil {
		return user.User{}, fmt.Errorf("a stored user: %w", err)
	}
	a.User.PasswordHash, a.User.Created = a.Hash, a.Created
	return a.User, nil
}

// settleUser fills what must not be empty.
func (s *Store) settleUser(u user.User) (user.User, error) {
	if _, err := node.ParseID(string(u.ID)); err != nil {
		return u, fmt.Errorf("id: %w", err)
	}
	if u.Username == "" {
		return u, errs.New(errs.Invalid, "username: must not be empty")
	}
	if u.Created.IsZero() {
		u.Created = s.now()
	}
	u.Created = node.Time(u.Created)
	u.Groups = append([]user.Group{}, u.Groups...)
	return u, nil
}

// CreateUser stores a new account.
func (s *Store) CreateUser(ctx context.Context, u user.User) error {
	call := fmt.Sprintf("sqlite.CreateUser(%s)", u.Username)
	u, err := s.settleUser(u)
	if err != nil {
		return s.failure(ctx, call, err)
	}
	doc, err := encodeUser(u)
	if err != nil {
		return s.failure(ctx, call, err)
	}
	err = s.writer.do(ctx, func(_ *operation, t *tx) error {
		_, err := t.exec("INSERT INTO user (id, username, email, doc) VALUES (?, ?, ?, ?)", string(u.ID), key(u.Username), orNull(key(u.Email)), doc)
		return err
	})
	return s.failure(ctx, call, err)
}

// key is a name as it is compared: whatever its case.
func key(name string) string { return strings.ToLower(name) }

// User returns an account by id.
func (s *Store) User(ctx context.Context, id node.ID) (user.User, error) {
	u, err := userOf(s.read.QueryRowContext(ctx, "SELECT doc FROM user WHERE id = ?", string(id)), string(id))
	return u, s.failure(ctx, fmt.Sprintf("sqlite.User(%s)", id), err)
}

// UserByName returns an account by username or email. A username goes before
// an email of the same text.
func (s *Store) UserByName(ctx context.Context, name string) (user.User, error) {
	u, err := userOf(s.read.QueryRowContext(ctx, "SELECT doc FROM user WHERE username = ?1 OR email = ?1 ORDER BY username <> ?1", key(name)), name)
	return u, s.failure(ctx, fmt.Sprintf("sqlite.UserByName(%.60q)", name), err)
}

func userOf(from interface{ Scan(...any) error }, what string) (user.User, error) {
	var doc string
	if err := from.Scan(&doc); err != nil {
		return user.User{}, orNotFound(err, "user %.60q", what)
	}
	return decodeUser(doc)
}

// UpdateUser changes an account.
func (s *Store) UpdateUser(ctx context.Context, id node.ID, change func(*user.User) error) (user.User, error) {
	var u user.User
	var refused error
	err := s.writer.do(ctx, func(o *operation, t *tx) error {
		before, err := userOf(t.queryRow("SELECT doc FROM user WHERE id = ?", string(id)), string(id))
		if err != nil {
			return err
		}
		u = before
		if err := o.onCaller(func() error { refused = change(&u); return refused }); err != nil {
			return err
		}
		u.ID, u.Created = before.ID, before.Created
		if u, err = s.settleUser(u); err != nil {
			return err
		}
		return t.writeUser(u)
	})
	if refused != nil {
		return user.User{}, refused
	}
	if err != nil {
		return user.User{}, s.failure(ctx, fmt.Sprintf("sqlite.UpdateUser(%s)", id), err)
	}
	return u, nil
}

func (t *tx) writeUser(u user.User) error {
	doc, err := encodeUser(u)
	if err != nil {
		return err
	}
	_, err = t.exec("UPDATE user SET username = ?, email = ?, doc = ? WHERE id = ?", key(u.Username), orNull(key(u.Email)), doc, string(u.ID))
	return err
}

// ListUsers returns a page of accounts, oldest first, and how many there are.
func (s *Store) ListUsers(ctx context.Context, limit, offset int) ([]user.User, int64, error) {
	users, total, err := s.listUsers(ctx, limit, offset)
	return users, total, s.failure(ctx, "sqlite.ListUsers()", err)
}

func (s *Store) listUsers(ctx context.Context, limit, offset int) ([]user.User, int64, error) {
	t, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, err
	}
	defer t.Rollback() // it has only read
	var total int64
	if err := t.QueryRowContext(ctx, "SELECT count(*) FROM user").Scan(&total); err != nil {
		return nil, 0, err
	}
	rows, err := t.QueryContext(ctx, "SELECT doc FROM user ORDER BY seq LIMIT ? OFFSET ?", orAll(limit), max(offset, 0))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	users := []user.User{}
	for rows.Next() {
		u, err := userOf(rows, "")
		if err != nil {
			return nil, 0, err
		}
		users = append(users, u)
	}
	return users, total, rows.Err()
}
