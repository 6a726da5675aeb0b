package storage

import (
	"path"
	"strings"
)

// contentTypes is by the extension of a name. It is a table of our own, since
// what mime.TypeByExtension says depends on the machine.
var contentTypes = map[string]string{
	".cfg": text, ".conf": text, ".config": text, ".diff": text, ".ktap": text, ".log": text, ".md": text, ".mbox": text,
	".patch": text, ".tap": text, ".txt": text, ".yaml": text, ".yml": text,
	".css": "text/css; charset=utf-8", ".csv": "text/csv; charset=utf-8", ".htm": html, ".html": html, ".xml": "text/xml; charset=utf-8",
	".bz2": "application/x-bzip2", ".gz": "application/gzip", ".tgz": "application/gzip", ".json": "application/json",
	".lz": "application/x-lzip", ".pdf": "application/pdf", ".tar": "application/x-tar", ".xz": "application/x-xz",
	".txz": "application/x-xz", ".zip": "application/zip", ".zst": "application/zstd",
	".gif": "image/gif", ".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".png": "image/png", ".svg": "image/svg+xml",
}

const (
	text = "text/plain; charset=utf-8"
	html = "text/html; charset=utf-8"
)

// ContentType guesses from the name of a path what is in it. A file of gzip is
// one whatever is packed in it.
func ContentType(p string) string {
	if t, ok := contentTypes[strings.ToLower(path.Ext(p))]; ok {
		return t
	}
	return "application/octet-stream"
}
