package api

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// endless writes a tar of one entry again and again until nobody reads on.
func endless(h tar.Header) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		for i := 0; ; i++ {
			next := h
			next.Name = fmt.Sprintf(h.Name, i)
			if err := t.WriteHeader(&next); err != nil {
				return
			}
			if _, err := io.CopyN(t, zeros{}, h.Size); err != nil {
				return
			}
		}
	}()
	return r
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestABombIsDefused(t *testing.T) {
	b := bounds{files: 100, file: 1000, total: 10_000, overhead: 1 << 20}
	for name, tc := range map[string]struct {
		header tar.Header
		want   string
	}{
		"many files":     {tar.Header{Name: "%d", Typeflag: tar.TypeReg, Size: 1}, "more than 100 regular files"},
		"many bytes":     {tar.Header{Name: "%d", Typeflag: tar.TypeReg, Size: 900}, "unpacks to more than 10000 bytes"},
		"a large file":   {tar.Header{Name: "%d", Typeflag: tar.TypeReg, Size: 1001}, "larger than 1000 bytes"},
		"many folders":   {tar.Header{Name: "%d/", Typeflag: tar.TypeDir}, "unpacks to more than 10000 bytes"},
		"many comments":  {tar.Header{Name: "%.0d", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": strings.Repeat("x", 1000)}}, "unpacks to more than"},
		"an endless end": {tar.Header{}, "unpacks to more than"},
	} {
		var r io.Reader = endless(tc.header)
		if tc.header.Name == "" {
			var good bytes.Buffer
			w := tar.NewWriter(&good)
			if err := errors.Join(w.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg}), w.Close()); err != nil {
				t.Fatal(err)
			}
			r = io.MultiReader(&good, zeros{})
		}
		taken := 0
		err := b.each(r, "x.tar", "folder", func(string, io.Reader) error { taken++; return nil })
		if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tc.want) || taken > b.files {
			t.Errorf("%s: %d files, %v", name, taken, err)
		}
	}
}
