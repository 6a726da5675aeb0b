package storage_test

import (
	"errors"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
)

func FuzzACleanPathStaysBelow(f *testing.F) {
	for _, seed := range []string{"a/b", "../x", "a/../b", "/etc", `..\\x`, "a\x00", "..\xc0\xaf", "%2e%2e/x", "．．/x", "a\u202eb", ".", "a/", "", strings.Repeat("a/", 600)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, p string) {
		clean, err := storage.CleanPath(p)
		if err != nil {
			if !errors.Is(err, errs.Invalid) || clean != "" {
				t.Errorf("%q: %q, %v", p, clean, err)
			}
			return
		}
		if clean != p || !filepath.IsLocal(p) || path.Join("/top", p) != "/top/"+p || len(p) > 1024 || !utf8.ValidString(p) {
			t.Errorf("%q leads elsewhere", p)
		}
		if strings.ContainsAny(p, "\x00\r\n\\") {
			t.Errorf("%q is more than a line", p)
		}
		if again, err := storage.CleanPath(clean); again != clean || err != nil {
			t.Errorf("%q again: %q, %v", p, again, err)
		}
	})
}

func TestTheNameSaysTheContentType(t *testing.T) {
	for name, want := range map[string]string{
		"log.txt": "text/plain; charset=utf-8", "a/.config": "text/plain; charset=utf-8", "log.txt.gz": "application/gzip", "x.tar.xz": "application/x-xz",
		"x.tgz": "application/gzip", "data.JSON": "application/json", "bzImage": "application/octet-stream", "x.unknown": "application/octet-stream",
		"page.html": "text/html; charset=utf-8", "x.svg": "image/svg+xml", "x.js": "application/octet-stream",
	} {
		if got := storage.ContentType(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
