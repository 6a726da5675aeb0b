package callback_test

import (
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
)

// TestOnMongo keeps the promises that depend on a store on the other one, too.
func TestOnMongo(t *testing.T) {
	uri, before := mongotest.Start(t), openStore
	defer func() { openStore = before }()
	openStore = func(t *testing.T) (store.Store, error) {
		return mongo.Open(t.Context(), mongo.Options{
			URI: uri, Database: "callback_" + strings.ToLower(rand.Text()), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
	}
	for name, test := range map[string]func(*testing.T){
		"the token is bare or bearer":                   TestTokenOfThePipelineIsBareOrBearer,
		"a checkout is a node for the tarball function": TestCheckoutMakesANodeThatTheTarballFunctionTakesUp,
		"a checkout without filters":                    TestCheckoutWithoutFiltersAsKciDevSendsIt,
		"a checkout is refused":                         TestCheckoutIsRefusedWithKernelCIsTexts,
		"a checkout of a node":                          TestCheckoutOfANodeTakesItsTreeAndTheJobsThatLedToIt,
		"a retry is an event":                           TestJobRetryIsAnEventAndNoNode,
		"a retry is refused":                            TestJobRetryIsRefusedWithKernelCIsTexts,
		"a retry while an attempt is under way":         TestJobRetryWhileAnAttemptIsUnderWayAddsNone,
		"a patchset is a checkout with patches":         TestPatchsetIsItsCheckoutWithPatches,
		"a patchset by URL":                             TestPatchsetByURLKeepsTheURLs,
		"a patchset of a patchset":                      TestPatchsetOfAPatchsetHasThePatchesOfBoth,
		"a patchset is refused":                         TestPatchsetIsRefusedWithKernelCIsTexts,
	} {
		t.Run(name, test)
	}
}
