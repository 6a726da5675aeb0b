package app

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/user"
)

// keptSecret reads the key in the file, which is made with a random one when it
// does not exist. Of two processes that make it at once both get the same.
func keptSecret(file string, random io.Reader) ([]byte, error) {
	secret, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeSecret(file, random); err == nil {
			secret, err = os.ReadFile(file)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", errs.Wrap(errs.Invalid, err))
	}
	return secret, nil
}

// makeSecret writes the whole file beside its place and links it there, which
// fails when somebody else was first.
func makeSecret(file string, random io.Reader) error {
	key := make([]byte, 32)
	if _, err := io.ReadFull(random, key); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".secret-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(hex.EncodeToString(key))
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Link(tmp.Name(), file)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(tmp.Name()))
}

// ensureAdmin makes the first admin's account. It goes by the name, as
// KernelCI's own tool does: the pipeline's nodes belong to it, so that nobody
// else may have it, and one that was deleted is made anew at the next start. It
// is another account then: tokens of the one before stay worthless. One that is
// to stay out is deactivated, since an account that is there is left as it is.
// Instances that start at once make one account, as a name is one's only.
func (a *App) ensureAdmin(ctx context.Context) error {
	if _, err := a.Store.UserByName(ctx, a.Config.AdminName); !errors.Is(err, errs.NotFound) {
		return err
	}
	var random [24]byte // an id's eight and a password's
	if _, err := io.ReadFull(a.Rand, random[:]); err != nil {
		return errs.Wrap(errs.Temporary, err)
	}
	password := cmp.Or(a.Config.AdminPassword, hex.EncodeToString(random[8:]))
	hash, err := a.Auth.HashPassword(password)
	if err != nil {
		return fmt.Errorf("KCI_INITIAL_PASSWORD: %w", err)
	}
	err = a.Store.CreateUser(ctx, user.User{
		ID: node.NewID(a.Now(), [8]byte(random[:8])), Username: a.Config.AdminName, Email: a.Config.AdminEmail,
		Active: true, Verified: true, Superuser: true, Groups: []user.Group{}, PasswordHash: hash, Created: a.Now(),
	})
	if errors.Is(err, errs.Conflict) {
		return nil // another instance made it
	}
	return err
}

// AdminToken makes a token of the admin's.
func (a *App) AdminToken(ctx context.Context) (string, error) {
	admin, err := a.Store.UserByName(ctx, a.Config.AdminName)
	if err != nil {
		return "", err
	}
	return a.Auth.UserToken(admin.ID)
}
