package api

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/user"
)

// bounds are what an archive may unpack to.
type bounds struct {
	files    int
	file     int64 // bytes of one
	total    int64 // bytes of all
	overhead int64 // bytes of the tar that are no file's
}

// archiveBounds are KernelCI's, and what 10,000 long names take.
var archiveBounds = bounds{files: 10_000, file: 512 << 20, total: 2 << 30, overhead: 64 << 20}

// Bounds of what unpacking takes.
const (
	maxWindow    = 32 << 20 // bytes that a decoder may look back
	maxUnpacking = 2        // archives at once
)

// unpacked is the answer to an archive.
type unpacked struct {
	Status   string   `json:"status"` // ok, partial_failure, error
	Uploaded int      `json:"uploaded"`
	Failed   int      `json:"failed"`
	Bytes    int64    `json:"bytes"`
	Prefix   string   `json:"prefix"`
	Failures []string `json:"failures"`
}

var archiveFields = regexp.MustCompile(`^archive$`)

// uploadArchive keeps the files of a tar: a form with the folder "path" and the
// file "archive". All of it is checked before the first file is kept.
func (f *Function) uploadArchive(w http.ResponseWriter, r *http.Request) {
	answer := unpacked{Status: "ok", Failures: []string{}}
	err := f.keepArchive(w, r, &answer)
	status := http.StatusOK
	if err != nil {
		failed := f.failed(r.Context(), err)
		status = failed.status
		maps.Copy(w.Header(), failed.GetHeaders())
		if answer.Failed == 0 {
			answer.Status, answer.Failed, answer.Failures = "error", 1, []string{failed.Error()}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		f.log.Debug("writing an answer", "error", err)
	}
}

func (f *Function) keepArchive(w http.ResponseWriter, r *http.Request, answer *unpacked) error {
	u, err := f.bearer(r)
	if err != nil {
		return err
	}
	m, err := f.form(w, r, archiveFields)
	if err != nil {
		return err
	}
	sent, err := m.next()
	if errors.Is(err, io.EOF) {
		return errs.New(errs.Invalid, "No archive field in upload")
	}
	if err != nil {
		return err
	}
	file, err := spool(sent.content)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // nobody can read it any more
	switch _, err := m.next(); {
	case err == nil:
		return errs.New(errs.Invalid, "archive: is given twice")
	case !errors.Is(err, io.EOF):
		return err
	case !m.known:
		return errs.New(errs.Invalid, "path: is missing")
	}
	answer.Prefix = m.folder
	return f.unpack(r.Context(), u, file, sent.name, answer)
}

// unpack keeps the files of an archive below answer.Prefix.
func (f *Function) unpack(ctx context.Context, u user.User, file *os.File, name string, answer *unpacked) error {
	target, err := destination(answer.Prefix, "a file of the archive")
	if err == nil {
		err = f.mayUpload(ctx, u, target)
	}
	if err != nil {
		return err
	}
	select {
	case f.unpacking <- struct{}{}:
		defer func() { <-f.unpacking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	check := func(string, io.Reader) error { return ctx.Err() }
	if err := archiveBounds.each(file, name, answer.Prefix, check); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return errs.Wrap(errs.Temporary, err)
	}
	var worst *failure
	err = archiveBounds.each(file, name, answer.Prefix, func(target string, content io.Reader) error {
		counted := &tally{Reader: content}
		_, err := f.storage.Upload(ctx, target, "", counted)
		if err == nil {
			answer.Uploaded++
			answer.Bytes += counted.bytes
			return nil
		}
		failed := f.failed(ctx, err)
		if worst == nil || failed.status > worst.status {
			worst = failed
		}
		answer.Status, answer.Failed = "partial_failure", answer.Failed+1
		answer.Failures = append(answer.Failures, fmt.Sprintf("%s: %s", target, failed))
		return ctx.Err()
	})
	if err == nil && worst != nil {
		err = worst
	}
	return err
}

// each calls take with the path and the content of every file of an archive,
// which take need not read. What is not right is Invalid: an archive of another
// kind than its name says, one that breaks off, is too large, leads out of the
// folder, or has more in it than files and folders.
func (b bounds) each(archive io.Reader, name, folder string, take func(target string, content io.Reader) error) error {
	plain, err := decoder(archive, name)
	if err != nil {
		return invalidArchive(err)
	}
	defer plain.Close()
	limited := &bounded{Reader: plain}
	limited.bound(b.total+b.overhead, errs.New(errs.Invalid, "Archive unpacks to more than %d bytes", b.total))
	reader := tar.NewReader(limited)
	files, total := 0, int64(0)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return invalidArchive(err)
		}
		if header.Typeflag == tar.TypeDir || header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		files++
		total += header.Size
		target, err := b.check(header, folder, files, total)
		if err != nil {
			return err
		}
		if err := take(target, reader); err != nil {
			return err
		}
		// The rest of it, so that what is broken in it shows.
		if _, err := io.Copy(io.Discard, reader); err != nil {
			return invalidArchive(err)
		}
	}
	if files == 0 {
		return errs.New(errs.Invalid, "Archive did not contain any regular files")
	}
	_, err = io.Copy(io.Discard, limited)
	return invalidArchive(err)
}

// check says where an entry goes, the files-th, with which there are total bytes.
func (b bounds) check(h *tar.Header, folder string, files int, total int64) (string, error) {
	switch {
	case h.Typeflag != tar.TypeReg:
		return "", errs.New(errs.Invalid, "Unsupported archive entry type for %.80q; only regular files are accepted", h.Name)
	case strings.HasPrefix(h.Name, "/") || strings.HasSuffix(h.Name, "/"):
		return "", errs.New(errs.Invalid, "Archive entry path is not relative and safe: %.80q", h.Name)
	case files > b.files:
		return "", errs.New(errs.Invalid, "Archive contains more than %d regular files", b.files)
	case h.Size > b.file:
		return "", errs.New(errs.Invalid, "Archive entry %.80q is larger than %d bytes", h.Name, b.file)
	case total > b.total:
		return "", errs.New(errs.Invalid, "Archive unpacks to more than %d bytes", b.total)
	}
	return destination(folder, h.Name)
}

// decoder reads the tar in an archive, as its name says.
func decoder(archive io.Reader, name string) (io.ReadCloser, error) {
	name = strings.ToLower(name)
	is := func(suffixes ...string) bool {
		for _, s := range suffixes {
			if strings.HasSuffix(name, s) {
				return true
			}
		}
		return false
	}
	switch {
	case is(".tar"):
		return io.NopCloser(archive), nil
	case is(".tar.gz", ".tgz"):
		return gzip.NewReader(archive)
	case is(".tar.xz", ".txz"):
		r, err := xz.NewReader(archive, maxWindow)
		return io.NopCloser(r), err
	case is(".tar.zst", ".tzst"):
		r, err := zstd.NewReader(archive, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return r.IOReadCloser(), nil
	}
	return nil, errs.New(errs.Invalid, "Unsupported archive type; expected .tar, .tar.gz, .tgz, .tar.zst, .tzst, .tar.xz, or .txz")
}

func invalidArchive(err error) error {
	if err == nil || errs.KindOf(err) != nil {
		return err
	}
	return errs.New(errs.Invalid, "archive: %s", err)
}

// tally counts what is read.
type tally struct {
	io.Reader
	bytes int64
}

// Read implements io.Reader.
func (c *tally) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes += int64(n)
	return n, err
}
