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

// indexes lists each index of the node table with about how many nodes of a
// million share one key up to each of its columns. The planner is given these
// numbers instead of statistics, so that a plan depends on the query alone and
// a test can hold it.
var indexes = []struct {
	columns []string
	shared  string
}{
	{[]string{"kind"}, "200000"},
	{[]string{"name"}, "200"},
	{[]string{"group"}, "5000"},
	{[]string{"parent"}, "20"},
	{[]string{"parent", "state"}, "20 10"},
	{[]string{"result"}, "250000"},
	{[]string{"owner"}, "500000"},
	{[]string{"owner", "data.kernel_revision.commit"}, "500000 600"},
	{[]string{"submitter"}, "500000"},
	{[]string{"treeid"}, "1000"},
	{[]string{"treeid", "kind"}, "1000 300"},
	{[]string{"created"}, "2"},
	{[]string{"updated"}, "2"},
	{[]string{"timeout"}, "2"},
	{[]string{"holdoff"}, "1000"},
	{[]string{"state"}, "100000"},
	{[]string{"state", "timeout"}, "100000 2"},
	{[]string{"state", "holdoff"}, "100000 100"},
	{[]string{"processed_by_kcidb_bridge"}, "500000"},
	{[]string{"retry_counter"}, "300000"},
	{[]string{"data.kernel_revision.tree"}, "40000"},
	{[]string{"data.kernel_revision.url"}, "40000"},
	{[]string{"data.kernel_revision.branch"}, "50000"},
	{[]string{"data.kernel_revision.commit"}, "1000"},
	{[]string{"data.arch"}, "150000"},
	{[]string{"data.defconfig"}, "100000"},
	{[]string{"data.compiler"}, "200000"},
	{[]string{"data.platform"}, "20000"},
	{[]string{"data.runtime"}, "50000"},
	{[]string{"data.job_id"}, "20"},
	{[]string{"data.error_code"}, "50000"},
	{[]string{"data.fail_node"}, "20"},
	{[]string{"data.pass_node"}, "20"},
	{[]string{"data.regression"}, "20"},
	{[]string{"kind", "name", "data.kernel_revision.tree", "data.kernel_revision.branch"}, "200000 150 80 50"},
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
		stats += fmt.Sprintf(",\n('node', '%s', '1000000 %s')", name, index.shared)
	}
	return b.String() + otherTables + stats + ";\n"
}

const jobKey = `CREATE UNIQUE INDEX node_job ON node (ifnull(parent, ''), name, "data.runtime", ifnull("data.platform", ''), retry_counter)
	WHERE kind IN ('kbuild', 'job', 'process') AND "data.runtime" <> '';
`

const otherTables = `
CREATE TABLE hierarchy (root TEXT, request TEXT, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (root, request)) WITHOUT ROWID;
CREATE TABLE log (last INTEGER NOT NULL);
INSERT INTO log VALUES (0);
CREATE TABLE event (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, channel TEXT NOT NULL, type TEXT NOT NULL, source TEXT NOT NULL,
	time TEXT NOT NULL, owner TEXT NOT NULL, treeid TEXT NOT NULL, attributes TEXT,
	op TEXT, kind TEXT, state TEXT, result TEXT, name TEXT, "group" TEXT, path TEXT, node TEXT, data TEXT NOT NULL);
CREATE INDEX event_channel ON event (channel);
CREATE INDEX event_time ON event (time);
CREATE INDEX event_node ON event (node);
CREATE INDEX event_kind ON event (kind, state);
CREATE INDEX event_name ON event (name);
CREATE INDEX event_owner ON event (owner);
CREATE TABLE subscription (id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, user TEXT NOT NULL, promiscuous INTEGER NOT NULL,
	subscriber TEXT UNIQUE, acknowledged INTEGER NOT NULL, delivered INTEGER NOT NULL, polled TEXT, created TEXT NOT NULL);
CREATE TABLE cursor (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE claim (key TEXT PRIMARY KEY, holder TEXT NOT NULL, until TEXT) WITHOUT ROWID;
CREATE TABLE user (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, username TEXT NOT NULL UNIQUE, email TEXT UNIQUE, doc TEXT NOT NULL);
CREATE TABLE dead_letter (function TEXT, event TEXT, time TEXT NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (function, event)) WITHOUT ROWID;
CREATE INDEX dead_letter_time ON dead_letter (time);
`
