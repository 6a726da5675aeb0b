package git

import (
	"bytes"
	"regexp"
	"strconv"

	"github.com/kernelflow/kernelflow/shared/node"
)

var describeForm = regexp.MustCompile(`^v(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(.*)$`)

// kernelVersion reads a version off a description such as v6.5-rc1-12-g0123,
// or else off the kernel's Makefile; nil when neither says.
func kernelVersion(describe string, makefile []byte) *node.Version {
	vars := makeVariables(makefile)
	m := describeForm.FindStringSubmatch(describe)
	if m == nil {
		m = []string{"", vars["VERSION"], vars["PATCHLEVEL"], vars["SUBLEVEL"], vars["EXTRAVERSION"]}
	}
	version, err := strconv.Atoi(m[1])
	if err != nil {
		return nil
	}
	patchlevel, err := strconv.Atoi(m[2])
	if err != nil {
		return nil
	}
	v := &node.Version{Version: version, PatchLevel: patchlevel, Extra: m[4], Name: vars["NAME"]}
	if sublevel, err := strconv.Atoi(m[3]); err == nil {
		v.Sublevel = &sublevel
	}
	return v
}

var assignment = regexp.MustCompile(`(?m)^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION|NAME)[ \t]*=[ \t]*([^\r\n]{0,200})`)

// makeVariables finds the first value of each variable that says a kernel's
// version.
func makeVariables(makefile []byte) map[string]string {
	vars := map[string]string{}
	for _, m := range assignment.FindAllSubmatch(makefile, -1) {
		if _, seen := vars[string(m[1])]; !seen {
			vars[string(m[1])] = string(bytes.TrimSpace(bytes.ToValidUTF8(m[2], []byte("\uFFFD"))))
		}
	}
	return vars
}
