package job

import (
	"bytes"
	"io"
	"strings"

	"golang.org/x/text/transform"
)

// redactor blanks a secret out of a stream, also where it arrives in pieces.
type redactor struct {
	transform.NopResetter
	secret, mask []byte
}

// redact returns r without the secret: stars of the same length stand for it.
func redact(r io.Reader, secret string) io.Reader {
	return transform.NewReader(r, redactor{secret: []byte(secret), mask: bytes.Repeat([]byte("*"), len(secret))})
}

// redactText is redact for a string.
func redactText(s, secret string) string {
	return strings.ReplaceAll(s, secret, strings.Repeat("*", len(secret)))
}

// Transform implements transform.Transformer.
func (r redactor) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for {
		rest := src[nSrc:]
		found := bytes.Index(rest, r.secret)
		plain := found
		if found < 0 {
			plain = len(rest) - r.begun(rest, atEOF)
		}
		n := copy(dst[nDst:], rest[:plain])
		nDst, nSrc = nDst+n, nSrc+n
		switch {
		case n < plain || found >= 0 && len(dst)-nDst < len(r.mask):
			return nDst, nSrc, transform.ErrShortDst
		case found < 0 && nSrc < len(src):
			return nDst, nSrc, transform.ErrShortSrc
		case found < 0:
			return nDst, nSrc, nil
		}
		nDst += copy(dst[nDst:], r.mask)
		nSrc += len(r.secret)
	}
}

// begun is how many bytes at the end of b may be the beginning of the secret.
func (r redactor) begun(b []byte, atEOF bool) int {
	if atEOF {
		return 0
	}
	for n := min(len(r.secret)-1, len(b)); n > 0; n-- {
		if bytes.HasSuffix(b, r.secret[:n]) {
			return n
		}
	}
	return 0
}
