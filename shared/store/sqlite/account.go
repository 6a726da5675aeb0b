package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// accountTables: member says which accounts are in a group; the account's
// document has the same.
const accountTables = `
CREATE TABLE user (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, username TEXT NOT NULL UNIQUE, email TEXT UNIQUE,
	active INTEGER NOT NULL, superuser INTEGER NOT NULL, verified INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE INDEX user_active ON user (active);
CREATE INDEX user_superuser ON user (superuser, active);
CREATE INDEX user_verified ON user (verified);
CREATE TABLE usergroup (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE);
CREATE TABLE member (name TEXT, user TEXT, usergroup TEXT NOT NULL, PRIMARY KEY (name, user)) WITHOUT ROWID;
CREATE INDEX member_user ON member (user);
CREATE INDEX member_usergroup ON member (usergroup);
CREATE TABLE token (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, user TEXT NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL,
	prefixes TEXT NOT NULL, created TEXT NOT NULL, expires TEXT);
CREATE INDEX token_user ON token (user);
`

// page reads the documents of a page of a table, in the order of creation, and
// counts all that is selected.
func (s *Store) page(ctx context.Context, from string, args []any, limit, offset int, each func(*sql.Rows) error) (int64, error) {
	t, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	defer t.Rollback() // it has only read
	var total int64
	if err := t.QueryRowContext(ctx, "SELECT count(*) FROM "+from, args...).Scan(&total); err != nil {
		return 0, err
	}
	rows, err := t.QueryContext(ctx, "SELECT doc FROM "+from+" ORDER BY seq LIMIT ? OFFSET ?", append(args, orAll(limit), max(offset, 0))...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return 0, err
		}
	}
	return total, rows.Err()
}

// CreateGroup stores a new group.
func (s *Store) CreateGroup(ctx context.Context, g user.Group) error {
	err := checkGroup(g)
	if err == nil {
		err = s.writer.do(ctx, func(_ *operation, t *tx) error {
			_, err := t.exec("INSERT INTO usergroup (id, name) VALUES (?, ?)", string(g.ID), g.Name)
			return err
		})
	}
	return s.failure(ctx, fmt.Sprintf("sqlite.CreateGroup(%.60q)", g.Name), err)
}

func checkGroup(g user.Group) error {
	if _, err := node.ParseID(string(g.ID)); err != nil {
		return fmt.Errorf("id: %w", err)
	}
	if g.Name == "" {
		return errs.New(errs.Invalid, "name: must not be empty")
	}
	return nil
}

// Group returns a group by id.
func (s *Store) Group(ctx context.Context, id node.ID) (user.Group, error) {
	g := user.Group{ID: id}
	err := s.read.QueryRowContext(ctx, "SELECT name FROM usergroup WHERE id = ?", string(id)).Scan(&g.Name)
	return g, s.failure(ctx, fmt.Sprintf("sqlite.Group(%s)", id), orNotFound(err, "user group %.60q", string(id)))
}

// ListGroups returns a page of the groups, oldest first, and how many there
// are.
func (s *Store) ListGroups(ctx context.Context, name string, limit, offset int) ([]user.Group, int64, error) {
	from, args := "(SELECT seq, json_object('id', id, 'name', name) AS doc FROM usergroup WHERE 1", []any{}
	if name != "" {
		from, args = from+" AND name = ?", append(args, name)
	}
	groups := []user.Group{}
	total, err := s.page(ctx, from+")", args, limit, offset, func(rows *sql.Rows) error {
		var doc string
		var g user.Group
		err := rows.Scan(&doc)
		if err == nil {
			err = json.Unmarshal([]byte(doc), &g)
		}
		groups = append(groups, g)
		return err
	})
	return groups, total, s.failure(ctx, "sqlite.ListGroups()", err)
}

// DeleteGroup removes a group that no account is in.
func (s *Store) DeleteGroup(ctx context.Context, id node.ID) error {
	err := s.writer.do(ctx, func(_ *operation, t *tx) error {
		var name, member string
		if err := t.queryRow("DELETE FROM usergroup WHERE id = ? RETURNING name", string(id)).Scan(&name); err != nil {
			return orNotFound(err, "user group %.60q", string(id))
		}
		err := t.queryRow("SELECT user FROM member WHERE usergroup = ? LIMIT 1", string(id)).Scan(&member)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = errs.New(errs.Conflict, "user group %.60q is assigned to users", name)
		}
		return err
	})
	return s.failure(ctx, fmt.Sprintf("sqlite.DeleteGroup(%s)", id), err)
}

// CreateToken stores a new token.
func (s *Store) CreateToken(ctx context.Context, token user.Token) error {
	scopes, err := json.Marshal(token.Scopes)
	if err != nil {
		return err
	}
	prefixes, err := json.Marshal(token.Prefixes)
	if err == nil {
		err = s.writer.do(ctx, func(_ *operation, t *tx) error {
			_, err := t.exec("INSERT INTO token (id, user, name, scopes, prefixes, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
				string(token.ID), string(token.User), token.Name, string(scopes), string(prefixes), node.FormatTime(token.Created), timeOrNull(token.Expires))
			return err
		})
	}
	return s.failure(ctx, fmt.Sprintf("sqlite.CreateToken(%s)", token.ID), err)
}

const selectToken = "SELECT id, user, name, scopes, prefixes, created, ifnull(expires, '') FROM token WHERE "

func scanToken(from interface{ Scan(...any) error }) (user.Token, error) {
	var t user.Token
	var scopes, prefixes, created, expires string
	err := from.Scan(&t.ID, &t.User, &t.Name, &scopes, &prefixes, &created, &expires)
	if err == nil {
		err = json.Unmarshal([]byte(scopes), &t.Scopes)
	}
	if err == nil {
		err = json.Unmarshal([]byte(prefixes), &t.Prefixes)
	}
	if err == nil {
		t.Created, err = parseTime(created)
	}
	if err == nil {
		t.Expires, err = parseTime(expires)
	}
	return t, err
}

// Token returns a token by id.
func (s *Store) Token(ctx context.Context, id node.ID) (user.Token, error) {
	t, err := scanToken(s.read.QueryRowContext(ctx, selectToken+"id = ?", string(id)))
	return t, s.failure(ctx, fmt.Sprintf("sqlite.Token(%s)", id), orNotFound(err, "token %.60q", string(id)))
}

// ListTokens returns up to limit tokens of an account, oldest first.
func (s *Store) ListTokens(ctx context.Context, owner node.ID, limit int) ([]user.Token, error) {
	tokens, err := s.listTokens(ctx, owner, limit)
	return tokens, s.failure(ctx, fmt.Sprintf("sqlite.ListTokens(%s)", owner), err)
}

func (s *Store) listTokens(ctx context.Context, owner node.ID, limit int) ([]user.Token, error) {
	rows, err := s.read.QueryContext(ctx, selectToken+"user = ? ORDER BY seq LIMIT ?", string(owner), orAll(limit))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	tokens := []user.Token{}
	for rows.Next() {
		t, err := scanToken(rows)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
	}
	return tokens, rows.Err()
}

// DeleteToken removes a token of that owner.
func (s *Store) DeleteToken(ctx context.Context, owner, id node.ID) error {
	err := s.changeOne(ctx, fmt.Sprintf("token %.60q", string(id)), "DELETE FROM token WHERE id = ? AND user = ?", string(id), string(owner))
	return s.failure(ctx, fmt.Sprintf("sqlite.DeleteToken(%s)", id), err)
}
