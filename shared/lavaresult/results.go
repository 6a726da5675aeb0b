package lavaresult

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/yaml"
)

// Case is one result of a job.
type Case struct {
	Suite       string   `yaml:"suite"`
	Name        string   `yaml:"name"`
	Result      string   `yaml:"result"` // pass, fail, skip or unknown
	Measurement string   `yaml:"measurement"`
	Unit        string   `yaml:"unit"`
	Metadata    Metadata `yaml:"metadata"`
}

// Metadata is what a case says beside its result.
type Metadata struct {
	Set       string `yaml:"set"` // the test set that it is in
	ErrorType string `yaml:"error_type"`
	ErrorMsg  string `yaml:"error_msg"`
}

// maxCases bounds the results of a job.
const maxCases = 100_000

// Cases reads a list of results as LAVA writes it, in YAML. Those that name no
// suite are of the one given. The error is Invalid.
func Cases(suite string, text []byte) (list []Case, err error) {
	defer func() {
		// A parser of hostile text may have a fault.
		if p := recover(); p != nil {
			err = errs.New(errs.Invalid, "results of suite %.80q: %v", suite, p)
		}
	}()
	if err := yaml.Unmarshal(text, &list); err != nil {
		return nil, errs.New(errs.Invalid, "results of suite %.80q: %.200s", suite, err)
	}
	if len(list) > maxCases {
		return nil, errs.New(errs.Invalid, "results of suite %.80q: more than %d", suite, maxCases)
	}
	for i := range list {
		if list[i].Suite == "" {
			list[i].Suite = suite
		}
	}
	return list, nil
}

// suites reads the results of a callback: an object that has, for each suite, a
// text in YAML. What can be read of it is returned also beside an error.
func suites(raw []byte) (list []Case, err error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if start, _ := decoder.Token(); start != json.Delim('{') {
		return nil, errs.New(errs.Invalid, "results: must be an object of suites")
	}
	var bad []string
	for decoder.More() {
		name, _ := decoder.Token()
		var text string
		if err := decoder.Decode(&text); err != nil {
			bad = append(bad, fmt.Sprintf("results of suite %.80q: must be a text", name))
			continue
		}
		cases, err := Cases(name.(string), []byte(text))
		if err != nil {
			bad = append(bad, err.Error())
		}
		list = append(list, cases...)
	}
	if len(bad) > 0 {
		err = errs.New(errs.Invalid, "%s", strings.Join(bad, "; "))
	}
	return list, err
}
