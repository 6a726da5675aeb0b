package ktap

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// clipped collects lines and keeps the first and the last half of maxText
// bytes of them.
type clipped struct {
	head, tail []byte
	left       int // bytes left out between the two
}

func (c *clipped) add(s string) {
	if s == "" {
		return
	}
	s += "\n"
	if len(c.tail) == 0 && len(c.head)+len(s) <= maxText/2 {
		c.head = append(c.head, s...)
		return
	}
	c.tail = append(c.tail, s...)
	// Cutting at twice the size makes the copying cheap.
	if len(c.tail) > maxText {
		c.cut()
	}
}

func (c *clipped) cut() {
	over := max(0, len(c.tail)-maxText/2)
	for over < len(c.tail) && !utf8.RuneStart(c.tail[over]) {
		over++
	}
	c.left += over
	c.tail = append([]byte(nil), c.tail[over:]...)
}

// take returns the text and empties c.
func (c *clipped) take() string {
	c.cut()
	gap := ""
	if c.left > 0 {
		gap = fmt.Sprintf("[%d bytes left out]\n", c.left)
	}
	s := string(c.head) + gap + string(c.tail)
	*c = clipped{}
	return strings.TrimRight(s, "\n")
}

// shorten cuts s to n bytes at most, between characters.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
