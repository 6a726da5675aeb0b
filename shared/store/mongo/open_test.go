package mongo_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
	"github.com/kernelflow/kernelflow/shared/store/storetest"
)

func TestOpenNeverTellsThePassword(t *testing.T) {
	for name, tc := range map[string]struct {
		uri  string
		want error
	}{
		"nobody there":      {"mongodb://kernelflow:opensesame@127.0.0.1:1/?serverSelectionTimeoutMS=50", errs.Temporary},
		"a broken escape":   {"mongodb://kernelflow:opensesame%zz@127.0.0.1/", errs.Invalid},
		"a stray at sign":   {"mongodb://kernelflow:p@opensesame@127.0.0.1/", errs.Invalid},
		"another scheme":    {"redis://kernelflow:opensesame@127.0.0.1/", errs.Invalid},
		"an unknown option": {"mongodb://kernelflow:opensesame@127.0.0.1/?w=-5", errs.Invalid},
		"no server's name":  {"mongodb://", errs.Invalid},
	} {
		var log bytes.Buffer
		_, err := mongo.Open(t.Context(), mongo.Options{URI: tc.uri, Database: "x", Now: clockAt(start), Log: slog.New(slog.NewTextHandler(&log, nil))})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error()+log.String(), "sesame") {
			t.Errorf("%s: the password is told: %v", name, err)
		}
	}
}

func TestOpenMayRunAtOnceAndAgain(t *testing.T) {
	uri := mongotest.Start(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			st, err := mongo.Open(t.Context(), mongo.Options{URI: uri, Database: "shared", Now: clockAt(start)})
			if err != nil {
				t.Error(err)
				return
			}
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestAnEndedContextEndsACall(t *testing.T) {
	st := open(t, mongo.Options{URI: mongotest.Start(t), Database: "ended", Now: clockAt(start)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, create := st.Create(ctx, storetest.Checkout(1))
	_, find := st.Find(ctx, node.Query{})
	_, collect := st.Collect(ctx)
	for call, err := range map[string]error{"Create": create, "Find": find, "Collect": collect, "Ping": st.Ping(ctx)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestAServerThatIsGoneIsTemporary(t *testing.T) {
	server, err := mongotest.Serve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	st := open(t, mongo.Options{URI: server.URI() + "?serverSelectionTimeoutMS=50", Database: "gone", Now: clockAt(start)})
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Create(t.Context(), storetest.Checkout(1)); !errors.Is(err, errs.Temporary) {
		t.Errorf("Create: %v", err)
	}
	if _, err := st.Get(t.Context(), storetest.ID(1)); !errors.Is(err, errs.Temporary) {
		t.Errorf("Get: %v", err)
	}
}
