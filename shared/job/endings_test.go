package job

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/node"
)

// endings are scripts, each with what the protocol in doc.go says of it; the
// golden file endings.golden shows what became of them.
var endings = []struct {
	promise string
	kind    node.Kind
	limit   time.Duration
	script  string
}{
	{promise: "exit status 0 is pass", script: "echo hello; echo world >&2"},
	{promise: "any other exit status is fail", script: "exit 3"},
	{promise: "a last line that breaks off is ended", script: "printf 'no newline'"},
	{promise: "a failure says why", script: "echo 'make: *** [vmlinux] Error 1' > $KCI_RESULTS/error; exit 2"},
	{promise: "exit status 77 is skip", script: "echo 'no KVM here' > $KCI_RESULTS/error; exit 77"},
	{promise: "exit status 75 is incomplete by the machine's fault", script: "exit 75"},
	{promise: "a fault of the machine says which", script: "printf 'cannot fetch\\001\\n' > $KCI_RESULTS/error; exit 75"},
	{promise: "death by a signal is incomplete", script: "kill -KILL $$"},
	{promise: "a lapsed limit is incomplete", limit: 201 * time.Millisecond, script: "sleep 1000"},
	{promise: "a script that ignores SIGTERM is killed", limit: 200 * time.Millisecond, script: "trap '' TERM; while :; do sleep 0.02; done"},
	{promise: "a script that ends well when its time is up has not passed", limit: 200 * time.Millisecond,
		script: "exec 2>/dev/null; trap 'echo bye; exit 0' TERM; while :; do sleep 0.02; done"},
	{promise: "test cases become nodes", script: `cat > $KCI_RESULTS/kunit.ktap <<END
KTAP version 1
1..2
    KTAP version 1
    1..2
    ok 1 add
    ok 2 divide # SKIP no fpu
ok 1 math
ok 2 list
END`},
	{promise: "a failed test fails the job", script: "printf '1..2\\nok 1 a\\n# expected 1\\nnot ok 2 b\\n' > $KCI_RESULTS/unit.ktap"},
	{promise: "a lone case called like its file is not doubled", script: "printf '1..1\\n    1..1\\n    ok 1 inner\\nok 1 boot\\n' > $KCI_RESULTS/boot.ktap"},
	{promise: "half a plan is incomplete", script: "printf '1..3\\nok 1 a\\n' > $KCI_RESULTS/unit.ktap"},
	{promise: "half a plan with a failure is incomplete too", script: "printf '1..3\\nnot ok 1 a\\n' > $KCI_RESULTS/unit.ktap"},
	{promise: "no plan is incomplete", script: "printf 'ok 1 a\\n' > $KCI_RESULTS/unit.ktap"},
	{promise: "an empty file of results is incomplete", script: ": > $KCI_RESULTS/unit.ktap"},
	{promise: "bail out is incomplete", script: "printf '1..2\\nok 1 a\\nBail out! no disk\\n' > $KCI_RESULTS/unit.ktap; exit 1"},
	{promise: "results that are removed are none", script: "rm -rf $KCI_RESULTS"},
	{promise: "results behind a link are not read", script: `mkdir ../other; printf '1..1\nok 1 a\n' > ../other/unit.ktap
rm -rf $KCI_RESULTS; ln -s ../scratch/other $KCI_RESULTS`},
	{promise: "a pipe in the place of the artifacts holds nobody up", script: "rmdir $KCI_RESULTS/artifacts; mkfifo $KCI_RESULTS/artifacts"},
	{promise: "only regular files are read", script: `cd $KCI_RESULTS
mkfifo pipe.ktap data.json error artifacts/pipe
ln -s /etc/passwd link.ktap; ln -s /dev/zero artifacts/zero; ln -s ../../work artifacts/up
mkdir artifacts/folder folder.ktap
echo good > artifacts/good`},
	{promise: "artifacts with bad names are refused", script: `cd $KCI_RESULTS/artifacts
echo 1 > log; echo 1 > log.txt.gz; echo 1 > 'a$b'; echo 1 > 'a\b'; echo 1 > "$(printf 'a\nb')"; echo 1 > "$(printf 'a\377b')"; echo 1 > $KCI_API_TOKEN
echo good > 'good name + 100%.txt'`},
	{promise: "data.json is put into the data", script: `echo '{"config_full":"defconfig+debug","misc":{"a":[1,null]},"kernel_revision":{"tree":"mine"},"runtime":"mine","platform":"mine","job_id":"mine","regression":"mine"}' > $KCI_RESULTS/data.json`},
	{promise: "data.json that makes no good node is ignored", script: `echo '{"arch":5,"misc":1}' > $KCI_RESULTS/data.json`},
	{promise: "data.json that is no object is ignored", script: "echo '[1]' > $KCI_RESULTS/data.json"},
	{promise: "a kbuild that passes is available", kind: node.KindKbuild, script: "echo kernel > $KCI_RESULTS/artifacts/kernel"},
	{promise: "a kbuild that fails is done", kind: node.KindKbuild, script: "exit 2"},
	{promise: "stdin is closed and the folder empty", script: "cat; ls -A; test $PWD = $KCI_WORK"},
	{promise: "a script sees these variables only", script: "env | grep -v -e ^PWD= -e ^OLDPWD= -e ^SHLVL= -e ^_= | sort"},
	{promise: "the token is blanked out everywhere", script: `echo token $KCI_API_TOKEN; printf 'split %.5s' $KCI_API_TOKEN; sleep 0.1; echo ${KCI_API_TOKEN#?????}
cd $KCI_RESULTS; echo "a $KCI_API_TOKEN b" > artifacts/leak
printf '1..2\n# diagnostic %s\nnot ok 1 %s\nok 2 %.5s\0%s\n' $KCI_API_TOKEN $KCI_API_TOKEN $KCI_API_TOKEN ${KCI_API_TOKEN#?????} > $KCI_API_TOKEN.ktap
printf '{"misc":"\\u006bci-token-0123456789.abcdef","%s":1}' $KCI_API_TOKEN > data.json
printf '%.5s\001%s' $KCI_API_TOKEN ${KCI_API_TOKEN#?????} > error; exit 1`},
}

func TestEachEndingIsReportedAsTheProtocolSays(t *testing.T) {
	shown := make([]string, len(endings))
	t.Run("endings", func(t *testing.T) {
		for i, row := range endings {
			t.Run(row.promise, func(t *testing.T) {
				w := newWorld(t, orElse(row.kind, node.KindJob))
				w.spec.Limit = orElse(row.limit, w.spec.Limit)
				w.prepare(row.script)
				w.run()
				w.phase(Reported)
				shown[i] = fmt.Sprintf("=== %s\n%s", row.promise, w.show())
			})
		}
	})
	golden(t, "endings.golden", strings.Join(shown, "\n"))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		check(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	check(t, err)
	if got == string(want) {
		return
	}
	wanted := strings.Split(string(want), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(wanted) || line != wanted[i] {
			t.Fatalf("%s, line %d: %q; see the difference with -update", path, i+1, line)
		}
	}
	t.Fatalf("%s is longer than what came out", path)
}

// show writes the job's report as text, the same on every machine.
func (w *world) show() string {
	w.t.Helper()
	reports := w.api.Reports(w.id)
	if len(reports) != 1 {
		w.t.Fatalf("%d reports\n%s", len(reports), w.said.String())
	}
	var out strings.Builder
	showNode(&out, reports[0], "")
	n := reports[0].Node
	before := w.spec.Node.Data
	for _, key := range slices.Sorted(maps.Keys(n.Data)) {
		if old, ok := before[key]; (!ok || fmt.Sprint(old) != fmt.Sprint(n.Data[key])) && !strings.HasPrefix(key, "error_") {
			fmt.Fprintf(&out, "data.%s: %v\n", key, n.Data[key])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.Artifacts)) {
		fmt.Fprintf(&out, "artifact %s: %s\n", name, n.Artifacts[name])
	}
	for _, name := range slices.Sorted(maps.Keys(w.api.Files())) {
		if !strings.HasSuffix(name, logName) {
			fmt.Fprintf(&out, "file %s: %q\n", name, w.api.Files()[name])
		}
	}
	for line := range strings.Lines(w.api.Log(w.t, w.id)) {
		fmt.Fprintf(&out, "| %s", line)
	}
	return strings.NewReplacer(w.api.URL(), "http://api", w.dir, "DIR", "PATH="+os.Getenv("PATH"), "PATH=...").Replace(out.String())
}

func showNode(out *strings.Builder, h node.Hierarchy, indent string) {
	n := h.Node
	fmt.Fprintf(out, "%s%s %q %s %s", indent, n.Kind, n.Name, n.State, n.Result)
	if code := n.Text("error_code"); code != "" {
		fmt.Fprintf(out, " [%s]", code)
	}
	if text := n.Text("error_msg"); text != "" {
		fmt.Fprintf(out, " %q", text)
	}
	out.WriteString("\n")
	for _, c := range h.Children {
		showNode(out, c, indent+"    ")
	}
}
