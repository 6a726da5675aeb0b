package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// asMain makes the test binary be the command itself.
const asMain = "KERNELFLOW_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestAServiceIsOneFunctionOrAllThatAnswerPeople(t *testing.T) {
	one, err := targets("report")
	if err != nil || len(one) != 1 {
		t.Errorf("report: %d functions, %v", len(one), err)
	}
	all, err := targets("")
	if err != nil || len(all) < 2 {
		t.Errorf("%d functions, %v", len(all), err)
	}
	for _, f := range all {
		if f.Trigger.Path == "" {
			t.Errorf("%s may be invoked by anybody", f.Name)
		}
	}
	if _, err := targets("reporter"); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "reporter") {
		t.Errorf("an unknown function: %v", err)
	}
}
