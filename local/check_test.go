package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChecksNeedNoStoreAndSayHowTheyEnd(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("a.yaml", `
runtimes: {shell: {lab_type: shell}}
platforms: {shell: {}}
jobs: {it: {template: kver.jinja2, kind: job}}
scheduler:
  - {job: it, event: {channel: node, kind: checkout, state: available}, runtime: {name: shell}}
  - {job: it, event: {channel: node, kind: checkout, state: done}, runtime: {name: gone}}
`)
	event := write("event.json", `{"kind":"checkout","name":"checkout","path":["checkout"],"state":"available"}`)
	for _, tc := range []struct {
		args []string
		err  error
		want string
	}{
		{[]string{"-validate", "-config", dir}, nil, "0 errors, 1 warnings in "},
		{[]string{"-validate", "-config", dir, "-templates", dir, "-templates", dir}, nil, "1 jobs rendered in "},
		{[]string{"-validate", "-strict", "-config", dir}, errProblems, "a.yaml:7: warning: scheduler: no runtime \"gone\""},
		{[]string{"-validate", "-config", dir, "-templates", event}, errNotNil, ""},
		{[]string{"-validate"}, errNotNil, ""},
		{[]string{"-explain", event, "-config", dir}, nil, "Runs: 1\n"},
		{[]string{"-explain", event}, errNotNil, ""},
		{[]string{"-explain", event + ".gone", "-config", dir}, errNotNil, ""},
	} {
		var out, log bytes.Buffer
		err := realMain(t.Context(), tc.args, &out, &log)
		if !errors.Is(err, tc.err) && (err == nil || !errors.Is(tc.err, errNotNil)) || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%q: %v\n%s%s", tc.args, err, out.String(), log.String())
		}
	}
	if entries, err := os.ReadDir("data"); err == nil {
		t.Errorf("a check has made %v", entries)
	}
}

// errNotNil stands for any error.
var errNotNil = errors.New("an error")
