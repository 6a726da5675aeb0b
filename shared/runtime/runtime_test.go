package runtime_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/runtime"
)

func TestTokensNeverShow(t *testing.T) {
	tokens := runtime.Tokens{Runtime: "runtime-secret", Callback: "callback-secret"}
	encoded, err := json.Marshal(map[string]any{"tokens": tokens, "pointer": &tokens})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("opened", "tokens", tokens, "in", struct{ T runtime.Tokens }{tokens})
	slog.New(slog.NewTextHandler(&log, nil)).Info("opened", "tokens", &tokens)
	for _, text := range []string{
		string(encoded), log.String(), fmt.Sprint(tokens), fmt.Sprintf("%v %+v %#v %s %q %x", tokens, tokens, tokens, tokens, tokens, tokens),
		fmt.Sprintf("%+v %#v", struct{ T runtime.Tokens }{tokens}, &tokens), fmt.Errorf("with %v", tokens).Error(),
	} {
		if strings.Contains(text, "secret\"") || strings.Contains(text, "-secret") || strings.Contains(text, "72756e74") {
			t.Errorf("a token shows: %s", text)
		}
	}
}

func TestAnErrorLosesItsSecretsAndKeepsItsKind(t *testing.T) {
	err := fmt.Errorf("lab: %w", errs.New(errs.Temporary, "token s3cret is not mine"))
	if got := runtime.Without(err, "", "s3cret"); got.Error() != "lab: token [secret] is not mine" || !errors.Is(got, errs.Temporary) {
		t.Errorf("%v", got)
	}
	if got := runtime.Without(err, "other"); got != err {
		t.Errorf("%v", got)
	}
	if runtime.Without(nil, "s3cret") != nil {
		t.Error("an error of nothing")
	}
}
