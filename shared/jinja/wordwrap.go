package jinja

import (
	"strings"
	"unicode"
)

// filterWordwrap is Python's textwrap.wrap of each line.
func filterWordwrap(m *machine, a []Value) Value {
	mark := "\n"
	if a[3] != nil {
		mark = asText(a[3])
	}
	s, ok := str(a[0])
	if !ok {
		if u, is := a[0].(*Undefined); is {
			u.raise()
		}
		raise(attributeError, "'%s' object has no attribute 'splitlines'", typeName(a[0]))
	}
	var out []string
	for _, line := range splitLines(s, false) {
		m.spend(48 * len(line))
		w := &wrapper{width: index(a[1]), breakLong: m.truth(a[2]), hyphens: m.truth(a[4])}
		out = append(out, strings.Join(w.wrap(line), mark))
	}
	return m.text(strings.Join(out, mark))
}

type wrapper struct {
	width     int
	breakLong bool
	hyphens   bool
}

func (w *wrapper) wrap(line string) []string {
	if w.width <= 0 {
		raise(valueError, "invalid width %d (must be > 0)", w.width)
	}
	var lines []string
	chunks := w.chunks(runes(line))
	for len(chunks) > 0 {
		if len(lines) > 0 && blank(chunks[0]) {
			chunks = chunks[1:]
		}
		var current []string
		length := 0
		for len(chunks) > 0 && length+len(chunks[0]) <= w.width {
			current = append(current, strings.Join(chunks[0], ""))
			length += len(chunks[0])
			chunks = chunks[1:]
		}
		if len(chunks) > 0 && len(chunks[0]) > w.width {
			var head []string
			head, chunks = w.long(chunks, w.width-length, len(current) == 0)
			if head != nil {
				current = append(current, strings.Join(head, ""))
			}
		}
		if n := len(current); n > 0 && strings.TrimFunc(current[n-1], isSpace) == "" {
			current = current[:n-1]
		}
		if len(current) > 0 {
			lines = append(lines, strings.Join(current, ""))
		}
	}
	return lines
}

func blank(chunk []string) bool { return strings.TrimFunc(strings.Join(chunk, ""), isSpace) == "" }

// long breaks a chunk that fits no line, or takes it whole if it comes first.
func (w *wrapper) long(chunks [][]string, room int, first bool) (head []string, rest [][]string) {
	chunk := chunks[0]
	switch {
	case w.breakLong:
		end := max(room, 0)
		if w.width < 1 {
			end = 1
		}
		if w.hyphens && len(chunk) > end {
			if i := lastIndex(chunk[:end], "-"); i > 0 && strings.Trim(strings.Join(chunk[:i], ""), "-") != "" {
				end = i + 1
			}
		}
		chunks[0] = chunk[end:]
		return chunk[:end], chunks
	case first:
		return chunk, chunks[1:]
	}
	return nil, chunks
}

func lastIndex(list []string, s string) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i] == s {
			return i
		}
	}
	return -1
}

// chunks parts a line where it may be broken.
func (w *wrapper) chunks(list []string) [][]string {
	var out [][]string
	for i := 0; i < len(list); {
		end := w.chunk(list, i)
		out = append(out, list[i:end:end])
		i = end
	}
	return out
}

func isWrapSpace(c string) bool { return strings.Contains("\t\n\v\f\r ", c) }

// chunk is where the chunk that begins at i ends.
func (w *wrapper) chunk(list []string, i int) int {
	end := i
	if isWrapSpace(list[i]) {
		for end < len(list) && isWrapSpace(list[end]) {
			end++
		}
		return end
	}
	if w.hyphens && i > 0 && isWordPunct(list[i-1]) {
		if n := dash(list, i); n > 0 {
			return i + n
		}
	}
	for end = i + 1; end < len(list) && !isWrapSpace(list[end]); end++ {
		if !w.hyphens {
			continue
		}
		if isWordPunct(list[end-1]) && dash(list, end) > 0 {
			return end
		}
		if hyphenated(list, end) {
			return end + 1
		}
	}
	return end
}

// dash is the length of a dash of two and more hyphens before a word, or 0.
func dash(list []string, i int) int {
	n := 0
	for i+n < len(list) && list[i+n] == "-" {
		n++
	}
	if n >= 2 && i+n < len(list) && isWordChar([]rune(list[i+n])[0]) {
		return n
	}
	return 0
}

func isWordPunct(c string) bool {
	return isWordChar([]rune(c)[0]) || strings.Contains("!\"'&.,?", c)
}

func isLetter(list []string, i int) bool {
	if i < 0 || i >= len(list) {
		return false
	}
	c := []rune(list[i])[0]
	return isWordChar(c) && !unicode.IsDigit(c)
}

// hyphenated says whether a word may be broken behind the hyphen at i.
func hyphenated(list []string, i int) bool {
	if list[i] != "-" {
		return false
	}
	before := isLetter(list, i-1) && isLetter(list, i-2) ||
		i >= 3 && isLetter(list, i-3) && list[i-2] == "-" && isWordPunct(list[i-1])
	after := isLetter(list, i+1) && (isLetter(list, i+2) || i+3 < len(list) && list[i+2] == "-" && isLetter(list, i+3))
	return before && after
}
