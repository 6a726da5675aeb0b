package jinja

import (
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The kinds of token; an operator's kind is its own text.
const (
	tokEOF           = "end of template"
	tokData          = "template data"
	tokBlockBegin    = "begin of statement block"
	tokBlockEnd      = "end of statement block"
	tokVariableBegin = "begin of print statement"
	tokVariableEnd   = "end of print statement"
	tokName          = "name"
	tokString        = "string"
	tokInteger       = "integer"
	tokFloat         = "float"
)

type token struct {
	kind  string
	text  string // of a name, a string or data
	value Value  // of a number
	line  int
}

// is says whether the token is that name.
func (t token) is(name string) bool { return t.kind == tokName && t.text == name }

func (t token) String() string {
	if t.kind == tokName {
		return t.text
	}
	return t.kind
}

type lexer struct {
	template string
	src      string
	pos      int
	line     int
	open     []byte // the brackets to be closed
	tokens   []token
}

// lex cuts a template into tokens: whitespace and comments are gone.
func lex(template, source string) []token {
	source = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(source)
	l := &lexer{template: template, src: strings.TrimSuffix(source, "\n"), line: 1}
	for l.pos < len(l.src) {
		l.root()
	}
	l.emit(token{kind: tokEOF})
	return l.tokens
}

func (l *lexer) emit(t token) {
	t.line = l.line
	l.tokens = append(l.tokens, t)
}

func (l *lexer) fail(format string, args ...any) {
	raiseAt(l.template, l.line, syntaxError, format, args...)
}

// advance moves over n bytes and counts their lines.
func (l *lexer) advance(n int) string {
	text := l.src[l.pos : l.pos+n]
	l.line += strings.Count(text, "\n")
	l.pos += n
	return text
}

func (l *lexer) rest() string { return l.src[l.pos:] }

// root reads data up to a tag, and the tag.
func (l *lexer) root() {
	rest := l.rest()
	begin := nextTag(rest)
	if begin < 0 {
		l.data(rest, false)
		l.advance(len(rest))
		return
	}
	after := rest[begin+2:]
	strip := strings.HasPrefix(after, "-")
	l.data(rest[:begin], strip)
	l.advance(begin)
	tag, skip := l.rest()[:2], 2
	if strip || strings.HasPrefix(after, "+") {
		skip++
	}
	switch {
	case tag == "{#":
		l.advance(skip)
		l.comment()
	case tag == "{{":
		l.emit(token{kind: tokVariableBegin})
		l.advance(skip)
		l.tag(tokVariableEnd, "}}", false)
	default:
		if n := rawTag(l.rest()[skip:], "raw", false); n > 0 {
			l.advance(skip + n)
			l.raw()
			return
		}
		l.emit(token{kind: tokBlockBegin})
		l.advance(skip)
		l.tag(tokBlockEnd, "%}", true)
	}
}

func nextTag(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && (s[i+1] == '{' || s[i+1] == '%' || s[i+1] == '#') {
			return i
		}
	}
	return -1
}

func (l *lexer) data(text string, strip bool) {
	if strip {
		text = strings.TrimRightFunc(text, isSpace)
	}
	if text != "" {
		l.emit(token{kind: tokData, text: text})
	}
}

// endTag is the length of what ends a tag here: with a sign, and with the
// whitespace that a "-" eats; 0 if nothing ends.
func endTag(s, end string, plus bool) int {
	switch {
	case strings.HasPrefix(s, end):
		return len(end)
	case plus && strings.HasPrefix(s, "+"+end):
		return len(end) + 1
	case strings.HasPrefix(s, "-"+end):
		return len(end) + 1 + spaces(s[len(end)+1:])
	}
	return 0
}

func spaces(s string) int { return len(s) - len(strings.TrimLeftFunc(s, isSpace)) }

func (l *lexer) comment() {
	rest := l.rest()
	for i := range len(rest) {
		if n := endTag(rest[i:], "#}", true); n > 0 {
			l.advance(i + n)
			return
		}
	}
	if rest != "" { // at the very end, Jinja2 does not mind
		l.fail("missing end of comment tag")
	}
}

// rawTag is the length of "raw %}" or "endraw %}" at the head of s, or 0.
func rawTag(s, name string, plus bool) int {
	begin := spaces(s)
	if !strings.HasPrefix(s[begin:], name) {
		return 0
	}
	begin += len(name)
	begin += spaces(s[begin:])
	if n := endTag(s[begin:], "%}", plus); n > 0 {
		return begin + n
	}
	return 0
}

func (l *lexer) raw() {
	rest := l.rest()
	for i := 0; i+1 < len(rest); i++ {
		if rest[i:i+2] != "{%" {
			continue
		}
		sign, skip := rest[i+2:], 2
		if strings.HasPrefix(sign, "-") || strings.HasPrefix(sign, "+") {
			skip++
		}
		if n := rawTag(rest[i+skip:], "endraw", true); n > 0 {
			l.data(rest[:i], strings.HasPrefix(sign, "-"))
			l.advance(i + skip + n)
			return
		}
	}
	if rest != "" {
		l.fail("missing end of raw directive")
	}
}

// tag reads the tokens up to the tag's end.
func (l *lexer) tag(kind, end string, plus bool) {
	for l.pos < len(l.src) {
		if len(l.open) == 0 {
			if n := endTag(l.rest(), end, plus); n > 0 {
				l.emit(token{kind: kind})
				l.advance(n)
				return
			}
		}
		l.inTag()
	}
}

func (l *lexer) inTag() {
	rest := l.rest()
	if n := spaces(rest); n > 0 {
		l.advance(n)
		return
	}
	for _, read := range []func(string) int{l.number, l.name, l.quoted, l.operator} {
		if n := read(rest); n > 0 {
			l.advance(n)
			return
		}
	}
	c, _ := utf8.DecodeRuneInString(rest)
	l.fail("unexpected char %q", c)
}

// digits is the length of digits at the head of s that single "_" may part.
func digits(s, set string) int {
	n := 0
	for n < len(s) && strings.IndexByte(set, s[n]) >= 0 {
		n++
		if n+1 < len(s) && s[n] == '_' && strings.IndexByte(set, s[n+1]) >= 0 {
			n++
		}
	}
	return n
}

const decimal = "0123456789"

func (l *lexer) number(s string) int {
	if l.pos == 0 || l.src[l.pos-1] != '.' {
		if n := floatLen(s); n > 0 {
			f, _ := strconv.ParseFloat(strings.ReplaceAll(s[:n], "_", ""), 64)
			l.emit(token{kind: tokFloat, value: f})
			return n
		}
	}
	n := integerLen(s)
	if n == 0 {
		return 0
	}
	text := strings.ReplaceAll(s[:n], "_", "")
	if len(text) > maxDigits {
		l.fail("an integer of more than %d digits", maxDigits)
	}
	i, _ := new(big.Int).SetString(text, 0)
	l.emit(token{kind: tokInteger, value: norm(i)})
	return n
}

func floatLen(s string) int {
	n := digits(s, decimal)
	if n == 0 {
		return 0
	}
	whole := n
	if n < len(s) && s[n] == '.' {
		if d := digits(s[n+1:], decimal); d > 0 {
			n += 1 + d
		}
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		sign := n + 1
		if sign < len(s) && (s[sign] == '+' || s[sign] == '-') {
			sign++
		}
		if d := digits(s[sign:], decimal); d > 0 {
			return sign + d
		}
	}
	if n == whole {
		return 0
	}
	return n
}

func integerLen(s string) int {
	if len(s) > 2 && s[0] == '0' {
		set := map[byte]string{'b': "01", 'o': "01234567", 'x': "0123456789abcdefABCDEF"}[s[1]|0x20]
		begin := 2
		if s[2] == '_' {
			begin = 3
		}
		if d := digits(s[begin:], set); d > 0 {
			return begin + d
		}
	}
	if strings.HasPrefix(s, "0") {
		return digits(s, "0")
	}
	return digits(s, decimal)
}

func (l *lexer) name(s string) int {
	n := len(s) - len(strings.TrimLeftFunc(s, isWord))
	if n == 0 {
		return 0
	}
	first, _ := utf8.DecodeRuneInString(s)
	if !unicode.IsLetter(first) && first != '_' && !unicode.Is(unicode.Nl, first) {
		l.fail("invalid character in identifier")
	}
	l.emit(token{kind: tokName, text: s[:n]})
	return n
}

func isWord(c rune) bool {
	return c == '_' || unicode.IsLetter(c) || unicode.IsNumber(c) || unicode.Is(unicode.Mn, c) || unicode.Is(unicode.Mc, c)
}

func (l *lexer) quoted(s string) int {
	if s[0] != '\'' && s[0] != '"' {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			l.emit(token{kind: tokString, text: l.unescape(s[1:i])})
			return i + 1
		}
	}
	return 0
}

var simpleEscapes = map[byte]string{
	'\n': "", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

// unescape reads a string as Python's unicode-escape does. There, a backslash
// before a character that is not ASCII doubles the one of its own escape.
func (l *lexer) unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out.WriteByte(s[i])
			continue
		}
		i++
		if text, ok := simpleEscapes[s[i]]; ok {
			out.WriteString(text)
			continue
		}
		if s[i] >= utf8.RuneSelf {
			c, size := utf8.DecodeRuneInString(s[i:])
			out.WriteString(escapeRune(c))
			i += size - 1
			continue
		}
		n, c := l.codeEscape(s[i:])
		if n == 0 {
			out.WriteByte('\\')
			out.WriteByte(s[i])
			continue
		}
		if utf8.RuneLen(c) < 0 {
			raiseAt(l.template, l.line, unsupported, "half of a surrogate pair in a string")
		}
		out.WriteRune(c)
		i += n - 1
	}
	return out.String()
}

// codeEscape reads a character's code: the length of the escape (0 if it is
// none) and the character.
func (l *lexer) codeEscape(s string) (int, rune) {
	width := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[0]]
	switch {
	case s[0] == 'N':
		raiseAt(l.template, l.line, unsupported, "a character by its name in a string")
	case width > 0:
		if len(s) <= width {
			l.fail("truncated \\%c escape", s[0])
		}
		c, err := strconv.ParseUint(s[1:1+width], 16, 32)
		if err != nil || c > unicode.MaxRune {
			l.fail("truncated \\%c escape", s[0])
		}
		return 1 + width, rune(c)
	}
	n := 0
	for n < len(s) && n < 3 && s[n] >= '0' && s[n] <= '7' {
		n++
	}
	c, _ := strconv.ParseUint("0"+s[:n], 8, 32)
	return n, rune(c)
}

var operators = []string{"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}

func (l *lexer) operator(s string) int {
	for _, op := range operators {
		if strings.HasPrefix(s, op) {
			l.balance(op[0])
			l.emit(token{kind: op})
			return len(op)
		}
	}
	return 0
}

func (l *lexer) balance(c byte) {
	switch c {
	case '(':
		l.open = append(l.open, ')')
	case '[':
		l.open = append(l.open, ']')
	case '{':
		l.open = append(l.open, '}')
	case ')', ']', '}':
		last := len(l.open) - 1
		if last < 0 || l.open[last] != c {
			l.fail("unexpected %q", c)
		}
		l.open = l.open[:last]
	}
}

// isSpace is Python's notion of whitespace.
func isSpace(c rune) bool { return unicode.IsSpace(c) || c >= 0x1c && c <= 0x1f }
