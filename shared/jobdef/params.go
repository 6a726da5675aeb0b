package jobdef

import (
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// Params is all that a job definition is made from. Node is the job's own node
// as it is stored; it holds no secret and neither may anything else here: what
// is rendered becomes a public artifact.
type Params struct {
	Config     *pipeline.Config
	Job        *pipeline.Job
	Platform   *pipeline.Platform
	Runtime    *pipeline.Runtime
	Node       node.Node
	APIURL     string
	StorageURL string
	InstanceID string
	// InstanceCallback is where labs send results of this instance's jobs; "": the
	// lab's own setting.
	InstanceCallback string
	// ImagePrefix is what {image_prefix} in a job's image stands for.
	ImagePrefix string
	// DTB is the platform's device tree, which must be given where the platform
	// names any.
	DTB *DTB
}
