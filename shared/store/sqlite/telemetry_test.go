package sqlite_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/telemetry"
)

func TestNoTelemetryIsFoundByReadingAll(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "x.db"), time.Now)
	yes := true
	filters := []telemetry.Filter{{Since: benchStart}, {Until: benchStart}, {InfraError: &yes}, {InfraError: &yes, Since: benchStart}}
	for _, field := range []telemetry.Field{
		telemetry.Kind, telemetry.Runtime, telemetry.DeviceType, telemetry.DeviceID, telemetry.JobName, telemetry.JobID,
		telemetry.NodeID, telemetry.Tree, telemetry.ErrorType,
	} {
		filters = append(filters, telemetry.Filter{Is: map[telemetry.Field][]string{field: {"x"}}, Since: benchStart})
	}
	for _, f := range filters {
		for _, page := range []store.TelemetryPage{{Limit: 50}, {Limit: 1, NewestFirst: true}} {
			steps, err := s.ExplainTelemetry(t.Context(), f, page)
			if err != nil {
				t.Fatal(err)
			}
			if i := slices.IndexFunc(steps, func(step string) bool {
				return step == "SCAN telemetry" || strings.Contains(step, "TEMP B-TREE FOR ORDER BY")
			}); i >= 0 {
				t.Errorf("%+v: %q", f, steps)
			}
		}
	}
	steps, err := s.ExplainTelemetry(t.Context(), telemetry.Filter{Is: map[telemetry.Field][]string{telemetry.Arch: {"x"}}}, store.TelemetryPage{})
	if err != nil || !slices.ContainsFunc(steps, func(step string) bool { return strings.HasPrefix(step, "SCAN telemetry") }) {
		t.Errorf("the test cannot fail: a field without an index is said to be searched: %q, %v", steps, err)
	}
}
