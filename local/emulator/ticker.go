package emulator

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/kernelflow/kernelflow/functions/catalog"
	"github.com/kernelflow/kernelflow/shared/errs"
)

// ticker invokes one scheduled function at its period.
type ticker struct {
	function catalog.Function
	url      string
	client   *http.Client
	period   time.Duration
	logger   *slog.Logger
}

// run invokes the function at once and then every period, never twice at the
// same time, until ctx ends.
func (t *ticker) run(ctx context.Context) {
	clock := time.NewTicker(t.period)
	defer clock.Stop()
	for ctx.Err() == nil {
		if err := t.invoke(ctx); err != nil && ctx.Err() == nil {
			t.logger.Error("a scheduled function failed; it runs again at its next time", "function", t.function.Name, "error", err)
		}
		select {
		case <-clock.C:
		case <-ctx.Done():
		}
	}
}

func (t *ticker) invoke(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.function.Timeout.Duration())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, nil)
	if err != nil {
		return errs.Wrap(errs.Invalid, err)
	}
	response, err := t.client.Do(request)
	if err != nil {
		return errs.Wrap(errs.Temporary, err)
	}
	defer response.Body.Close()
	return answer(t.function.Name, response)
}
