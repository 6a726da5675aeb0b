package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/user"
)

func (f *Function) storageRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /storage/v1/file", f.upload)
	mux.HandleFunc("GET /storage/{path...}", f.download) // and HEAD
}

// upload keeps a file: a form with "path" and then "file0", as KernelCI's own
// storage takes it.
func (f *Function) upload(w http.ResponseWriter, r *http.Request) {
	u, err := f.actor(withScope(r.Context(), user.ScopeStorage), WithToken{Authorization: r.Header.Get("Authorization")})
	if err != nil {
		f.writeError(w, r, err)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, f.maxUpload)
	link, err := f.keep(r.Context(), u, r)
	if err != nil {
		f.writeError(w, r, tooLarge(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]string{"url": link}); err != nil {
		f.log.Debug("writing an answer", "error", err)
	}
}

func tooLarge(err error) error {
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return plain(http.StatusRequestEntityTooLarge, "the file is larger than MAX_UPLOAD allows")
	}
	return err
}

func (f *Function) keep(ctx context.Context, u user.User, r *http.Request) (string, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return "", errs.New(errs.Invalid, "upload: the body is no multipart form: %s", err)
	}
	var target string
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return "", errs.New(errs.Invalid, "upload: the form has no file0")
		}
		if err != nil {
			return "", errs.Wrap(errs.Invalid, err)
		}
		switch part.FormName() {
		case "path":
			if target, err = f.target(ctx, u, part); err != nil {
				return "", err
			}
		case "file0":
			if target == "" {
				return "", errs.New(errs.Invalid, "upload: the field path must come before file0")
			}
			return f.storage.Upload(ctx, fullPath(target, part), "", part)
		}
	}
}

// target reads where a file should go and checks that u may put it there.
func (f *Function) target(ctx context.Context, u user.User, part io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(part, 2048))
	if err != nil {
		return "", errs.Wrap(errs.Invalid, err)
	}
	target, err := storage.CleanPath(string(text))
	if err != nil {
		return "", err
	}
	return target, f.mayUpload(ctx, u, target)
}

// fullPath adds the file's own name to a path that names a folder, as clients
// of KernelCI's storage expect: they send the folder and the name apart.
func fullPath(target string, part *multipart.Part) string {
	name := part.FileName()
	if name == "" || path.Base(target) == name {
		return target
	}
	return path.Join(target, name)
}

// mayUpload: a superuser anywhere; others below the id of a node that they may
// edit, which for a job must not have ended.
func (f *Function) mayUpload(ctx context.Context, u user.User, target string) error {
	if u.Superuser && u.Active {
		return nil
	}
	first, _, _ := strings.Cut(target, "/")
	id, err := node.ParseID(first)
	if err != nil || u.IsJob() && id != u.Node {
		return errUnauthorized
	}
	n, err := f.store.Get(ctx, id)
	if errors.Is(err, errs.NotFound) {
		return errUnauthorized
	}
	if err != nil {
		return err
	}
	return mayReport(u, n)
}

// download serves an artifact. What jobs upload is hostile: no browser may run
// it as a part of this site.
func (f *Function) download(w http.ResponseWriter, r *http.Request) {
	target, err := storage.CleanPath(r.PathValue("path"))
	if err != nil {
		f.writeError(w, r, err)
		return
	}
	content, info, err := f.storage.Open(r.Context(), target)
	if err != nil {
		f.writeError(w, r, err)
		return
	}
	defer func() { _ = content.Close() }() // only read
	header := w.Header()
	header.Set("Content-Type", served(info))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	http.ServeContent(w, r, path.Base(target), info.Modified, content)
}

// served is the type under which an artifact goes out: text stays readable,
// and nothing is left to be guessed.
func served(info storage.Info) string {
	kind, _, err := mime.ParseMediaType(info.ContentType)
	switch {
	case err != nil || kind == "":
		return "application/octet-stream"
	case kind == "text/html" || kind == "application/xhtml+xml" || kind == "image/svg+xml":
		return "text/plain; charset=utf-8"
	}
	return info.ContentType
}
