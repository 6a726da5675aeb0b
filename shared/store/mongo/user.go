package mongo

import (
	"context"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// account is a user's document: what changes, and what finds it.
type account struct {
	ID      bson.ObjectID `bson:"_id"`
	Created string        `bson:"created"`
	Seq     int64         `bson:"_seq"`
	Rev     int64         `bson:"_rev"`
	Details details       `bson:",inline"`
	Email   string        `bson:"_email,omitempty"` // as it is compared
}

type details struct {
	Username  string  `bson:"username"`
	Key       string  `bson:"_username"` // the name as it is compared
	Email     string  `bson:"email"`
	Active    bool    `bson:"is_active"`
	Superuser bool    `bson:"is_superuser"`
	Verified  bool    `bson:"is_verified"`
	Hash      string  `bson:"hashed_password"`
	Groups    []group `bson:"groups"`
}

// group is a group as an account holds it, and its own document.
type group struct {
	ID   bson.ObjectID `bson:"_id"`
	Name string        `bson:"name"`
}

// key is a name as it is compared: whatever its case.
func key(name string) string { return strings.ToLower(name) }

func detailsOf(u user.User) (details, error) {
	if u.Username == "" {
		return details{}, errs.New(errs.Invalid, "username: must not be empty")
	}
	d := details{
		Username: u.Username, Key: key(u.Username), Email: u.Email, Active: u.Active, Superuser: u.Superuser, Verified: u.Verified,
		Hash: u.PasswordHash, Groups: []group{},
	}
	for _, g := range u.Groups {
		id, err := objectID(g.ID)
		if err != nil {
			return details{}, fmt.Errorf("groups: %w", err)
		}
		d.Groups = append(d.Groups, group{id, g.Name})
	}
	return d, nil
}

func (a *account) user() (user.User, error) {
	d := &a.Details
	u := user.User{
		ID: node.ID(a.ID.Hex()), Email: d.Email, Username: d.Username, Active: d.Active, Superuser: d.Superuser, Verified: d.Verified,
		PasswordHash: d.Hash, Groups: []user.Group{},
	}
	for _, g := range d.Groups {
		u.Groups = append(u.Groups, g.group())
	}
	var err error
	u.Created, err = parseTime(a.Created)
	return u, err
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
	d, err := detailsOf(u)
	if err != nil {
		return err
	}
	if u.Created.IsZero() {
		u.Created = s.now()
	}
	_, err = s.users.InsertOne(ctx, account{ID: id, Created: node.FormatTime(u.Created), Seq: s.stamp(1), Rev: 1, Details: d, Email: key(u.Email)})
	return err
}

// User returns an account by id.
func (s *Store) User(ctx context.Context, id node.ID) (user.User, error) {
	var u user.User
	a, err := s.account(ctx, id)
	if err == nil {
		u, err = a.user()
	}
	return u, s.failure(ctx, fmt.Sprintf("mongo.User(%s)", id), err)
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
// an email of the same text.
func (s *Store) UserByName(ctx context.Context, name string) (user.User, error) {
	u, err := s.userByName(ctx, key(name))
	return u, s.failure(ctx, fmt.Sprintf("mongo.UserByName(%.60q)", name), orNotFound(err, "user %.60q", name))
}

func (s *Store) userByName(ctx context.Context, name string) (user.User, error) {
	var a account
	err := s.users.FindOne(ctx, set("_username", name)).Decode(&a)
	if noDocument(err) && name != "" {
		err = s.users.FindOne(ctx, set("_email", name)).Decode(&a)
	}
	if err != nil {
		return user.User{}, err
	}
	return a.user()
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
	u, err := a.user()
	if err != nil {
		return user.User{}, false, err
	}
	if err := guarded(func() error { return change(&u) }); err != nil {
		return user.User{}, false, err
	}
	rev := a.Rev
	if a.Details, err = detailsOf(u); err != nil {
		return user.User{}, false, err
	}
	a.Email, a.Rev = key(u.Email), rev+1
	result, err := s.users.ReplaceOne(ctx, bson.D{{Key: "_id", Value: a.ID}, {Key: "_rev", Value: rev}}, a)
	if err != nil || result.MatchedCount == 0 {
		return user.User{}, false, err
	}
	u, err = a.user()
	return u, true, err
}
