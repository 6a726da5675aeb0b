package scheduler

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jobdef"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// params are what the job's definition is made of. An Invalid error says what
// makes no sense; another may pass.
func (f *Function) params(ctx context.Context, j *job) (jobdef.Params, error) {
	p := jobdef.Params{
		Config: f.Config, Job: j.Job, Platform: j.Platform, Runtime: j.Runtime, Node: *j.node,
		APIURL: f.APIURL, StorageURL: f.StorageURL, InstanceID: f.InstanceID,
		InstanceCallback: f.InstanceCallback, ImagePrefix: f.ImagePrefix,
	}
	if len(j.Platform.DTB) > 0 {
		dtb, err := f.dtb(ctx, j.node.Artifacts["metadata"], j.Platform.DTB)
		if err != nil {
			return p, fmt.Errorf("device tree: %w", err)
		}
		p.DTB = &dtb
	}
	return p, p.Check()
}

// dtb looks for a platform's device tree in the metadata of its kernel.
func (f *Function) dtb(ctx context.Context, metadata string, names []string) (jobdef.DTB, error) {
	if metadata == "" {
		return jobdef.DTB{}, errs.New(errs.Invalid, "the kernel has no artifact metadata to look for %q in", names)
	}
	if f.Fetch == nil {
		return jobdef.DTB{}, errs.New(errs.Invalid, "%s: nothing fetches artifacts here", metadata)
	}
	text, err := f.files.get(ctx, metadata, f.Fetch)
	if err != nil {
		return jobdef.DTB{}, err
	}
	return jobdef.FindDTB(text, names)
}

// mostFiles is how many fetched files are kept: the jobs of a kernel ask for the
// same one, a hundred at once.
const mostFiles = 16

// files keeps what was fetched last. The zero value is ready.
type files struct {
	under singleflight.Group
	mu    sync.Mutex
	kept  map[string][]byte
	order []string // the oldest first
}

// get returns a file, fetched once for all who ask meanwhile. An artifact never
// changes.
func (s *files) get(ctx context.Context, url string, fetch func(context.Context, string) ([]byte, error)) ([]byte, error) {
	s.mu.Lock()
	text, known := s.kept[url]
	s.mu.Unlock()
	if known {
		return text, nil
	}
	got, err, _ := s.under.Do(url, func() (any, error) {
		text, err := fetch(ctx, url)
		if err == nil {
			s.keep(url, text)
		}
		return text, err
	})
	if err != nil {
		return nil, err
	}
	text, _ = got.([]byte)
	return text, nil
}

func (s *files) keep(url string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string][]byte{}
	}
	if _, known := s.kept[url]; !known {
		s.order = append(s.order, url)
	}
	s.kept[url] = text
	if len(s.order) > mostFiles {
		delete(s.kept, s.order[0])
		s.order = slices.Delete(s.order, 0, 1)
	}
}

// treePriority is the priority of the build config of a tree and branch; "" when
// there is none.
func treePriority(cfg *pipeline.Config, r node.Revision) string {
	best := ""
	var of string
	for name, b := range cfg.BuildConfigs {
		if b.Tree == r.Tree && b.Branch == r.Branch && b.Priority != "" && (of == "" || name < of) {
			of, best = name, b.Priority
		}
	}
	return best
}
