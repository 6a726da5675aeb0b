package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
)

const (
	batchSize = 256                   // operations in one commit, at most
	batchTime = 50 * time.Millisecond // a batch takes no more operations after this
	busyPause = time.Millisecond      // between two looks at a lock that another process has
	turnTime  = 50 * time.Millisecond // how long one process may keep taking the lock again
	turnPause = 2 * busyPause         // and how long it then leaves it to others
)

// writer owns the one connection that writes. Operations that arrive while a
// commit is under way share the next one.
type writer struct {
	db    *sql.DB
	conn  *sql.Conn
	now   func() time.Time
	stmts map[string]*sql.Stmt
	queue chan *operation
	quit  chan struct{}
	ended chan struct{}
	once  sync.Once
	turn  time.Time // when this process began to take the lock without a pause
}

// operation is one caller's write. It runs on the writer's goroutine; calls
// carries what must run on the caller's own.
type operation struct {
	ctx     context.Context
	run     func(*tx) error
	calls   chan func() error
	answers chan error
	done    chan error
}

// onCaller runs f on the goroutine of the caller, so that whatever f does to
// that goroutine, the writer goes on.
func (o *operation) onCaller(f func() error) error {
	o.calls <- f
	return <-o.answers
}

// answer runs f. A panic becomes its error.
func (o *operation) answer(f func() error) {
	err := errors.New("the change did not return")
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the change panicked: %v", v)
		}
		o.answers <- err
	}()
	err = f()
}

func openWriter(ctx context.Context, o Options) (*writer, error) {
	db := sql.OpenDB(connector(dsn(o.Path, "busy_timeout(0)", "synchronous(FULL)")))
	db.SetMaxOpenConns(1)
	w := &writer{db: db, now: o.Now, stmts: map[string]*sql.Stmt{},
		queue: make(chan *operation), quit: make(chan struct{}), ended: make(chan struct{})}
	err := unlessBusy(ctx, func() (err error) {
		if w.conn == nil {
			if w.conn, err = connectPrivately(ctx, db, o.Path); err != nil {
				return err
			}
		}
		if _, err = w.conn.ExecContext(ctx, "PRAGMA journal_mode=WAL"); err != nil {
			return err
		}
		return migrate(ctx, w.conn)
	})
	if err != nil {
		if w.conn != nil {
			_ = w.conn.Close() // back to its pool, which closes it
		}
		return nil, errors.Join(err, db.Close())
	}
	go w.loop()
	return w, nil
}

// connectPrivately opens a connection. A file that it makes is its owner's
// alone, and so are the files beside it, whose mode SQLite takes from it: they
// hold the hashes of passwords. The mode of a file that exists stays.
func connectPrivately(ctx context.Context, db *sql.DB, path string) (*sql.Conn, error) {
	_, missing := os.Stat(path)
	conn, err := db.Conn(ctx)
	if err != nil || !errors.Is(missing, fs.ErrNotExist) {
		return conn, err
	}
	// Not by opening the file: to close it would take SQLite's locks away.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// unlessBusy repeats f until it meets no lock of another process. When ctx
// ends first the error is errs.Temporary and the context's.
func unlessBusy(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !isBusy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errs.Wrap(errs.Temporary, fmt.Errorf("%w: %w", err, ctx.Err()))
		case <-time.After(busyPause):
		}
	}
}

// do queues run and waits until it is committed or has failed. A caller whose
// context ends before the operation has begun is not waited for and nothing
// is written.
func (w *writer) do(ctx context.Context, run func(*operation, *tx) error) error {
	o := &operation{ctx: ctx, calls: make(chan func() error), answers: make(chan error), done: make(chan error, 1)}
	o.run = func(t *tx) error { return run(o, t) }
	select {
	case w.queue <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return errs.New(errs.Temporary, "the store is closed")
	}
	for {
		select {
		case f := <-o.calls:
			o.answer(f)
		case err := <-o.done:
			return err
		}
	}
}

func (w *writer) close() error {
	w.once.Do(func() { close(w.quit) })
	<-w.ended
	return w.db.Close()
}

func (w *writer) loop() {
	defer close(w.ended)
	for {
		select {
		case o := <-w.queue:
			w.batch(o)
		case <-w.quit:
			for _, stmt := range w.stmts {
				_ = stmt.Close() // the connection goes too
			}
			_ = w.conn.Close() // back to its pool, which close closes
			return
		}
	}
}

// batch commits first and all that is waiting by then in one transaction.
func (w *writer) batch(first *operation) {
	if err := w.begin(first.ctx); err != nil {
		first.done <- err
		return
	}
	t := &tx{w: w}
	var taken []*operation
	var failures []error // of the operation in the same place
	err := t.load()
	for o := first; o != nil && err == nil; o = w.next(t, len(taken)) {
		var failed error
		failed, err = t.attempt(o)
		taken, failures = append(taken, o), append(failures, failed)
	}
	if err == nil {
		err = t.commit()
	}
	if err != nil {
		_, _ = w.conn.ExecContext(context.Background(), "ROLLBACK") // it may have happened already
	}
	// A failure is told after the commit too: it may be about what an
	// operation of the same batch wrote, which nobody could read before.
	for i, o := range taken {
		if err != nil {
			o.done <- err
		} else {
			o.done <- failures[i]
		}
	}
}

// begin takes the database's write lock.
func (w *writer) begin(ctx context.Context) error {
	w.giveWay()
	return unlessBusy(ctx, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := w.conn.ExecContext(context.Background(), "BEGIN IMMEDIATE")
		if isBusy(err) {
			w.turn = time.Time{}
		}
		return err
	})
}

// giveWay leaves the lock alone for a moment when this process has been taking
// it for long: the others, who can only look now and then, would starve.
func (w *writer) giveWay() {
	now := time.Now()
	switch held := now.Sub(w.turn); {
	case held > 2*turnTime:
		w.turn = now
	case held > turnTime:
		time.Sleep(turnPause)
		w.turn = time.Now()
	}
}

func (w *writer) next(t *tx, size int) *operation {
	if size >= batchSize || time.Since(t.began) > batchTime {
		return nil
	}
	select {
	case o := <-w.queue:
		return o
	default:
		return nil
	}
}

// tx is the transaction of one batch.
type tx struct {
	w     *writer
	began time.Time
	last  int64 // the log's newest sequence
}

func (t *tx) load() error {
	t.began = time.Now()
	return t.queryRow("SELECT last FROM log").Scan(&t.last)
}

// attempt runs o inside the transaction; when o fails it alone is undone. The
// second error is the whole transaction's.
func (t *tx) attempt(o *operation) (failed, fatal error) {
	if err := o.ctx.Err(); err != nil {
		return err, nil
	}
	if _, err := t.exec("SAVEPOINT one"); err != nil {
		return err, err
	}
	last := t.last
	if failed = o.run(t); failed != nil {
		t.last = last
		if _, err := t.exec("ROLLBACK TO one"); err != nil {
			return failed, err
		}
	}
	if _, err := t.exec("RELEASE one"); err != nil {
		return err, err
	}
	return failed, nil
}

func (t *tx) commit() error {
	if _, err := t.exec("UPDATE log SET last = ? WHERE last <> ?", t.last, t.last); err != nil {
		return err
	}
	_, err := t.exec("COMMIT")
	return err
}

// prepared keeps one statement for each text. The texts are few: they name
// columns, never values.
func (t *tx) prepared(text string) (*sql.Stmt, error) {
	if stmt, ok := t.w.stmts[text]; ok {
		return stmt, nil
	}
	stmt, err := t.w.conn.PrepareContext(context.Background(), text)
	if err == nil {
		t.w.stmts[text] = stmt
	}
	return stmt, err
}

func (t *tx) exec(text string, args ...any) (sql.Result, error) {
	stmt, err := t.prepared(text)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(context.Background(), args...)
}

// row is a *sql.Row or the error that came before it.
type row struct {
	row *sql.Row
	err error
}

func (r row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	return r.row.Scan(dest...)
}

func (t *tx) queryRow(text string, args ...any) row {
	stmt, err := t.prepared(text)
	if err != nil {
		return row{err: err}
	}
	return row{row: stmt.QueryRowContext(context.Background(), args...)}
}
