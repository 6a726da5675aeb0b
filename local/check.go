package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kernelflow/kernelflow/local/explain"
	"github.com/kernelflow/kernelflow/local/validate"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/pipeline"
)

// errProblems ends a validation that has found errors, which are printed.
var errProblems = errors.New("the configuration has errors")

// folders collects a flag that may be given several times.
type folders []string

// String implements flag.Value.
func (f *folders) String() string { return strings.Join(*f, string(filepath.ListSeparator)) }

// Set implements flag.Value.
func (f *folders) Set(dir string) error {
	*f = append(*f, dir)
	return nil
}

// needsConfig says what a check cannot do without.
func (o options) needsConfig(flag string) error {
	if o.ConfigDir == "" {
		return errs.New(errs.Invalid, "%s needs -config DIR", flag)
	}
	return nil
}

// checkConfig is -validate.
func checkConfig(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if err := o.needsConfig("-validate"); err != nil {
		return err
	}
	began := time.Now()
	r, err := validate.Check(ctx, validate.Options{Dir: o.ConfigDir, Templates: o.templates()}, stderr)
	if err != nil {
		return err
	}
	if err := validate.Write(stdout, r, time.Since(began)); err != nil {
		return err
	}
	if wrong, warnings := r.Count(); wrong > 0 || o.Strict && warnings > 0 {
		return errProblems
	}
	return nil
}

// templates are the folders of the flags, or of the environment.
func (o options) templates() []string {
	var dirs []string
	for _, dir := range filepath.SplitList(o.Templates) {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// explainEvent is -explain.
func explainEvent(o options, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := o.needsConfig("-explain"); err != nil {
		return err
	}
	cfg, warnings, err := pipeline.LoadDir(o.ConfigDir, pipeline.Options{Strict: o.Strict})
	if err != nil {
		return err
	}
	if len(warnings) > 0 {
		fmt.Fprintf(stderr, "%d warnings about the configuration; -validate lists them\n", len(warnings))
	}
	if o.explain != "-" {
		file, err := os.Open(o.explain)
		if err != nil {
			return err
		}
		defer file.Close()
		stdin = file
	}
	sub, err := explain.Read(stdin)
	if err != nil {
		return err
	}
	return explain.Write(stdout, cfg, sub)
}
