package mongo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// account is a user's document: what changes, and what finds it.
type account struct {
	ID      bson.ObjectID `bson:"_id"`
	Created *time.Time    `bson:"_created"`
	Seq     int64         `bson:"_seq"`
	Details details       `bson:",inline"`
}

// details are what UpdateUser sets.
type details struct {
	Username  string  `bson:"username"`
	Email     string  `bson:"email"`
	Active    bool    `bson:"is_active"`
	Superuser bool    `bson:"is_superuser"`
	Verified  bool    `bson:"is_verified"`
	Hash      string  `bson:"hashed_password"`
	Groups    []group `bson:"groups"`
	Rev       int64   `bson:"_rev"`
	Key       string  `bson:"_username,omitempty"` // the name as it is compared
	EmailKey  string  `bson:"_email,omitempty"`    // the email as it is compared
}

// group is a group as an account holds it, and its own document. In an account
// KernelCI writes its id under one name or the other.
type group struct {
	ID    bson.ObjectID `bson:"_id"`
	AltID bson.ObjectID `bson:"id,omitempty"`
	Name  string        `bson:"name"`
}

// key is a name as it is compared: whatever its case.
func key(name string) string { return strings.ToLower(name) }

func detailsOf(u user.User, rev int64) (details, error) {
	if u.Username == "" {
		return details{}, errs.New(errs.Invalid, "username: must not be empty")
	}
	d := details{
		Username: u.Username, Email: u.Email, Active: u.Active, Superuser: u.Superuser, Verified: u.Verified, Hash: u.PasswordHash,
		Groups: make([]group, len(u.Groups)), Rev: rev, Key: key(u.Username), EmailKey: key(u.Email),
	}
	for i, g := range u.Groups {
		id, err := objectID(g.ID)
		if err != nil {
			return details{}, fmt.Errorf("groups: %w", err)
		}
		d.Groups[i] = group{ID: id, Name: g.Name}
	}
	return d, nil
}

func (a *account) user() user.User {
	d := &a.Details
	u := user.User{
		ID: node.ID(a.ID.Hex()), Email: d.Email, Username: d.Username, Active: d.Active, Superuser: d.Superuser, Verified: d.Verified,
		PasswordHash: d.Hash, Groups: make([]user.Group, len(d.Groups)), Created: dateOf(a.Created),
	}
	if u.Created.IsZero() {
		u.Created = a.ID.Timestamp().UTC()
	}
	for i := range d.Groups {
		u.Groups[i] = d.Groups[i].group()
	}
	return u
}

// CreateUser stores a new account.
func (s *Store) CreateUser(ctx context.Context, u user.User) error {
	return s.failure(ctx, fmt.Sprintf("mongo.CreateUser(%s)", u.Username), s.createUser(ctx, u))
}

func (s *Store) createUser(ctx context.Context, u user.User) error {
	id, err := bson.ObjectIDFromHex(string(u.ID))
	if err != nil {
		return errs.New(errs.Invalid, "id: %.40q is not a valid ObjectId", u.ID)
	}
	d, err := detailsOf(u, 1)
	if err != nil {
		return err
	}
	if u.Created.IsZero() {
		u.Created = s.now()
	}
	_, err = s.users.InsertOne(ctx, account{ID: id, Created: dateOrNull(u.Created), Seq: s.stamp(1), Details: d})
	return err
}

// User returns an account by id.
func (s *Store) User(ctx context.Context, id node.ID) (user.User, error) {
	a, err := s.account(ctx, id)
	if err != nil {
		return user.User{}, s.failure(ctx, fmt.Sprintf("mongo.User(%s)", id), err)
	}
	return a.user(), nil
}

func (s *Store) account(ctx context.Context, id node.ID) (account, error) {
	var a account
	oid, err := bson.ObjectIDFromHex(string(id))
	if err != nil {
		return a, errs.New(errs.NotFound, "user %.40q not found", id)
	}
	err = s.users.FindOne(ctx, byID(oid)).Decode(&a)
	return a, orNotFound(err, "user %s", id)
}

// UserByName returns an account by username or email. A username goes before
// an email of the same text, and one of the same case before all: KernelCI lets
// two differ by case alone.
func (s *Store) UserByName(ctx context.Context, name string) (user.User, error) {
	u, err := s.userByName(ctx, name)
	return u, s.failure(ctx, fmt.Sprintf("mongo.UserByName(%.60q)", name), orNotFound(err, "user %.60q", name))
}

func (s *Store) userByName(ctx context.Context, name string) (user.User, error) {
	for _, by := range []bson.D{set("username", name), set("_username", key(name)), set("_email", key(name))} {
		var a account
		err := s.users.FindOne(ctx, by).Decode(&a)
		if err == nil {
			return a.user(), nil
		}
		if !noDocument(err) {
			return user.User{}, err
		}
	}
	return user.User{}, mongo.ErrNoDocuments
}

// UpdateUser changes an account, guarded by its write counter.
func (s *Store) UpdateUser(ctx context.Context, id node.ID, change func(*user.User) error) (user.User, error) {
	var refused error
	for attempts := 0; ; attempts++ {
		u, written, err := s.updateUser(ctx, id, func(u *user.User) error { refused = change(u); return refused })
		switch {
		case refused != nil:
			return user.User{}, refused
		case err == nil && written:
			return u, nil
		case err == nil:
			err = pause(ctx, attempts)
		}
		if err != nil {
			return user.User{}, s.failure(ctx, fmt.Sprintf("mongo.UpdateUser(%s)", id), err)
		}
	}
}

func (s *Store) updateUser(ctx context.Context, id node.ID, change func(*user.User) error) (user.User, bool, error) {
	a, err := s.account(ctx, id)
	if err != nil {
		return user.User{}, false, err
	}
	u, before := a.user(), a.Details
	if err := guarded(func() error { return change(&u) }); err != nil {
		return user.User{}, false, err
	}
	if a.Details, err = detailsOf(u, before.Rev+1); err != nil {
		return user.User{}, false, err
	}
	// An account that could not be taken over by a name goes on without.
	if u.Username == before.Username {
		a.Details.Key = before.Key
	}
	if u.Email == before.Email {
		a.Details.EmailKey = before.EmailKey
	}
	write := bson.D{{Key: "$set", Value: a.Details}}
	if a.Details.EmailKey == "" {
		write = append(write, bson.E{Key: "$unset", Value: set("_email", "")})
	}
	result, err := s.users.UpdateOne(ctx, bson.D{{Key: "_id", Value: a.ID}, {Key: "_rev", Value: orZero(before.Rev)}}, write)
	if err != nil || result.MatchedCount == 0 {
		return user.User{}, false, err
	}
	return a.user(), true, nil
}
