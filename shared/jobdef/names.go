package jobdef

import (
	"io/fs"
	"slices"
	"strings"
)

// Names lists the templates that can be rendered by name, in order.
func (r *Renderer) Names() []string {
	var names []string
	for _, folder := range r.folders {
		// What cannot be read is found out when it is asked for.
		_ = fs.WalkDir(folder, ".", func(name string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && strings.HasSuffix(name, ".jinja2") {
				names = append(names, name)
			}
			return nil
		})
	}
	slices.Sort(names)
	return slices.Compact(names)
}
