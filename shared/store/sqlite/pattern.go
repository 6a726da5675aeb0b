package sqlite

import (
	"context"
	"database/sql/driver"
	"regexp"
	"regexp/syntax"
	"slices"
	"sync"
	"unicode/utf8"

	"modernc.org/sqlite"

	"github.com/kernelflow/kernelflow/shared/node"
)

// patterns keeps compiled expressions: a query asks for the same one at every
// row.
var patterns = struct {
	sync.Mutex
	compiled map[string]*regexp.Regexp
}{compiled: map[string]*regexp.Regexp{}}

const keptPatterns = 256

// compiled returns nil for what is no expression: it matches nothing.
func compiled(pattern string) *regexp.Regexp {
	patterns.Lock()
	defer patterns.Unlock()
	re, known := patterns.compiled[pattern]
	if !known {
		if len(patterns.compiled) >= keptPatterns {
			clear(patterns.compiled)
		}
		re, _ = regexp.Compile(pattern)
		patterns.compiled[pattern] = re
	}
	return re
}

// matchPattern is the SQL function re(pattern, text).
func matchPattern(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
	pattern, _ := args[0].(string)
	text, ok := args[1].(string)
	re := compiled(pattern)
	return ok && re != nil && re.MatchString(text), nil
}

// matching returns the values of a column that a condition's regular
// expression finds; nil when the condition is of another sort or they are too
// many. Distinct values are read from the index by leaps, from the prefix that
// the expression begins with.
func (s *Store) matching(ctx context.Context, c node.Condition) ([]any, error) {
	if _, indexed := shares[c.Field]; !indexed || c.Op != node.Re || !slices.Contains(scalars, c.Field) {
		return nil, nil
	}
	pattern, _ := c.Values[0].(string)
	x, begin := quoted(c.Field), prefix(pattern)
	text := "WITH RECURSIVE each(v) AS (SELECT min(" + x + ") FROM node WHERE " + x + " >= ?1 UNION ALL" +
		" SELECT (SELECT min(" + x + ") FROM node WHERE " + x + " > v) FROM each WHERE substr(v, 1, ?2) = ?1)" +
		" SELECT v FROM each WHERE substr(v, 1, ?2) = ?1 AND re(?3, v) LIMIT ?4"
	values := []any{}
	err := s.eachDoc(ctx, text, []any{begin, utf8.RuneCountInString(begin), pattern, maxMatches + 1}, func(v string) (bool, error) {
		values = append(values, v)
		return true, nil
	})
	if len(values) > maxMatches {
		return nil, err
	}
	return values, err
}

// prefix is the text with which everything begins that the pattern finds.
func prefix(pattern string) string {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	parsed = parsed.Simplify()
	if parsed.Op != syntax.OpConcat || parsed.Sub[0].Op != syntax.OpBeginText || parsed.Sub[1].Op != syntax.OpLiteral {
		return ""
	}
	if parsed.Sub[1].Flags&syntax.FoldCase != 0 {
		return ""
	}
	return string(parsed.Sub[1].Rune)
}
