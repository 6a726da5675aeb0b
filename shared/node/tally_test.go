package node_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

func TestTalliesAreBounded(t *testing.T) {
	var tallier node.Tallier
	for i := range node.MostTallies {
		if err := tallier.Add([]any{fmt.Sprint(i)}, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := tallier.Add([]any{"1"}, 1); err != nil || tallier.Tallies()[1].Count != 2 {
		t.Errorf("a known one: %v", err)
	}
	if err := tallier.Add([]any{"one more"}, 1); !errors.Is(err, errs.Invalid) {
		t.Errorf("one too many: %v", err)
	}
}

func TestATallyTakesWhatIsNoTextAsNotSet(t *testing.T) {
	var tallier node.Tallier
	for _, v := range []any{nil, 7.0, []byte("[]"), "", "x"} {
		if err := tallier.Add([]any{v}, 2); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(tallier.Tallies()); got != "[{[] 8} {[x] 2}]" {
		t.Error(got)
	}
}
