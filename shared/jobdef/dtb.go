package jobdef

import (
	"encoding/json"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// FindDTB finds, in a kernel build's metadata.json, the first of the names that
// the build has made. Invalid when the file is none, or has none of them.
func FindDTB(metadata []byte, names []string) (DTB, error) {
	var said struct {
		Artifacts map[string]any `json:"artifacts"`
	}
	if err := json.Unmarshal(metadata, &said); err != nil {
		return DTB{}, errs.New(errs.Invalid, "metadata.json cannot be read: %s", err)
	}
	for _, name := range names {
		if url, ok := said.Artifacts[name].(string); ok && url != "" {
			return DTB{Name: name, URL: url}, nil
		}
	}
	return DTB{}, errs.New(errs.Invalid, "metadata.json has no device tree %s", strings.Join(names, ", "))
}
