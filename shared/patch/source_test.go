package patch_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/patch"
)

func TestAPatchComesFromAllowedHostsAlone(t *testing.T) {
	var asked atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write([]byte(plain)); err != nil {
			t.Error(err)
		}
	})
	mux.Handle("/near", http.RedirectHandler("/good", http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.HandleFunc("/far", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost:"+strings.Split(r.Host, ":")[1]+"/good", http.StatusFound)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write(make([]byte, patch.MaxSize+1)); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		mux.ServeHTTP(w, r)
	}))
	defer server.Close()
	port := strings.TrimPrefix(server.URL, "http://127.0.0.1:")
	for _, tc := range []struct {
		link         string
		check, fetch error
		requests     int64
	}{
		{server.URL + "/good", nil, nil, 2},
		{server.URL + "/near", nil, nil, 4},
		{server.URL + "/none", errs.Invalid, errs.Invalid, 2},
		{server.URL + "/away", errs.Invalid, errs.Temporary, 2},
		{server.URL + "/large", nil, errs.Invalid, 2},
		{server.URL + "/round", errs.Invalid, errs.Invalid, 12},
		{server.URL + "/far", errs.Invalid, errs.Invalid, 2}, // the other host hears nothing
		{"http://localhost:" + port + "/good", errs.Invalid, errs.Invalid, 0},
		{"http://127.0.0.1.example.org:" + port + "/good", errs.Invalid, errs.Invalid, 0},
		{"http://me:secret@127.0.0.1:" + port + "/good", errs.Invalid, errs.Invalid, 0},
		{"file:///etc/passwd", errs.Invalid, errs.Invalid, 0},
		{"//127.0.0.1/good", errs.Invalid, errs.Invalid, 0},
		{"", errs.Invalid, errs.Invalid, 0},
		{"http://127.0.0.1:" + port + "/\x7f", errs.Invalid, errs.Invalid, 0},
	} {
		s := patch.NewSource([]string{"127.0.0.1"}, server.Client())
		asked.Store(0)
		if err := s.Check(t.Context(), tc.link); !errors.Is(err, tc.check) {
			t.Errorf("Check(%s): %v, want %v", tc.link, err, tc.check)
		}
		text, err := s.Fetch(t.Context(), tc.link)
		if !errors.Is(err, tc.fetch) || err == nil && string(text) != plain {
			t.Errorf("Fetch(%s): %q, %v, want %v", tc.link, text, err, tc.fetch)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error has a password: %v", err)
		}
		if got := asked.Load(); got != tc.requests {
			t.Errorf("%s: %d requests, want %d", tc.link, got, tc.requests)
		}
	}
}
