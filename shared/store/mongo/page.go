package mongo

import (
	"context"
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Page returns what q selects, up to its limit, and where the next page begins.
// A node that another instance creates at the same moment may get a place that
// a page has passed already: see the decision about `_seq`.
func (s *Store) Page(ctx context.Context, q node.Query) ([]node.Node, string, error) {
	const call = "mongo.Page()"
	if q.Limit <= 0 {
		return nil, "", s.failure(ctx, call, errs.New(errs.Invalid, "a page has a limit"))
	}
	limit, next, last := q.Limit, "", ""
	q.Limit++ // one more tells whether there is another page
	nodes := []node.Node{}
	err := s.sift(ctx, q, func(r *record, n node.Node) bool {
		if len(nodes) == limit {
			next = last
			return false
		}
		nodes, last = append(nodes, n), strconv.FormatInt(r.Seq, 36)+"-"+r.ID.Hex()
		return true
	})
	if err != nil {
		return nil, "", s.failure(ctx, call, err)
	}
	return nodes, next, nil
}

// behind narrows a filter to what comes behind q.After. Documents of KernelCI's
// own have no `_seq`, read as 0, and come first.
func behind(filter bson.D, q node.Query) (bson.D, error) {
	if q.After == "" {
		return filter, nil
	}
	first, hex, _ := strings.Cut(q.After, "-")
	seq, err := strconv.ParseInt(first, 36, 64)
	id, badID := bson.ObjectIDFromHex(hex)
	if err != nil || badID != nil || seq < 0 {
		return nil, errs.New(errs.Invalid, "%.60q is not where a page has ended", q.After)
	}
	further := "$gt"
	if q.Newest {
		further = "$lt"
	}
	places := bson.A{bson.D{{Key: "_seq", Value: orZero(seq)}, {Key: "_id", Value: set(further, id)}}}
	switch {
	case q.Newest && seq > 0:
		places = append(places, set("_seq", set("$lt", seq)), set("_seq", nil))
	case !q.Newest && seq < math.MaxInt64:
		places = append(places, set("_seq", set("$gt", seq)))
	}
	return bson.D{{Key: "$and", Value: bson.A{filter, bson.D{{Key: "$or", Value: places}}}}}, nil
}
