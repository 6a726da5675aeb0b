package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// account is a user as it is kept: with what JSON never shows outside.
type account struct {
	user.User
	PasswordHash string `json:"password_hash"`
	Created      string `json:"created"`
}

func (s *Store) encode(u user.User) (string, error) {
	if u.Created.IsZero() {
		u.Created = s.clock()
	}
	doc, err := json.Marshal(account{User: u, PasswordHash: u.PasswordHash, Created: node.FormatTime(u.Created)})
	return string(doc), errs.Wrap(errs.Invalid, err)
}

func scanUser(row interface{ Scan(...any) error }) (user.User, error) {
	var doc []byte
	if err := row.Scan(&doc); err != nil {
		return user.User{}, err
	}
	var a account
	if err := json.Unmarshal(doc, &a); err != nil {
		return user.User{}, err
	}
	created, err := keptTime(a.Created)
	a.User.PasswordHash, a.User.Created = a.PasswordHash, created
	return a.User, err
}

// CreateUser implements store.Users.
func (s *Store) CreateUser(ctx context.Context, u user.User) error {
	doc, err := s.encode(u)
	if err != nil {
		return wrap(err, "CreateUser(%q)", u.Username)
	}
	err = s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO user (id, username, email, doc) VALUES (?, ?, ?, ?)",
			string(u.ID), strings.ToLower(u.Username), strings.ToLower(u.Email), doc)
		return err
	})
	return wrap(err, "CreateUser(%q)", u.Username)
}

// User implements store.Users.
func (s *Store) User(ctx context.Context, id node.ID) (user.User, error) {
	u, err := scanUser(s.read.QueryRowContext(ctx, "SELECT doc FROM user WHERE id = ?", string(id)))
	return u, wrap(err, "User(%s)", id)
}

// UserByName implements store.Users.
func (s *Store) UserByName(ctx context.Context, name string) (user.User, error) {
	name = strings.ToLower(name)
	u, err := scanUser(s.read.QueryRowContext(ctx, "SELECT doc FROM user WHERE username = ? OR email = ? ORDER BY username = ? DESC", name, name, name))
	return u, wrap(err, "UserByName(%q)", name)
}

// UpdateUser implements store.Users.
func (s *Store) UpdateUser(ctx context.Context, id node.ID, change func(*user.User) error) (user.User, error) {
	var u user.User
	err := s.writer.submit(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		u, err = scanUser(tx.QueryRowContext(ctx, "SELECT doc FROM user WHERE id = ?", string(id)))
		if err != nil {
			return err
		}
		if err := change(&u); err != nil {
			return err
		}
		u.ID = id
		doc, err := s.encode(u)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE user SET username = ?, email = ?, doc = ? WHERE id = ?",
			strings.ToLower(u.Username), strings.ToLower(u.Email), doc, string(id))
		return err
	})
	if err != nil {
		return user.User{}, wrap(err, "UpdateUser(%s)", id)
	}
	return u, nil
}

// ListUsers implements store.Users.
func (s *Store) ListUsers(ctx context.Context, limit, offset int) ([]user.User, int64, error) {
	var total int64
	if err := s.read.QueryRowContext(ctx, "SELECT count(*) FROM user").Scan(&total); err != nil {
		return nil, 0, wrap(err, "ListUsers()")
	}
	rows, err := s.read.QueryContext(ctx, "SELECT doc FROM user ORDER BY seq LIMIT ? OFFSET ?", limit, offset)
	if err != nil {
		return nil, 0, wrap(err, "ListUsers()")
	}
	defer rows.Close()
	list := []user.User{}
	for rows.Next() {
		u, err := scanUser(rows)
		if err != nil {
			return nil, 0, wrap(err, "ListUsers()")
		}
		list = append(list, u)
	}
	return list, total, wrap(rows.Err(), "ListUsers()")
}
