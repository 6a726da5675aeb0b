package blob

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// bucket is a folder as anybody who knows gocloud sees it.
func bucket(t *testing.T) *blob.Bucket {
	t.Helper()
	f, err := openFolder(t.TempDir())
	check(t, err)
	b := blob.NewBucket(f)
	t.Cleanup(func() { check(t, b.Close()) })
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFolderIsABucket(t *testing.T) {
	b := bucket(t)
	check(t, b.WriteAll(t.Context(), "a/log.txt", []byte("0123456789"), nil))
	for _, tc := range []struct {
		offset, length int64
		want           string
	}{{0, -1, "0123456789"}, {7, -1, "789"}, {2, 3, "234"}, {2, 0, ""}, {8, 9, "89"}, {10, -1, ""}} {
		r, err := b.NewRangeReader(t.Context(), "a/log.txt", tc.offset, tc.length, nil)
		check(t, err)
		if got, err := io.ReadAll(r); err != nil || string(got) != tc.want || r.Size() != 10 {
			t.Errorf("%+v: %q of %d: %v", tc, got, r.Size(), err)
		}
		check(t, r.Close())
	}
	a, err := b.Attributes(t.Context(), "a/log.txt")
	check(t, err)
	if a.Size != 10 || a.ContentType != "text/plain; charset=utf-8" || a.ModTime.IsZero() || a.ETag != etag(a.As) {
		t.Errorf("%+v", a)
	}
	if _, err := b.Attributes(t.Context(), "a"); gcerrors.Code(err) != gcerrors.NotFound {
		t.Errorf("a folder has attributes: %v", err)
	}
	for call, err := range map[string]error{
		"Copy": b.Copy(t.Context(), "b", "a/log.txt", nil),
	} {
		if gcerrors.Code(err) != gcerrors.Unimplemented {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestAFolderIsListedByTokens(t *testing.T) {
	b := bucket(t)
	for i := range batch + 1 {
		w, err := b.NewWriter(t.Context(), fmt.Sprintf("many/%04d", i), &blob.WriterOptions{ContentType: "text/plain"})
		check(t, err)
		check(t, w.Close())
	}
	all := b.List(nil)
	for i := range batch + 1 {
		if o, err := all.Next(t.Context()); err != nil || o.Key != fmt.Sprintf("many/%04d", i) {
			t.Fatalf("%d: %+v: %v", i, o, err)
		}
	}
	if o, err := all.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("%+v: %v", o, err)
	}
	if _, err := b.List(&blob.ListOptions{Delimiter: "/"}).Next(t.Context()); gcerrors.Code(err) != gcerrors.Unimplemented {
		t.Errorf("a delimiter: %v", err)
	}
}
