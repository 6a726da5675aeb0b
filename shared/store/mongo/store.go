package mongo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/store"
)

// Options are the parts of a Store.
type Options struct {
	// URI says where the server is, and may hold a password. It goes into no
	// log and no error.
	URI string
	// Database is the name of the database; it is created when it does not
	// exist.
	Database string
	// Now is the clock.
	Now func() time.Time
	// Log gets what an operator may want to know; nil: nothing.
	Log *slog.Logger
}

// Store is the store in MongoDB. It is safe for concurrent use.
type Store struct {
	now    func() time.Time
	log    *slog.Logger
	client *mongo.Client
	db     *mongo.Database

	nodes       *mongo.Collection
	events      *mongo.Collection
	newest      *mongo.Collection // events as the primary has them now, for those who append
	counters    *mongo.Collection
	subscribers *mongo.Collection // durable
	listeners   *mongo.Collection // passing
	cursors     *mongo.Collection
	claims      *mongo.Collection
	users       *mongo.Collection
	groups      *mongo.Collection
	tokens      *mongo.Collection
	deadLetters *mongo.Collection
	telemetry   *mongo.Collection
	kv          *mongo.Collection
	decisions   *mongo.Collection

	transactions atomic.Bool   // the server has them
	collecting   chan struct{} // of one place: who collects for this instance

	mu   sync.Mutex
	last int64 // the stamp given last
}

var _ store.Store = (*Store)(nil)

// selectionTime is how long a call waits for a server when the URI does not
// say.
const selectionTime = 10 * time.Second

// Open connects to the server, makes the indexes that are missing, waits until
// they are there, and takes over what KernelCI has left in the database. A
// server that cannot be reached is errs.Temporary.
func Open(ctx context.Context, o Options) (*Store, error) {
	switch {
	case o.URI == "":
		return nil, errors.New("mongo: no URI")
	case o.Database == "":
		return nil, errors.New("mongo: no name of a database")
	case o.Now == nil:
		return nil, errors.New("mongo: no clock")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	co, err := clientOptions(o.URI)
	if err != nil {
		return nil, fmt.Errorf("mongo.Open(%s): %w", o.Database, err)
	}
	return open(ctx, o, co)
}

func open(ctx context.Context, o Options, co *options.ClientOptions) (*Store, error) {
	client, err := mongo.Connect(co)
	if err != nil {
		return nil, fmt.Errorf("mongo.Open(%s): %w", o.Database, err)
	}
	s := newStore(client, o)
	if err = s.Ping(ctx); err == nil {
		err = s.failure(ctx, "hello", s.findTransactions(ctx))
	}
	if err == nil {
		err = s.failure(ctx, "indexes", s.createIndexes(ctx))
	}
	if err == nil {
		err = s.failure(ctx, "take over", s.takeOver(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("mongo.Open(%s): %w", o.Database, errors.Join(err, s.Close()))
	}
	return s, nil
}

// clientOptions reads the URI and adds what the promises of this package need.
func clientOptions(uri string) (*options.ClientOptions, error) {
	journal := true
	o := options.Client().ApplyURI(uri)
	if err := o.Validate(); err != nil {
		if strings.Contains(uri, "@") {
			return nil, errs.New(errs.Invalid, "the URI cannot be read; what is wrong with it is not told, because it may hold a password")
		}
		return nil, errs.Wrap(errs.Invalid, err)
	}
	o.SetAppName("kernelflow").SetReadPreference(readpref.Primary()).SetReadConcern(readconcern.Majority()).
		SetWriteConcern(&writeconcern.WriteConcern{W: "majority", Journal: &journal})
	if o.ServerSelectionTimeout == nil {
		o.SetServerSelectionTimeout(selectionTime)
	}
	return o, nil
}

func newStore(client *mongo.Client, o Options) *Store {
	db := client.Database(o.Database)
	return &Store{
		now: o.Now, log: o.Log, client: client, db: db,
		nodes: db.Collection("node"), events: db.Collection("eventhistory"),
		newest:   db.Collection("eventhistory", options.Collection().SetReadConcern(readconcern.Local())),
		counters: db.Collection("counter"), subscribers: db.Collection("subscriber_state"), listeners: db.Collection("subscription"),
		cursors: db.Collection("cursor"), claims: db.Collection("claim"), users: db.Collection("user"), groups: db.Collection("usergroup"),
		tokens: db.Collection("token"), deadLetters: db.Collection("deadletter"),
		collecting: make(chan struct{}, 1),
		telemetry:  db.Collection("telemetry"), kv: db.Collection("kv"), decisions: db.Collection("decision"),
	}
}

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.failure(ctx, "mongo.Ping()", s.client.Ping(ctx, readpref.Primary()))
}

// closeTime is how long Close waits for calls under way.
const closeTime = 10 * time.Second

// Close waits for the calls under way, up to ten seconds, and frees everything.
func (s *Store) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := s.client.Disconnect(ctx); err != nil && !errors.Is(err, mongo.ErrClientDisconnected) {
		return fmt.Errorf("mongo.Close(): %w", err)
	}
	return nil
}

// stamp reserves count numbers that grow with time and are never given twice
// by this instance; it returns the first.
func (s *Store) stamp(count int) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := max(s.now().UnixMicro(), s.last+1)
	s.last = first + int64(count) - 1
	return first
}

// longestPause bounds the pauses of one who was too slow.
const longestPause = 50 * time.Millisecond

// pause lets others go first after attempts that failed: the more of them, the
// longer, by chance. It returns the context's error when that ends.
func pause(ctx context.Context, attempts int) error {
	longest := min(time.Millisecond<<min(attempts, 10), longestPause)
	timer := time.NewTimer(rand.N(longest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// failure gives err its kind and says which call met it; a context that has
// ended explains everything else.
func (s *Store) failure(ctx context.Context, call string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errs.KindOf(err) == nil {
		return fmt.Errorf("%s: %w", call, ctx.Err())
	}
	return fmt.Errorf("%s: %w", call, kinded(err))
}

// Codes of MongoDB's errors.
const (
	codeBadValue       = 2
	codeOverflow       = 15 // nested too deeply
	codeInvalidBSON    = 22 // so is this
	codeTooLarge       = 10334
	codeTooLargeUpdate = 17419
	codeTooLargeResult = 17420
)

// kinded attaches the kind that an error of the driver means.
func kinded(err error) error {
	switch {
	case errs.KindOf(err) != nil, errors.Is(err, context.Canceled):
		return err
	case isDuplicate(err):
		return errs.Wrap(errs.Conflict, err)
	case errors.Is(err, driver.ErrDocumentTooLarge):
		return errs.Wrap(errs.Invalid, err)
	case mongo.IsTimeout(err), mongo.IsNetworkError(err), isUnreachable(err):
		return errs.Wrap(errs.Temporary, err)
	}
	var failed mongo.ServerError
	if !errors.As(err, &failed) {
		return err
	}
	for _, code := range []int{codeBadValue, codeOverflow, codeInvalidBSON, codeTooLarge, codeTooLargeUpdate, codeTooLargeResult} {
		if failed.HasErrorCode(code) {
			return errs.Wrap(errs.Invalid, err)
		}
	}
	for _, label := range []string{"RetryableWriteError", "TransientTransactionError", "SystemOverloadedError"} {
		if failed.HasErrorLabel(label) {
			return errs.Wrap(errs.Temporary, err)
		}
	}
	for _, code := range temporary {
		if failed.HasErrorCode(code) {
			return errs.Wrap(errs.Temporary, err)
		}
	}
	return err
}

// temporary lists codes of a server that steps down, starts, or could not wait
// for its peers.
var temporary = []int{
	6, 7, 64, 89, 91, 189, 262, 365, 9001, 10107, 11600, 11602, 13435, 13436,
}

// isDuplicate says whether a unique key is taken. FerretDB reports that of an
// update as an internal error in SQLite's words.
func isDuplicate(err error) bool {
	return mongo.IsDuplicateKeyError(err) || err != nil && strings.Contains(err.Error(), "UNIQUE constraint failed")
}

// orNotFound turns "no document" into NotFound of what the words name.
func orNotFound(err error, format string, args ...any) error {
	if noDocument(err) {
		return errs.New(errs.NotFound, format+" not found", args...)
	}
	return err
}

func noDocument(err error) bool { return errors.Is(err, mongo.ErrNoDocuments) }

// isUnreachable says that no server was found to ask.
func isUnreachable(err error) bool {
	var selection topology.ServerSelectionError
	return errors.As(err, &selection)
}

// byID is the filter for one document.
func byID(id any) bson.D { return bson.D{{Key: "_id", Value: id}} }

func set(key string, value any) bson.D { return bson.D{{Key: key, Value: value}} }
