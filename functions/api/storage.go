package api

import (
	"context"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/user"
)

// storageRoutes are those of KernelCI's storage server, below /storage: that is
// the base which its clients are given.
func (f *Function) storageRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /storage/{$}", func(w http.ResponseWriter, _ *http.Request) {
		writePlain(w, http.StatusOK, "KernelCI Storage Server")
	})
	mux.HandleFunc("POST /storage/v1/file", f.upload)
	mux.HandleFunc("POST /storage/upload", f.upload)
	mux.HandleFunc("POST /storage/v1/archive", f.uploadArchive)
	mux.HandleFunc("GET /storage/v1/checkauth", f.checkAuth)
	mux.HandleFunc("GET /storage/v1/list", f.listArtifacts)
	mux.Handle("GET /storage/metrics", f.storageMetrics())
	mux.HandleFunc("GET /storage/{path...}", f.download) // and HEAD
}

// hidden says which artifacts could not be read, since a route has their path.
var hidden = map[string]bool{"v1/checkauth": true, "v1/list": true, "metrics": true}

// writePlain answers with nothing but text, as KernelCI's storage does.
func writePlain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// The client has gone when this fails.
	_, _ = io.WriteString(w, text)
}

// refuse is writeError for the storage's clients, who print what they get.
func (f *Function) refuse(w http.ResponseWriter, r *http.Request, err error) {
	answer := f.failed(r.Context(), err)
	maps.Copy(w.Header(), answer.GetHeaders())
	writePlain(w, answer.status, answer.Error())
}

// failed is fail for an err that is not nil.
func (f *Function) failed(ctx context.Context, err error) *failure {
	answer := &failure{status: http.StatusInternalServerError}
	errors.As(f.fail(ctx, err), &answer)
	return answer
}

// bearer is actor for the storage's clients: KernelCI's library sends the token
// without the word Bearer.
func (f *Function) bearer(r *http.Request) (user.User, error) {
	header := strings.TrimSpace(r.Header.Get("Authorization"))
	if !strings.Contains(header, " ") {
		header = "Bearer " + header
	}
	return f.actor(withScope(r.Context(), user.ScopeStorage), WithToken{Authorization: header})
}

func (f *Function) checkAuth(w http.ResponseWriter, r *http.Request) {
	u, err := f.bearer(r)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	name := u.Email
	if name == "" {
		name = u.Username // a job's
	}
	writePlain(w, http.StatusOK, "Authorized: "+name)
}

// Paths in an answer of v1/list.
const (
	listLength = 1000 // when the request does not say how many
	listLimit  = 10_000
)

// listArtifacts answers one path a line. KernelCI's storage lists everything
// for everybody, or nothing; here a page is for who has a token. What comes
// after it is behind the answer's Link.
func (f *Function) listArtifacts(w http.ResponseWriter, r *http.Request) {
	if _, err := f.bearer(r); err != nil {
		f.refuse(w, r, err)
		return
	}
	query := r.URL.Query()
	limit := listLength
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > listLimit {
			f.refuse(w, r, errs.New(errs.Invalid, "limit: must be a number from 1 to %d", listLimit))
			return
		}
	}
	found, err := f.storage.List(r.Context(), strings.TrimLeft(query.Get("prefix"), "/"), query.Get("after"), limit)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	paths := make([]string, len(found))
	for i, info := range found {
		paths[i] = info.Path
	}
	if len(paths) == limit {
		query.Set("after", paths[limit-1])
		w.Header().Set("Link", "<"+(&url.URL{Path: r.URL.Path, RawQuery: query.Encode()}).String()+`>; rel="next"`)
	}
	writePlain(w, http.StatusOK, strings.Join(paths, "\n"))
}

// storageMetrics are those of KernelCI's storage, with its labels. Where nothing
// bounds the storage both are 0.
func (f *Function) storageMetrics() http.Handler {
	registry := prometheus.NewRegistry()
	for name, m := range map[string]struct {
		help string
		of   func(storage.Space) uint64
	}{
		"storage_free_space":  {"Free space on the disk", func(s storage.Space) uint64 { return s.Free }},
		"storage_total_space": {"Total space on the disk", func(s storage.Space) uint64 { return s.Total }},
	} {
		registry.MustRegister(storageSpace{f: f, of: m.of, desc: prometheus.NewDesc(name, m.help, nil,
			prometheus.Labels{"hostname": "kernelci-storage", "diskname": "storage", "mount_point": "/"})})
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// storageSpace measures when it is asked.
type storageSpace struct {
	f    *Function
	of   func(storage.Space) uint64
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (s storageSpace) Describe(to chan<- *prometheus.Desc) { to <- s.desc }

// Collect implements prometheus.Collector.
func (s storageSpace) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	space, err := s.f.storage.Space(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(s.desc, err)
		return
	}
	to <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, float64(s.of(space)))
}

// maxRanges bounds the parts of an answer: each costs a seek and a header.
const maxRanges = 32

// download serves an artifact as it was stored, whole or in ranges. What jobs
// upload is hostile: no browser may run it as a part of this site.
func (f *Function) download(w http.ResponseWriter, r *http.Request) {
	target, err := storage.CleanPath(r.PathValue("path"))
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	content, info, err := f.storage.Open(r.Context(), target)
	if errors.Is(err, errs.NotFound) {
		err = errs.New(errs.NotFound, "Not Found: %s", target)
	}
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	defer func() { _ = content.Close() }() // only read
	kind, disposition := served(info)
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("Content-Disposition", mime.FormatMediaType(disposition, map[string]string{"filename": path.Base(target)}))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	header.Set("ETag", info.ETag)
	if strings.Count(r.Header.Get("Range"), ",") >= maxRanges {
		r.Header.Del("Range") // the whole is an answer, too
	}
	http.ServeContent(w, r, path.Base(target), info.Modified, content)
}

// served says how an artifact goes out: text and pictures are shown, the rest
// is saved. Text that a browser could run is plain text, and nothing is left to
// be guessed.
func served(info storage.Info) (contentType, disposition string) {
	kind, _, err := mime.ParseMediaType(info.ContentType)
	_, subtype, _ := strings.Cut(kind, "/")
	switch {
	case err != nil:
		return "application/octet-stream", "attachment"
	case subtype == "html", subtype == "xml", strings.HasSuffix(subtype, "+xml"):
		return "text/plain; charset=utf-8", "inline"
	case strings.HasPrefix(kind, "text/"), strings.HasPrefix(kind, "image/"), kind == "application/json":
		return info.ContentType, "inline"
	}
	return info.ContentType, "attachment"
}
