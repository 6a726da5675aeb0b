package job

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestTheSecretIsFoundHoweverTheStreamIsCut(t *testing.T) {
	mask := strings.Repeat("*", len(secret))
	for _, text := range []string{
		"", secret, secret[:5], secret + secret, "a" + secret[:9] + secret + "b", secret[:len(secret)-1],
		strings.Repeat("x", 4090) + secret + strings.Repeat("y", 9000) + secret, "kkkci-kci-token" + secret,
	} {
		want := strings.ReplaceAll(text, secret, mask)
		for name, r := range map[string]io.Reader{
			"whole":  strings.NewReader(text),
			"bytes":  iotest.OneByteReader(strings.NewReader(text)),
			"halves": iotest.HalfReader(strings.NewReader(text)),
		} {
			got, err := io.ReadAll(redact(r, secret))
			if err != nil || string(got) != want {
				t.Errorf("%s of %.40q: %.60q, %v", name, text, got, err)
			}
		}
	}
}

func TestALogNeverTakesMoreDiskThanItMay(t *testing.T) {
	for _, limit := range []int64{1, 10, 100, 4096} {
		dir := t.TempDir()
		log, err := newLog(dir, limit)
		check(t, err)
		var all bytes.Buffer
		for i := range 500 {
			line := fmt.Sprintf("line %d\n", i)
			all.WriteString(line)
			_, err := io.WriteString(log, line)
			check(t, err)
			if size := sizeOf(t, dir); size > max(limit, 3) {
				t.Fatalf("limit %d: %d bytes after line %d", limit, size, i)
			}
		}
		log.close()
		r, err := readLog(dir)
		check(t, err)
		got, err := io.ReadAll(r)
		check(t, err)
		check(t, r.Close())
		begin, end := all.Bytes()[:max(1, limit/2)], all.Bytes()[all.Len()-max(1, int(limit/4)):]
		if !bytes.HasPrefix(got, begin) || !bytes.HasSuffix(got, end) {
			t.Errorf("limit %d: beginning or end is missing: %.100q", limit, got)
		}
	}
}
