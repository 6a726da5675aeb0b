package ending

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kernelflow/kernelflow/shared/ktap"
)

// Cause is how a job's script ended.
type Cause string

// The causes.
const (
	Exited    Cause = "exited"
	Signaled  Cause = "signaled"
	Limited   Cause = "limited"     // its time was up
	Canceled  Cause = "canceled"    // somebody wanted it stopped
	Orphaned  Cause = "orphaned"    // its supervisor died
	Rebooted  Cause = "rebooted"    // the machine went down before the report was written
	Unstarted Cause = "not started" // the machine could not run it
)

// Suite is one file of test results.
type Suite struct {
	Name   string
	Report ktap.Report
}

// Ending is all that is known of a job when its script is over.
type Ending struct {
	Cause     Cause
	Exit      int               // the script's exit status
	Detail    string            // the signal's name, or why it could not start
	Error     string            // why it did not pass, as the script says
	Data      map[string]any    // for the node's data
	Suites    []Suite           // test results
	Artifacts map[string]string // URLs by name
	Limit     time.Duration     // that the job had
	Holdoff   time.Duration     // how long the node stays available when it ends so
}

// Printable makes valid text of at most limit bytes, without control characters
// but newlines and tabs.
func Printable(s string, limit int) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.TrimSpace(s)
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
