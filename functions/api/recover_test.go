package api_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/storage"
)

// faulty are parts with a fault in the program.
type faultyStore struct{ api.Store }

func (faultyStore) Get(context.Context, node.ID) (node.Node, error) { panic("a fault with a secret") }

type faultyStorage struct{ storage.Storage }

func (faultyStorage) Open(context.Context, string) (io.ReadSeekCloser, storage.Info, error) {
	return faultyReader{strings.NewReader(strings.Repeat("x", 1<<20))}, storage.Info{Size: 1 << 20, ContentType: "text/plain"}, nil
}

// faultyReader fails when its first half is out.
type faultyReader struct{ *strings.Reader }

func (r faultyReader) Close() error { return nil }

func (r faultyReader) Read(b []byte) (int, error) {
	if r.Len() < 1<<19 {
		panic("a fault")
	}
	return r.Reader.Read(b)
}

func TestAFaultInTheProgramIs500AndTellsNothing(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.Store = faultyStore{o.Store} })
	s.want("", "GET", "/latest/node/65f0000000000000000000ff", "", 500, `{"detail":"Internal Server Error"}`)
	s.want("", "GET", "/latest/count", "", 200, "")
}

func TestAnAnswerThatAFaultBreaksOffIsNotTakenForWhole(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.Storage = faultyStorage{o.Storage} })
	response, err := http.Get(s.url + "/storage/x/y")
	if err == nil {
		defer response.Body.Close()
		_, err = io.ReadAll(response.Body)
	}
	if err == nil {
		t.Error("half an answer looks like a whole one")
	}
}
