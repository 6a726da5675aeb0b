package mongo_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// questions keeps what a set is asked, and which indexes it has.
type questions struct {
	mu      sync.Mutex
	asked   map[string]question // by what all of the same form share
	leading map[string][]string // the fields with which indexes begin, by collection
}

// question is what a command looks for, and in which order.
type question struct{ filter, order bson.D }

func (q *questions) watch(c command, carryOut func() bson.Raw) bson.Raw {
	q.mu.Lock()
	defer q.mu.Unlock()
	collection, _ := c.body[0].Value.(string)
	list, _ := value(c.body, "indexes").(bson.A)
	for _, index := range list {
		if keys, ok := value(index.(bson.D), "key").(bson.D); ok {
			q.leading[collection] = append(q.leading[collection], keys[0].Key)
		}
	}
	one := func(filter, order any) {
		f, _ := filter.(bson.D)
		o, _ := order.(bson.D)
		q.asked[strings.Join([]string{c.name, collection, names(f), "in order of", names(o)}, " ")] = question{f, o}
	}
	switch c.name {
	case "find":
		one(value(c.body, "filter"), value(c.body, "sort"))
	case "count", "distinct", "findAndModify":
		one(value(c.body, "query"), value(c.body, "sort"))
	case "aggregate":
		first, _ := value(c.body, "pipeline").(bson.A)[0].(bson.D)
		one(value(first, "$match"), nil)
	case "update", "delete":
		for _, write := range c.list {
			one(value(write, "q"), nil)
		}
	}
	return carryOut()
}

func names(d bson.D) string {
	var list []string
	for _, e := range d {
		list = append(list, e.Key)
	}
	return strings.Join(list, ",")
}

// wholeCollections are questions that are about all there is, or about whatever
// a client counts: of the nodes (see TestEveryQuestionInUseHasAnIndex), and of
// telemetry, for which the API gives a count a time to end.
var wholeCollections = []string{"aggregate node ", "aggregate telemetry ", "aggregate decision  ", "aggregate user  ", "aggregate usergroup  "}

func (q *questions) check(t *testing.T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.asked) < 50 || len(q.leading) < 9 {
		t.Errorf("only %d questions and indexes of %d collections were seen", len(q.asked), len(q.leading))
	}
	for _, form := range slices.Sorted(maps.Keys(q.asked)) {
		collection := strings.Fields(form)[1]
		asked, leading := q.asked[form], append(slices.Clone(q.leading[collection]), "_id")
		inOrder := len(asked.order) > 0 && slices.Contains(leading, asked.order[0].Key)
		whole := slices.ContainsFunc(wholeCollections, func(prefix string) bool { return strings.HasPrefix(form, prefix) })
		if !inOrder && !whole && !narrowed(asked.filter, leading) {
			t.Errorf("no index answers: %s: %v", form, asked.filter)
		}
	}
}

// narrowed says whether one of the leading fields narrows the filter.
func narrowed(filter bson.D, leading []string) bool {
	below := func(one any) bool { d, _ := one.(bson.D); return narrowed(d, leading) }
	for _, e := range filter {
		branches, _ := e.Value.(bson.A)
		condition, _ := e.Value.(bson.D)
		switch {
		case e.Key == "$and" && slices.ContainsFunc(branches, below):
			return true
		case e.Key == "$or" && !slices.ContainsFunc(branches, func(one any) bool { return !below(one) }):
			return true
		case slices.Contains(leading, e.Key) && value(condition, "$ne") == nil && value(condition, "$nin") == nil:
			return true
		}
	}
	return false
}
