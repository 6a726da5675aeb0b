package pipeline

import (
	"regexp"
	"strconv"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
)

var frequency = regexp.MustCompile(`^(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m)?$`)

// ParseFrequency reads KernelCI's frequency, "[Nd][Nh][Nm]": days, hours and
// minutes, at least one of them, in this order. Anything else is an
// errs.Invalid error.
func ParseFrequency(s string) (time.Duration, error) {
	parts := frequency.FindStringSubmatch(s)
	if parts == nil || s == "" {
		return 0, errs.New(errs.Invalid, "frequency %.40q is not [Nd][Nh][Nm], such as 1d12h", s)
	}
	var sum time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute} {
		n, _ := strconv.Atoi("0" + parts[i+1])
		sum += time.Duration(n) * unit
	}
	return sum, nil
}
