// Package yaml reads YAML as Python's PyYAML does, and so KernelCI and LAVA: it
// is the only door to go.yaml.in/yaml, which is libyaml in Go.
//
// What no library for Go does by itself is done here: the types of YAML 1.1 (yes
// is true, 1:30 is 90), of a key that is there twice the last one counts, and an
// alias is the same object and not a copy, so that a few lines cannot ask for
// gigabytes. Tags that would make objects of Python are errors, and nothing is
// run.
//
// Held to PyYAML 6.0.4 by definitions that chance makes (scripts/test-jinja.sh). Of
// a list of mappings that are merged the last counts, as there; PyYAML 6.0.1 took
// the first. Errors here and not there: !!binary, !!set, !!omap and !!pairs, which
// no definition has.
//
// LAVA's definitions go through it once, as in KernelCI (Normalize of package
// jobdef): 45 of 1,205 real ones have keys twice, which go.yaml.in/yaml refuses.
package yaml
