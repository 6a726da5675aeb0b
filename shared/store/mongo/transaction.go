package mongo

import (
	"context"
	"errors"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
)

// findTransactions asks whether the server has transactions: a member of a
// replica set, or the router of a cluster, that keeps sessions.
func (s *Store) findTransactions(ctx context.Context) error {
	var hello struct {
		Set      string `bson:"setName"`
		Role     string `bson:"msg"`
		Sessions any    `bson:"logicalSessionTimeoutMinutes"`
	}
	err := s.db.RunCommand(ctx, set("hello", 1)).Decode(&hello)
	if hasCode(err, refusals) {
		return nil
	}
	s.transactions.Store(hello.Sessions != nil && (hello.Set != "" || hello.Role == "isdbgrid"))
	return err
}

// together takes the steps in one transaction where the server has them, or
// else one after the other. The steps may be taken several times and must be
// right without a transaction too: what a transaction cannot do is left to them.
func (s *Store) together(ctx context.Context, steps func(context.Context) error) error {
	if s.transactions.Load() {
		err := s.transact(ctx, steps)
		switch {
		case hasCode(err, refusals):
			s.transactions.Store(false)
			s.log.Warn("the server has no transactions after all; hierarchies are written step by step", "error", err)
		case !isDuplicate(err) && !hasCode(err, tooLarge) && !errors.Is(err, errCrossed):
			return err
		}
	}
	return steps(ctx)
}

// tries is how often a transaction that others cross is begun.
const tries = 10

// errCrossed ends a transaction that does not get through.
var errCrossed = errors.New("others have crossed each try of the transaction")

// transact repeats the steps while the driver finds that another try may help.
func (s *Store) transact(ctx context.Context, steps func(context.Context) error) error {
	session, err := s.client.StartSession()
	if err != nil {
		return err
	}
	defer session.EndSession(ctx)
	begun := 0
	_, err = session.WithTransaction(ctx, func(ctx context.Context) (any, error) {
		if begun++; begun > tries {
			return nil, errCrossed
		}
		if err := ctx.Err(); err != nil { // the driver takes it for a network's failure, which may pass
			return nil, err
		}
		return nil, steps(ctx)
	}, options.Transaction().SetReadConcern(readconcern.Snapshot()))
	return err
}

// inTransaction says whether ctx is that of a transaction's steps.
func inTransaction(ctx context.Context) bool { return mongo.SessionFromContext(ctx) != nil }

var (
	// refusals are the codes of a server that has no transactions, whatever its
	// greeting says: IllegalOperation, CommandNotFound, CommandNotSupported,
	// NotImplemented, OperationNotSupportedInTransaction.
	refusals = []int{20, 59, 115, 238, 263}
	// tooLarge are the codes of a transaction that the server could not hold:
	// TransactionTooLarge, TransactionTooLargeForCache.
	tooLarge = []int{257, 359}
)

func hasCode(err error, codes []int) bool {
	var failed mongo.ServerError
	return errors.As(err, &failed) && slices.ContainsFunc(codes, failed.HasErrorCode)
}
