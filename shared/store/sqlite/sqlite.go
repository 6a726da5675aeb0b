package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Options say where the store is and what it needs.
type Options struct {
	Path string           // the database file; made when it does not exist
	Now  func() time.Time // the store's clock
}

// Store is the driver. See package store for what each method promises.
type Store struct {
	now    func() time.Time
	read   *sql.DB
	write  *sql.DB
	writer *writer
}

var _ store.Store = (*Store)(nil)

// readers is how many reads may run at once.
const readers = 8

// Open opens or creates the store. The error is errs.Invalid when the file is
// not one of ours, else errs.Temporary.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Path == "" || o.Now == nil {
		return nil, errs.New(errs.Invalid, "sqlite.Open: no path or no clock")
	}
	write, err := sql.Open("sqlite", dsn(o.Path, "rwc", "immediate"))
	if err != nil {
		return nil, fmt.Errorf("sqlite.Open(%s): %w", o.Path, errs.Wrap(errs.Invalid, err))
	}
	write.SetMaxOpenConns(1)
	if err := migrate(ctx, write); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite.Open(%s): %w", o.Path, kind(err)), write.Close())
	}
	read, err := sql.Open("sqlite", dsn(o.Path, "ro", "deferred"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite.Open(%s): %w", o.Path, errs.Wrap(errs.Invalid, err)), write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	s := &Store{now: o.Now, read: read, write: write}
	s.writer = startWriter(write)
	return s, nil
}

// dsn names the file with what each connection is set to. The cache is 16 MiB
// a connection; a lock is waited for up to five seconds at a time.
func dsn(path, mode, lock string) string {
	q := url.Values{"mode": {mode}, "_txlock": {lock}, "_pragma": {
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "cache_size(-16384)", "temp_store(MEMORY)", "foreign_keys(ON)",
	}}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return wrap(s.read.QueryRowContext(ctx, "SELECT 1").Scan(&one), "Ping()")
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.writer.close()
	return errors.Join(s.read.Close(), s.write.Close())
}

// clock is the store's time as it is kept.
func (s *Store) clock() time.Time { return node.Time(s.now()) }

// wrap adds the call to an error of the database and gives it a kind.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sqlite."+format+": %w", append(args, kind(err))...)
}

// kind classifies an error: one that has a kind keeps it.
func kind(err error) error {
	if errs.KindOf(err) != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, sql.ErrNoRows) {
		return errs.New(errs.NotFound, "not found")
	}
	var failure *sqlite.Error
	if !errors.As(err, &failure) {
		return err
	}
	switch failure.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT:
		return errs.Wrap(errs.Conflict, err)
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN:
		return errs.Wrap(errs.Invalid, err)
	case sqlite3.SQLITE_INTERRUPT:
		return errs.Wrap(errs.Temporary, err)
	}
	return errs.Wrap(errs.Temporary, err)
}

func isBusy(err error) bool {
	var failure *sqlite.Error
	return errors.As(err, &failure) && failure.Code()&0xff == sqlite3.SQLITE_BUSY
}
