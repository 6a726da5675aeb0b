package mongo

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

func objectID(id node.ID) (bson.ObjectID, error) {
	oid, err := bson.ObjectIDFromHex(string(id))
	if err != nil {
		return oid, errs.New(errs.Invalid, "%.40q is not a valid ObjectId", string(id))
	}
	return oid, nil
}

// page reads the documents of a page of a collection and counts all that is
// selected.
func page[D any](ctx context.Context, c *mongo.Collection, selected bson.D, order []string, limit, offset int) ([]D, int64, error) {
	total, err := c.CountDocuments(ctx, selected)
	if err != nil {
		return nil, 0, err
	}
	cursor, err := c.Find(ctx, selected, options.Find().SetSort(ascending(order...)).
		SetSkip(int64(max(offset, 0))).SetLimit(int64(max(limit, 0))))
	if err != nil {
		return nil, 0, err
	}
	documents := []D{}
	err = cursor.All(ctx, &documents)
	return documents, total, err
}

// ListUsers returns a page of accounts, oldest first, and how many there are.
func (s *Store) ListUsers(ctx context.Context, f store.UserFilter, limit, offset int) ([]user.User, int64, error) {
	accounts, total, err := page[account](ctx, s.users, selected(f), []string{"_seq", "_id"}, limit, offset)
	users := make([]user.User, len(accounts))
	for i := range accounts {
		users[i] = accounts[i].user()
	}
	return users, total, s.failure(ctx, "mongo.ListUsers()", err)
}

func selected(f store.UserFilter) bson.D {
	d := bson.D{}
	for _, c := range []struct {
		field string
		value any
		there bool
	}{
		{"_username", key(f.Username), f.Username != ""},
		{"_email", key(f.Email), f.Email != ""},
		{"groups.name", f.Group, f.Group != ""},
		{"is_active", f.Active, f.Active != nil},
		{"is_superuser", f.Superuser, f.Superuser != nil},
		{"is_verified", f.Verified, f.Verified != nil},
	} {
		if c.there {
			d = append(d, bson.E{Key: c.field, Value: c.value})
		}
	}
	return d
}

// DeleteUser removes an account and its tokens. Those go last: a token whose
// owner is gone is good for nothing.
func (s *Store) DeleteUser(ctx context.Context, id node.ID) error {
	oid, err := objectID(id)
	if err == nil {
		err = removed(s.users.DeleteOne(ctx, byID(oid)))
	}
	if err == nil {
		_, err = s.tokens.DeleteMany(ctx, set("user", oid))
	}
	return s.failure(ctx, fmt.Sprintf("mongo.DeleteUser(%s)", id), orNotFound(err, "user %.60q", string(id)))
}

// removed is the error of a removal; that nothing was there is one too.
func removed(result *mongo.DeleteResult, err error) error {
	if err == nil && result.DeletedCount == 0 {
		err = mongo.ErrNoDocuments
	}
	return err
}

func (g group) group() user.Group {
	id := g.ID
	if id.IsZero() {
		id = g.AltID
	}
	return user.Group{ID: node.ID(id.Hex()), Name: g.Name}
}

// CreateGroup stores a new group.
func (s *Store) CreateGroup(ctx context.Context, g user.Group) error {
	oid, err := objectID(g.ID)
	if err == nil && g.Name == "" {
		err = errs.New(errs.Invalid, "name: must not be empty")
	}
	if err == nil {
		_, err = s.groups.InsertOne(ctx, group{ID: oid, Name: g.Name})
	}
	return s.failure(ctx, fmt.Sprintf("mongo.CreateGroup(%.60q)", g.Name), err)
}

// Group returns a group by id.
func (s *Store) Group(ctx context.Context, id node.ID) (user.Group, error) {
	var g group
	oid, err := objectID(id)
	if err == nil {
		err = s.groups.FindOne(ctx, byID(oid)).Decode(&g)
	}
	return g.group(), s.failure(ctx, fmt.Sprintf("mongo.Group(%s)", id), orNotFound(err, "user group %.60q", string(id)))
}

// ListGroups returns a page of the groups and how many there are. An id begins
// with the time of its making, so their order is that of age, to the second.
func (s *Store) ListGroups(ctx context.Context, name string, limit, offset int) ([]user.Group, int64, error) {
	named := bson.D{}
	if name != "" {
		named = set("name", name)
	}
	documents, total, err := page[group](ctx, s.groups, named, []string{"_id"}, limit, offset)
	groups := make([]user.Group, len(documents))
	for i, g := range documents {
		groups[i] = g.group()
	}
	return groups, total, s.failure(ctx, "mongo.ListGroups()", err)
}

// DeleteGroup removes a group that no account is in. Who puts an account into
// it at the same time may be too late: the account then names a group that is
// gone. Callers who must not see that take turns (see store.Claims).
func (s *Store) DeleteGroup(ctx context.Context, id node.ID) error {
	return s.failure(ctx, fmt.Sprintf("mongo.DeleteGroup(%s)", id), s.deleteGroup(ctx, id))
}

func (s *Store) deleteGroup(ctx context.Context, id node.ID) error {
	g, err := s.Group(ctx, id)
	if err != nil {
		return err
	}
	switch err := s.users.FindOne(ctx, set("groups.name", g.Name)).Err(); {
	case err == nil:
		return errs.New(errs.Conflict, "user group %s is assigned to users", id)
	case !noDocument(err):
		return err
	}
	oid, err := objectID(id)
	if err == nil {
		err = removed(s.groups.DeleteOne(ctx, byID(oid)))
	}
	return orNotFound(err, "user group %.60q", string(id))
}

// token is a personal token's document.
type token struct {
	ID       bson.ObjectID `bson:"_id"`
	User     bson.ObjectID `bson:"user"`
	Name     string        `bson:"name"`
	Scopes   []user.Scope  `bson:"scopes"`
	Prefixes []string      `bson:"prefixes"`
	Created  time.Time     `bson:"created"`
	Expires  *time.Time    `bson:"expires"`
}

func (t *token) token() user.Token {
	out := user.Token{
		ID: node.ID(t.ID.Hex()), User: node.ID(t.User.Hex()), Name: t.Name, Scopes: t.Scopes, Prefixes: t.Prefixes, Created: t.Created.UTC(),
	}
	if t.Expires != nil {
		out.Expires = t.Expires.UTC()
	}
	return out
}

// CreateToken stores a new token. Its times are kept to the millisecond.
func (s *Store) CreateToken(ctx context.Context, t user.Token) error {
	id, err := objectID(t.ID)
	d := token{ID: id, Name: t.Name, Scopes: t.Scopes, Prefixes: t.Prefixes, Created: t.Created}
	if err == nil {
		d.User, err = objectID(t.User)
	}
	if !t.Expires.IsZero() {
		d.Expires = &t.Expires
	}
	if err == nil {
		_, err = s.tokens.InsertOne(ctx, d)
	}
	return s.failure(ctx, fmt.Sprintf("mongo.CreateToken(%s)", t.ID), err)
}

// Token returns a token by id.
func (s *Store) Token(ctx context.Context, id node.ID) (user.Token, error) {
	var t token
	oid, err := objectID(id)
	if err == nil {
		err = s.tokens.FindOne(ctx, byID(oid)).Decode(&t)
	}
	return t.token(), s.failure(ctx, fmt.Sprintf("mongo.Token(%s)", id), orNotFound(err, "token %.60q", string(id)))
}

// ListTokens returns up to limit tokens of an account, in the order of their
// ids, which is that of their age, to the second.
func (s *Store) ListTokens(ctx context.Context, owner node.ID, limit int) ([]user.Token, error) {
	documents := []token{}
	oid, err := objectID(owner)
	if err == nil {
		var cursor *mongo.Cursor
		cursor, err = s.tokens.Find(ctx, set("user", oid), options.Find().SetSort(ascending("_id")).SetLimit(int64(max(limit, 0))))
		if err == nil {
			err = cursor.All(ctx, &documents)
		}
	}
	tokens := make([]user.Token, len(documents))
	for i := range documents {
		tokens[i] = documents[i].token()
	}
	return tokens, s.failure(ctx, fmt.Sprintf("mongo.ListTokens(%s)", owner), err)
}

// DeleteToken removes a token of that owner.
func (s *Store) DeleteToken(ctx context.Context, owner, id node.ID) error {
	user, err := objectID(owner)
	var oid bson.ObjectID
	if err == nil {
		oid, err = objectID(id)
	}
	if err == nil {
		err = removed(s.tokens.DeleteOne(ctx, bson.D{{Key: "_id", Value: oid}, {Key: "user", Value: user}}))
	}
	return s.failure(ctx, fmt.Sprintf("mongo.DeleteToken(%s)", id), orNotFound(err, "token %.60q", string(id)))
}
