package node

import (
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// TimeLayout is how a time goes out: UTC, ISO 8601 without offset, always
// microseconds. Its fixed width makes text order time order.
const TimeLayout = "2006-01-02T15:04:05.000000"

// Time brings t to what a store keeps: UTC, whole microseconds, no monotonic
// clock. The zero time stays zero.
func Time(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// FormatTime writes t in TimeLayout; "" for the zero time.
func FormatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return Time(t).Format(TimeLayout)
}

var inputLayouts = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05",
	"2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02",
}

// ParseTime reads ISO 8601: a date, or a date and time parted by T or a space,
// with or without seconds, fraction and offset; without an offset it is UTC.
// Anything else is an errs.Invalid error.
func ParseTime(s string) (time.Time, error) {
	text := s
	if !strings.Contains(text, "T") {
		text = strings.Replace(text, " ", "T", 1)
	}
	// A "+" of an offset arrives as a space from clients that do not escape it.
	text = strings.Replace(text, " ", "+", 1)
	for _, layout := range inputLayouts {
		if t, err := time.Parse(layout, text); err == nil && inYears(t.UTC()) {
			return Time(t), nil
		}
	}
	return time.Time{}, errs.New(errs.Invalid, "invalid isoformat time: %.40q, for example 2025-01-12T08:00:00", s)
}

// inYears says whether t has a year of four digits, which TimeLayout and every
// store need.
func inYears(t time.Time) bool { return t.Year() >= 0 && t.Year() <= 9999 }
