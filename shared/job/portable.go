package job

import (
	_ "embed"
	"io"
	"strconv"
	"time"
)

// Portable is a program for a POSIX shell with curl that runs the job in the
// folder which is its argument, where no supervisor can be: in a container, on
// somebody else's machine. A script finds there what it finds with a supervisor;
// how it ended is told by a form (see package ending).
//
//go:embed portable.sh
var Portable string

// The files in the folder of a job that Portable runs.
const (
	PortableScript   = "script"   // what to run
	PortableCancel   = "cancel"   // there when the job must not start
	PortableReported = "reported" // there when the job was reported
	PortableLog      = "log"      // its output, with the token where it printed that
)

// PortableEnv is the environment of Portable for a job, without KCI_API_TOKEN;
// Invalid when the job can never run.
func PortableEnv(s Spec, script string) ([]string, error) {
	if err := s.validate(script); err != nil {
		return nil, err
	}
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) }
	return []string{
		"KCI_NODE_ID=" + string(s.Node.ID), "KCI_API_URL=" + s.APIURL, "KCI_STORAGE_URL=" + s.StorageURL,
		"KCI_LIMIT=" + seconds(s.Limit), "KCI_HOLDOFF=" + seconds(s.Holdoff),
	}, nil
}

// Redact returns r with stars in the place of the secret.
func Redact(r io.Reader, secret string) io.Reader { return redact(r, secret) }
