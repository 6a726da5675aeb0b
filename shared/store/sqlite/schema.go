package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// columns are the fields of a node that have a column of the same name and an
// index, in the order of the table.
var columns = []string{
	"id", "kind", "name", "group", "parent", "state", "result", "owner", "submitter", "treeid",
	"created", "updated", "timeout", "holdoff", "processed_by_kcidb_bridge", "retry_counter",
	"data.kernel_revision.tree", "data.kernel_revision.url", "data.kernel_revision.branch", "data.kernel_revision.commit",
	"data.arch", "data.defconfig", "data.compiler", "data.platform", "data.runtime", "data.job_id",
	"data.error_code", "data.fail_node", "data.pass_node", "data.regression",
}

// indexes lists each index of the node table with how many nodes of a million
// share one key up to each of its columns, about. The planner is given these
// numbers instead of statistics, so that a plan depends on the query alone and
// a test can hold it.
var indexes = []struct {
	columns []string
	shared  []int
}{
	{[]string{"kind"}, []int{200_000}},
	{[]string{"kind", "created", "result", "state", "data.kernel_revision.tree"}, []int{200_000, 2, 1, 1, 1}},
	{[]string{"name"}, []int{200}},
	{[]string{"group"}, []int{5_000}},
	{[]string{"parent"}, []int{20}},
	{[]string{"parent", "state"}, []int{20, 10}},
	{[]string{"state"}, []int{100_000}},
	{[]string{"state", "timeout"}, []int{100_000, 2}},
	{[]string{"state", "holdoff"}, []int{100_000, 100}},
	{[]string{"result"}, []int{250_000}},
	{[]string{"owner"}, []int{500_000}},
	{[]string{"submitter"}, []int{500_000}},
	{[]string{"treeid"}, []int{1_000}},
	{[]string{"treeid", "kind", "result"}, []int{1_000, 300, 100}},
	{[]string{"updated"}, []int{2}},
	{[]string{"timeout"}, []int{2}},
	{[]string{"holdoff"}, []int{1_000}},
	{[]string{"processed_by_kcidb_bridge"}, []int{500_000}},
	{[]string{"retry_counter"}, []int{300_000}},
	{[]string{"data.kernel_revision.tree"}, []int{40_000}},
	{[]string{"data.kernel_revision.url"}, []int{40_000}},
	{[]string{"data.kernel_revision.branch"}, []int{50_000}},
	{[]string{"data.kernel_revision.commit"}, []int{1_000}},
	{[]string{"data.kernel_revision.commit", "kind"}, []int{1_000, 300}},
	{[]string{"data.arch"}, []int{150_000}},
	{[]string{"data.defconfig"}, []int{100_000}},
	{[]string{"data.compiler"}, []int{200_000}},
	{[]string{"data.platform"}, []int{20_000}},
	{[]string{"data.runtime"}, []int{50_000}},
	{[]string{"data.job_id"}, []int{20}},
	{[]string{"data.error_code"}, []int{50_000}},
	{[]string{"data.fail_node"}, []int{20}},
	{[]string{"data.pass_node"}, []int{20}},
	{[]string{"data.regression"}, []int{20}},
	{[]string{"kind", "name", "data.kernel_revision.tree", "data.kernel_revision.branch"}, []int{200_000, 200, 80, 50}},
}

// shares says how many nodes one value of an indexed column selects, about.
var shares = sharesOf()

func sharesOf() map[string]int {
	m := map[string]int{"id": 1}
	for _, index := range indexes {
		if len(index.columns) == 1 {
			m[index.columns[0]] = index.shared[0]
		}
	}
	return m
}

// quoted gives a column's name as SQL takes it.
func quoted(column string) string { return `"` + column + `"` }

func quotedList(columns []string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = quoted(c)
	}
	return strings.Join(out, ", ")
}

// migrations bring the schema forward, each from the version of its index to
// the next. A released one never changes.
var migrations = []func() string{firstSchema}

// migrate runs what the file has not seen yet.
func migrate(ctx context.Context, conn *sql.Conn) error {
	for {
		var version int
		if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version == len(migrations) {
			return nil
		}
		if version > len(migrations) {
			return errs.New(errs.Invalid, "the file has schema %d, this program knows %d: use the newer program", version, len(migrations))
		}
		if err := step(ctx, conn, version); err != nil {
			return fmt.Errorf("schema %d: %w", version+1, err)
		}
	}
}

// step runs one migration, unless another process has been faster.
func step(ctx context.Context, conn *sql.Conn, from int) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	var version int
	err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	if err == nil && version == from {
		_, err = conn.ExecContext(ctx, migrations[from]()+fmt.Sprintf("\nPRAGMA user_version = %d;", from+1))
	}
	if err != nil {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // err says why
		return err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// firstSchema: columns have no type, so that SQLite converts no value.
func firstSchema() string {
	var b strings.Builder
	b.WriteString("CREATE TABLE node (seq INTEGER PRIMARY KEY, rev INTEGER NOT NULL, " + quotedList(columns) +
		", doc TEXT NOT NULL CHECK (json_valid(doc)));\n")
	b.WriteString("CREATE UNIQUE INDEX node_id ON node (id);\n" + jobKey)
	stats := "ANALYZE sqlite_schema;\nINSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES\n('node', 'node_id', '1000000 1')"
	for _, index := range indexes {
		name := "node:" + strings.Join(index.columns, ",")
		fmt.Fprintf(&b, "CREATE INDEX %s ON node (%s);\n", quoted(name), quotedList(index.columns))
		stats += fmt.Sprintf(",\n('node', '%s', '1000000 %s')", name, strings.Trim(fmt.Sprint(index.shared), "[]"))
	}
	return b.String() + otherTables + accountTables + telemetryTable() + kvTable + decisionTable + eventTable() + subscriptionTable + stats + ";\n"
}

const jobKey = `CREATE UNIQUE INDEX node_job ON node (ifnull(parent, ''), name, "data.runtime", ifnull("data.platform", ''), retry_counter)
	WHERE kind IN ('kbuild', 'job', 'process') AND "data.runtime" <> '';
`

// zone is the span of creation times in each 1024 nodes, kept so that a query
// by time need not look outside: the time of creation never changes.
const otherTables = `
CREATE TABLE zone (block INTEGER PRIMARY KEY, low TEXT NOT NULL, high TEXT NOT NULL);
CREATE TRIGGER node_zone AFTER INSERT ON node BEGIN
	INSERT INTO zone VALUES (NEW.seq >> 10, NEW.created, NEW.created) ON CONFLICT DO UPDATE SET low = min(low, excluded.low), high = max(high, excluded.high);
END;
CREATE TABLE hierarchy (root TEXT, request TEXT, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (root, request)) WITHOUT ROWID;
CREATE TABLE log (last INTEGER NOT NULL);
INSERT INTO log VALUES (0);
CREATE TABLE cursor (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE claim (key TEXT PRIMARY KEY, holder TEXT NOT NULL, until TEXT) WITHOUT ROWID;
CREATE TABLE dead_letter (function TEXT, event TEXT, time TEXT NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (function, event)) WITHOUT ROWID;
CREATE INDEX dead_letter_time ON dead_letter (time);
`
