package lavaresult

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/transform"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Bounds of what is not streamed.
const (
	maxKey    = 1 << 10 // bytes of a key and of a number
	maxNested = 100     // levels of objects and lists
)

// Sink takes one value of an object. A writer that is nil takes nothing.
type Sink struct {
	Raw  io.Writer // the value as it stands
	Text io.Writer // what a string says; nothing of another value
}

// Scan reads an object of JSON, of any length, and passes each member's value to
// the sink for its key. What is no valid JSON, or more than one object, is
// Invalid; errors of the reader and of sinks are returned as they are.
func Scan(r io.Reader, member func(key string) (Sink, error)) error {
	s := &scanner{in: bufio.NewReaderSize(transform.NewReader(r, encoding.UTF8Validator), 64<<10)}
	if err := s.expect('{'); err != nil {
		return err
	}
	err := s.members(func() error {
		var key bytes.Buffer
		if err := s.key(&key); err != nil {
			return err
		}
		sink, err := member(key.String())
		if err != nil {
			return err
		}
		s.open(sink)
		if err := s.value(1); err != nil {
			return err
		}
		return s.close()
	})
	if err != nil {
		return err
	}
	if _, err := s.next(); err != io.EOF {
		if err == nil {
			err = malformed("there is more after the object")
		}
		return err
	}
	return nil
}

func malformed(why string) error { return errs.New(errs.Invalid, "malformed JSON: %s", why) }

// scanner reads JSON by recursive descent.
type scanner struct {
	in   *bufio.Reader
	raw  *bufio.Writer // nil: nobody wants it
	text *bufio.Writer
}

func (s *scanner) open(sink Sink) {
	s.raw, s.text = nil, nil
	if sink.Raw != nil {
		s.raw = bufio.NewWriter(sink.Raw)
	}
	if sink.Text != nil {
		s.text = bufio.NewWriter(sink.Text)
	}
}

// close passes on what is left; it has every error of the sink.
func (s *scanner) close() error {
	for _, w := range []*bufio.Writer{s.raw, s.text} {
		if w == nil {
			continue
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	s.open(Sink{})
	return nil
}

// emit passes on a byte; the writer remembers its error, which close returns.
func (s *scanner) emit(c byte) {
	if s.raw != nil {
		_ = s.raw.WriteByte(c)
	}
}

// take reads the next byte and passes it on.
func (s *scanner) take() (byte, error) {
	c, err := s.in.ReadByte()
	if err == io.EOF {
		return 0, malformed("it ends too soon")
	}
	if err == nil && s.raw != nil {
		err = s.raw.WriteByte(c)
	}
	return c, err
}

// next returns the next byte that is no white space, which stays unread.
func (s *scanner) next() (byte, error) {
	for {
		c, err := s.in.ReadByte()
		if err != nil {
			return 0, err
		}
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c, s.in.UnreadByte()
		}
	}
}

// expect reads c, past white space.
func (s *scanner) expect(c byte) error {
	got, err := s.next()
	if err == io.EOF {
		return malformed("it ends too soon")
	}
	if err != nil {
		return err
	}
	if got != c {
		return malformed("another character where " + string(rune(c)) + " must be")
	}
	_, err = s.take()
	return err
}

// members reads the rest of an object, whose keys and values one reads.
func (s *scanner) members(one func() error) error { return s.list('}', one) }

// list reads up to the closing character what one reads, between commas.
func (s *scanner) list(end byte, one func() error) error {
	c, err := s.next()
	if err == nil && c == end {
		_, err = s.take()
		return err
	}
	for err == nil {
		if err = one(); err != nil {
			return err
		}
		if c, err = s.next(); err == nil && c == end {
			_, err = s.take()
			return err
		}
		if err == nil {
			err = s.expect(',')
		}
	}
	if err == io.EOF {
		err = malformed("it ends too soon")
	}
	return err
}

// key reads a key with its colon.
func (s *scanner) key(into *bytes.Buffer) error {
	held := s.text
	s.text = bufio.NewWriter(&limited{into, maxKey, "a key"})
	err := s.expect('"')
	if err == nil {
		err = s.str()
	}
	if err == nil {
		err = s.text.Flush()
	}
	s.text = held
	if err != nil {
		return err
	}
	return s.expect(':')
}

// value reads any value.
func (s *scanner) value(depth int) error {
	c, err := s.next()
	switch {
	case err == io.EOF:
		return malformed("it ends too soon")
	case err != nil:
		return err
	case depth > maxNested:
		return malformed("it is nested too deep")
	case c == '"':
		_, _ = s.take()
		return s.str()
	case c == '{' || c == '[':
		return s.nested(depth + 1)
	}
	return s.word()
}

// nested reads an object or a list; what strings in it say is nobody's.
func (s *scanner) nested(depth int) error {
	held := s.text
	s.text = nil
	defer func() { s.text = held }()
	c, err := s.take()
	if err != nil {
		return err
	}
	if c == '[' {
		return s.list(']', func() error { return s.value(depth) })
	}
	return s.members(func() error {
		if err := s.key(new(bytes.Buffer)); err != nil {
			return err
		}
		return s.value(depth)
	})
}

// word reads a number, true, false or null.
func (s *scanner) word() error {
	var word []byte
	for len(word) <= maxKey {
		c, err := s.in.ReadByte()
		if err != nil && err != io.EOF {
			return err
		}
		if err == io.EOF || bytes.IndexByte([]byte(" \t\r\n,]}:[{\""), c) >= 0 {
			if err == nil {
				err = s.in.UnreadByte()
			}
			if !json.Valid(word) {
				return malformed("a value that is none")
			}
			return err
		}
		word = append(word, c)
		s.emit(c)
	}
	return malformed("a number that is too long")
}

// plain passes on the characters of a string up to one that means something, as
// far as they have been read already.
func (s *scanner) plain() error {
	ahead, err := s.in.Peek(max(1, s.in.Buffered()))
	if len(ahead) == 0 && err != nil && err != io.EOF {
		return err
	}
	end := bytes.IndexFunc(ahead, func(r rune) bool { return r == '"' || r == '\\' || r < ' ' })
	if end < 0 {
		end = len(ahead)
	}
	for _, w := range []*bufio.Writer{s.raw, s.text} {
		if w == nil {
			continue
		}
		if _, err := w.Write(ahead[:end]); err != nil {
			return err
		}
	}
	_, err = s.in.Discard(end)
	return err
}

// str reads the rest of a string.
func (s *scanner) str() error {
	for {
		if err := s.plain(); err != nil {
			return err
		}
		c, err := s.take()
		switch {
		case err != nil:
			return err
		case c == '"':
			return nil
		case c < ' ':
			return malformed("a control character in a string")
		case c == '\\':
			err = s.escape()
		case s.text != nil: // plain has come to the end of what was read
			err = s.text.WriteByte(c)
		}
		if err != nil {
			return err
		}
	}
}

var escapes = map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads what is behind a backslash.
func (s *scanner) escape() error {
	c, err := s.take()
	if err != nil {
		return err
	}
	r, known := escapes[c]
	if c == 'u' {
		r, err = s.unicode()
	} else if !known {
		err = malformed("an unknown escape in a string")
	}
	if err == nil && s.text != nil {
		_, err = s.text.WriteRune(r)
	}
	return err
}

// unicode reads the digits of an escape, and a second escape behind them where
// two are one character. Half of a character is U+FFFD.
func (s *scanner) unicode() (rune, error) {
	r, err := s.digits()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	var low uint16
	ahead, _ := s.in.Peek(len(`\u0000`))
	if _, err := fmt.Sscanf(string(ahead), `\u%04x`, &low); err != nil {
		return utf8.RuneError, nil
	}
	both := utf16.DecodeRune(r, rune(low))
	for range ahead {
		if both == utf8.RuneError {
			break
		}
		if _, err := s.take(); err != nil {
			return both, err
		}
	}
	return both, nil
}

func (s *scanner) digits() (rune, error) {
	var r rune
	for range 4 {
		c, err := s.take()
		if err != nil {
			return 0, err
		}
		digit := bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)
		if digit < 0 || c < '0' {
			return 0, malformed("an escape without four digits")
		}
		r = r<<4 | rune(digit)
	}
	return r, nil
}

// limited is a buffer that takes only so much.
type limited struct {
	*bytes.Buffer
	max  int
	what string
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > l.max {
		return 0, errs.New(errs.Invalid, "%s is longer than %d bytes", l.what, l.max)
	}
	return l.Buffer.Write(p)
}
