package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"time"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Options are the parts of a Store.
type Options struct {
	// Path is the database file. It is created when it does not exist; its
	// folder is not.
	Path string
	// Now is the clock.
	Now func() time.Time
}

// Store is the embedded store. It is safe for concurrent use.
type Store struct {
	now    func() time.Time
	read   *sql.DB
	writer *writer
}

var _ store.Store = (*Store)(nil)

// Open opens the database file, brings its schema up to date and starts the
// writer. It waits for other processes that do the same until ctx ends. A
// file of a newer version of this program is errs.Invalid.
func Open(ctx context.Context, o Options) (*Store, error) {
	switch {
	case o.Path == "":
		return nil, errors.New("sqlite: no path")
	case o.Now == nil:
		return nil, errors.New("sqlite: no clock")
	}
	w, err := openWriter(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("sqlite.Open(%s): %w", o.Path, kinded(err))
	}
	read := sql.OpenDB(connector(dsn(o.Path, "query_only(1)", "busy_timeout(10000)")))
	read.SetMaxIdleConns(idleReaders)
	s := &Store{now: o.Now, read: read, writer: w}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// idleReaders is how many connections wait for readers; more are opened when
// needed, so that a reader may read again while it is reading.
const idleReaders = 8

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return s.failure(ctx, "sqlite.Ping()", s.read.QueryRowContext(ctx, "SELECT 1 FROM log").Scan(&one))
}

// Close waits for the writes under way and frees everything.
func (s *Store) Close() error {
	if err := errors.Join(s.writer.close(), s.read.Close()); err != nil {
		return fmt.Errorf("sqlite.Close(): %w", err)
	}
	return nil
}

// dsn names the file and what is set on each connection to it.
func dsn(path string, pragmas ...string) string {
	return "file:" + url.PathEscape(path) + "?" + url.Values{"_pragma": pragmas}.Encode()
}

// connector opens connections that know the functions of this package.
type connector string

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return product.Open(string(c))
}

func (c connector) Driver() driver.Driver { return product }

var product = newProduct()

func newProduct() *sqlite.Driver {
	d := &sqlite.Driver{}
	if err := d.RegisterDeterministicScalarFunction("re", 2, matchPattern); err != nil {
		panic(err) // the name is taken: impossible on a new driver
	}
	return d
}

// failure gives err its kind and says which call met it; a context that has
// ended explains everything else.
func (s *Store) failure(ctx context.Context, call string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errs.KindOf(err) == nil {
		err = ctx.Err()
	}
	return fmt.Errorf("%s: %w", call, kinded(err))
}

// kinded attaches the kind that a code of SQLite means.
func kinded(err error) error {
	var e *sqlite.Error
	if errs.KindOf(err) != nil || !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlitelib.SQLITE_CONSTRAINT_UNIQUE, sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY:
		return errs.Wrap(errs.Conflict, err)
	case sqlitelib.SQLITE_CONSTRAINT_CHECK:
		return errs.Wrap(errs.Invalid, err)
	}
	switch e.Code() & 0xff {
	case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED, sqlitelib.SQLITE_IOERR, sqlitelib.SQLITE_FULL,
		sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_NOMEM, sqlitelib.SQLITE_INTERRUPT, sqlitelib.SQLITE_PROTOCOL:
		return errs.Wrap(errs.Temporary, err)
	}
	return err
}

func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlitelib.SQLITE_BUSY || e.Code()&0xff == sqlitelib.SQLITE_PROTOCOL)
}
