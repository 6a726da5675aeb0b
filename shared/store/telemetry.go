package store

import (
	"context"
	"time"

	"github.com/kernelflow/kernelflow/shared/telemetry"
)

// Telemetry keeps what the pipeline's services say of their work, until it is
// pruned. The database counts it: however much there is, a call holds no more
// in memory than it returns.
type Telemetry interface {
	// AddTelemetry stores events under the ids that the caller has given. One
	// whose id is there already is left out, so that a call which ended
	// without an answer may be repeated.
	AddTelemetry(ctx context.Context, events []telemetry.Event) error
	// FindTelemetry returns up to limit of the events that f selects, never
	// nil, in the order of their times and those alike by id, the newest first
	// when asked so.
	FindTelemetry(ctx context.Context, f telemetry.Filter, p TelemetryPage) ([]telemetry.Event, error)
	// CountTelemetry returns how many events f selects.
	CountTelemetry(ctx context.Context, f telemetry.Filter) (int64, error)
	// TallyTelemetry counts the events that f selects, for each combination of
	// what they have in the fields by, in the order of telemetry.ByTotal.
	// More than telemetry.MostTallies is telemetry.ErrTooMany.
	TallyTelemetry(ctx context.Context, f telemetry.Filter, by []telemetry.Field) ([]telemetry.Tally, error)
	// PruneTelemetry removes up to limit events from before the time, oldest
	// first, and returns how many.
	PruneTelemetry(ctx context.Context, before time.Time, limit int) (int, error)
}

// TelemetryPage is a part of a list.
type TelemetryPage struct {
	Limit, Offset int
	NewestFirst   bool
}
