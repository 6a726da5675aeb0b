package jobdef

import (
	"maps"
	"slices"

	"github.com/kernelflow/kernelflow/shared/jinja"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// ordered is a value of the configuration, its keys as they stand in the file;
// what the file does not name comes last, sorted. It is a copy: a template may
// change what it gets, and the configuration is shared.
func ordered(v any, o *pipeline.Order) jinja.Value {
	if o == nil {
		o = &pipeline.Order{}
	}
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return nil
		}
		d := jinja.NewDict()
		for _, key := range slices.Concat(o.Keys, slices.Sorted(maps.Keys(v))) {
			if _, done := d.Get(key); done {
				continue
			}
			if item, ok := v[key]; ok {
				d.Set(key, ordered(item, o.Under[key]))
			}
		}
		return d
	case []any:
		l := &jinja.List{}
		for i, item := range v {
			var under *pipeline.Order
			if i < len(o.Items) {
				under = o.Items[i]
			}
			l.Items = append(l.Items, ordered(item, under))
		}
		return l
	}
	return jinja.From(v)
}

// order is that of a parameter's keys: where the parameter comes from.
func (p Params) order(key string) *pipeline.Order {
	if key == "notify" && p.Runtime.LabType == "lava" {
		return p.Runtime.NotifyOrder
	}
	from := p.Platform.ParamsOrder
	if _, own := p.Job.Params[key]; own {
		from = p.Job.ParamsOrder
	}
	if from == nil {
		return nil
	}
	return from.Under[key]
}
