package app_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/errs"
)

func TestArtifactsAreReadFromOurStorageAndPublicAddressesAlone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/storage/away", "/away":
			http.Redirect(w, r, "/storage/metadata.json", http.StatusFound)
		case "/storage/busy":
			http.Error(w, "later", http.StatusServiceUnavailable)
		case "/storage/gone":
			http.NotFound(w, r)
		case "/storage/large":
			_, _ = w.Write(make([]byte, 17<<20))
		default:
			_, _ = w.Write([]byte("{}"))
		}
	}))
	defer server.Close()
	for _, tc := range []struct {
		link    string
		private bool
		kind    error // nil: it is read
	}{
		{server.URL + "/storage/metadata.json", false, nil},
		{server.URL + "/other", false, errs.Invalid},
		{server.URL + "/other", true, nil},
		{server.URL + "/storagex/other", false, errs.Invalid},
		{server.URL + "/storage/away", false, errs.Invalid},
		{server.URL + "/away", true, nil},
		{server.URL + "/storage/busy", false, errs.Temporary},
		{server.URL + "/storage/gone", false, errs.Invalid},
		{server.URL + "/storage/large", false, errs.Invalid},
		{"file:///etc/passwd", true, errs.Invalid},
		{"http://user:secret@" + strings.TrimPrefix(server.URL, "http://") + "/other", true, errs.Invalid},
		{"", false, errs.Invalid},
	} {
		a := &app.App{Config: app.Config{URL: server.URL, PrivateFiles: tc.private}}
		text, err := a.Artifacts()(t.Context(), tc.link)
		if tc.kind == nil && (err != nil || string(text) != "{}") || tc.kind != nil && !errors.Is(err, tc.kind) {
			t.Errorf("%s, private %t: %.20q, %v", tc.link, tc.private, text, err)
		}
	}
}
