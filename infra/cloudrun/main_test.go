package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/functions/catalog"
	"github.com/kernelflow/kernelflow/shared/errs"
)

func TestAServiceIsOneFunctionOrAllOfThem(t *testing.T) {
	for name, want := range map[string]int{"": len(catalog.Functions), "report": 1} {
		found, err := targets(name)
		if err != nil || len(found) != want {
			t.Errorf("%q: %d functions, %v", name, len(found), err)
		}
	}
	if _, err := targets("reporter"); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "reporter") {
		t.Errorf("an unknown function: %v", err)
	}
}
