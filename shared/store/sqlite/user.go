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
	"github.com/kernelflow/kernelflow/shared/store"
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
		_, err := t.exec("INSERT INTO user (id, username, email, active, superuser, verified, doc) VALUES (?, ?, ?, ?, ?, ?, ?)",
			string(u.ID), key(u.Username), orNull(key(u.Email)), u.Active, u.Superuser, u.Verified, doc)
		if err != nil {
			return err
		}
		return t.writeMember(u)
	})
	return s.failure(ctx, call, err)
}

// writeMember notes which groups an account is in.
func (t *tx) writeMember(u user.User) error {
	if _, err := t.exec("DELETE FROM member WHERE user = ?", string(u.ID)); err != nil {
		return err
	}
	for _, g := range u.Groups {
		if _, err := t.exec("INSERT OR IGNORE INTO member (name, user, usergroup) VALUES (?, ?, ?)", g.Name, string(u.ID), string(g.ID)); err != nil {
			return err
		}
	}
	return nil
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
	_, err = t.exec("UPDATE user SET username = ?, email = ?, active = ?, superuser = ?, verified = ?, doc = ? WHERE id = ?",
		key(u.Username), orNull(key(u.Email)), u.Active, u.Superuser, u.Verified, doc, string(u.ID))
	if err != nil {
		return err
	}
	return t.writeMember(u)
}

// DeleteUser removes an account and its tokens.
func (s *Store) DeleteUser(ctx context.Context, id node.ID) error {
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		var seq int64
		if err := t.queryRow("DELETE FROM user WHERE id = ? RETURNING seq", string(id)).Scan(&seq); err != nil {
			return orNotFound(err, "user %.60q", string(id))
		}
		for _, text := range []string{"DELETE FROM member WHERE user = ?", "DELETE FROM token WHERE user = ?"} {
			if _, err := t.exec(text, string(id)); err != nil {
				return err
			}
		}
		return nil
	})
	return s.failure(ctx, fmt.Sprintf("sqlite.DeleteUser(%s)", id), err)
}

// ListUsers returns a page of accounts, oldest first, and how many there are.
func (s *Store) ListUsers(ctx context.Context, f store.UserFilter, limit, offset int) ([]user.User, int64, error) {
	users := []user.User{}
	from, args := selected(f)
	total, err := s.page(ctx, from, args, limit, offset, func(rows *sql.Rows) error {
		u, err := userOf(rows, "")
		users = append(users, u)
		return err
	})
	return users, total, s.failure(ctx, "sqlite.ListUsers()", err)
}

// selected is the part of a query that selects accounts.
func selected(f store.UserFilter) (string, []any) {
	text, args := "user WHERE 1", []any{}
	if f.Group != "" {
		text, args = "member CROSS JOIN user ON user.id = member.user WHERE member.name = ?", []any{f.Group}
	}
	for _, c := range []struct {
		column string
		value  any
		there  bool
	}{
		{"username", key(f.Username), f.Username != ""},
		{"email", key(f.Email), f.Email != ""},
		{"active", f.Active, f.Active != nil},
		{"superuser", f.Superuser, f.Superuser != nil},
		{"verified", f.Verified, f.Verified != nil},
	} {
		if c.there {
			text, args = text+" AND "+c.column+" = ?", append(args, c.value)
		}
	}
	return text, args
}
