package jobdef

import (
	"strconv"
	"strings"

	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// What KernelCI's words for a job's priority stand for, of 100.
var priorities = map[string]int{"highest": 80, "high": 60, "medium": 40, "low": 20}

// labPriorities are what the words stand for in a lab's own setting.
var labPriorities = map[string]int{"high": 100, "medium": 50, "low": 0}

// pipelineSubmitter is who submits what nobody asked for.
const pipelineSubmitter = "service:pipeline"

// Priority is how urgent a LAVA lab should take the job, 0 to 100: its urgency,
// brought into the range that the lab leaves to KernelCI.
func Priority(n node.Node, job *pipeline.Job, lab *pipeline.Runtime) int {
	urgency := Urgency(n, job)
	percent, known := labPriorities[strings.ToLower(lab.Priority)]
	if !known {
		percent, _ = strconv.Atoi(lab.Priority)
	}
	if percent != 0 {
		return urgency * percent / 100
	}
	low, high := lab.PriorityMin, lab.PriorityMax
	if lab.Priority != "" { // what is not given is the lab's own setting, which is 0 here
		low, high = orZero(low), orZero(high)
	}
	if low == nil || high == nil {
		return urgency
	}
	return urgency*(*high-*low)/100 + *low
}

func orZero(p *int) *int {
	if p == nil {
		return new(int)
	}
	return p
}

// Urgency is how urgent the job is, 0 to 100: when a person asked for it, as the
// node's data.priority says or highest; else as its tree is (data.tree_priority),
// else as the job says, else low.
func Urgency(n node.Node, job *pipeline.Job) int {
	if n.Submitter != "" && n.Submitter != pipelineSubmitter {
		return urgency(n.Data["priority"], "highest")
	}
	if tree := n.Data["tree_priority"]; tree != nil {
		return urgency(tree, "low")
	}
	return urgency(job.Priority, "low")
}

// urgency reads a word or a number.
func urgency(v any, otherwise string) int {
	number := -1
	switch v := v.(type) {
	case int:
		number = max(0, v)
	case float64:
		number = max(0, int(v))
	case string:
		if named, known := priorities[strings.ToLower(v)]; known && !strings.EqualFold(v, "highest") {
			return named
		}
		if n, err := strconv.Atoi(v); err == nil {
			number = max(0, n)
		}
	}
	if number < 0 {
		return priorities[otherwise]
	}
	return min(number, 100)
}
