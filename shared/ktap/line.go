package ktap

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/kernelflow/kernelflow/shared/node"
)

type kind int

const (
	diagnostic kind = iota
	version
	plan
	result
	subtest
	bail
)

// line is one line of input, understood.
type line struct {
	kind   kind
	indent int    // columns; each "# " of kselftest's runner counts two
	hash   bool   // the line stands behind "# "
	count  int    // plan: how many
	number int    // result: 0 when there is none
	ok     bool   // result: begins with ok
	dash   bool   // result: " - " before its name
	text   string // the name of a result or subtest, the reason of a bail out
	note   string // what follows " # " in a result or plan
	words  string // the line as a diagnostic: without indentation and "#"
}

var (
	logPrefix   = regexp.MustCompile(`^(?:<\d{1,3}>)?\[ *\d+\.\d+\] ?(?:\[ *[CT]\d+\] ?)?`)
	colours     = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)
	versionLine = regexp.MustCompile(`^K?TAP version \d+\s*$`)
	planLine    = regexp.MustCompile(`^1\.\.(\d{1,9})\s*(?:#\s*(.*))?$`)
	resultLine  = regexp.MustCompile(`^(not )?ok(?:\s+(\d{1,9}))?(?:\s+(.*))?$`)
	bailLine    = regexp.MustCompile(`^Bail out!\s*(.*)$`)
	directive   = regexp.MustCompile(`(?i)^(SKIP|TODO|XFAIL|TIMEOUT|ERROR)\w*`)
)

// clean makes printable text of raw bytes.
func clean(raw []byte) string {
	s := strings.TrimRight(string(raw), "\r\n")
	s = colours.ReplaceAllString(strings.ToValidUTF8(s, "\uFFFD"), "")
	return strings.Map(func(r rune) rune {
		if r != '\t' && r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// maxHashes bounds how many "# " in front of a line are looked behind.
const maxHashes = 4

// parseLine understands one line. Structure behind "# " counts where behind
// says so for its indentation, or where it is a version line, which begins it.
func parseLine(s string, behind func(indent int) bool) line {
	s = strings.TrimRight(logPrefix.ReplaceAllString(s, ""), " \t")
	l := classify(s)
	for range maxHashes {
		if l.kind != diagnostic || !strings.HasPrefix(strings.TrimLeft(s, " "), "# ") {
			break
		}
		s = strings.Replace(s, "#", " ", 1)
		if in := classify(s); in.kind == version || in.kind != diagnostic && behind(in.indent) {
			in.hash = true
			return in
		}
	}
	return l
}

func classify(s string) line {
	body := strings.TrimLeft(s, " ")
	l := line{indent: len(s) - len(body), words: strings.TrimSpace(strings.TrimLeft(body, "#"))}
	if name, ok := strings.CutPrefix(l.words, "Subtest:"); ok && body != l.words {
		l.kind, l.text = subtest, strings.TrimSpace(name)
	} else if versionLine.MatchString(body) {
		l.kind = version
	} else if m := planLine.FindStringSubmatch(body); m != nil {
		l.kind, l.note = plan, m[2]
		l.count, _ = strconv.Atoi(m[1])
	} else if m := resultLine.FindStringSubmatch(body); m != nil {
		l.kind, l.ok = result, m[1] == ""
		l.number, _ = strconv.Atoi(m[2])
		l.name(m[3])
	} else if m := bailLine.FindStringSubmatch(body); m != nil {
		l.kind, l.text = bail, m[1]
	}
	return l
}

// name splits what follows the number of a result: "- name # note".
func (l *line) name(s string) {
	if s == "-" || strings.HasPrefix(s, "- ") {
		l.dash, s = true, strings.TrimLeft(s[1:], " ")
	}
	l.text = s
	if rest, ok := strings.CutPrefix(s, "#"); ok {
		l.text, l.note = "", rest
	} else if i := strings.Index(s, " #"); i >= 0 {
		l.text, l.note = s[:i], s[i+2:]
	}
	l.text = strings.TrimSpace(strings.ReplaceAll(l.text, `\#`, "#"))
	l.note = strings.TrimSpace(l.note)
}

// verdict is the result that a result line with its directive gives.
func (l *line) verdict() node.Result {
	switch word := directive.FindStringSubmatch(l.note); {
	case word == nil && l.ok:
		return node.Pass
	case word == nil:
		return node.Fail
	default:
		return l.directed(strings.ToUpper(word[1]))
	}
}

func (l *line) directed(word string) node.Result {
	switch {
	case word == "SKIP":
		return node.Skip
	case word == "TIMEOUT" || word == "ERROR":
		return node.Fail
	case l.ok:
		return node.Pass
	default:
		return node.Skip // TODO, XFAIL: known not to work
	}
}
