package api_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// contract is what a client of KernelCI's API, of its storage and of its
// pipeline sees, row by row, with the tests that hold it. A row that begins with
// a method is a route.
var contract = map[string]string{
	// Addresses and errors.
	"every version and none":        "TestEveryVersionPrefixLeadsToTheSameRoutes TestAnotherVersionIsRefusedAsText",
	"shapes and statuses of errors": "TestErrorsAreThoseOfKernelCI TestABadBodyIsRefusedWithTheFieldAndWritesNothing TestAWrongMethodIsToldTheRightOnes",
	"times":                         "TestTimesComeInAnyISOFormAndGoOutInOne",
	"what is described":             "TestWhatTheDescriptionForbidsIsRefused TestFieldsOfTheDescriptionAreThoseOfANode",

	// Nodes.
	"POST /node":              "TestPostNode TestANodeIsCreatedReadReplacedAndPatched",
	"GET /node/{id}":          "TestGetNode",
	"PUT /node/{id}":          "TestPutNode TestPutResetsProcessedByKCIDBUnlessItFlipsIt TestNoEventIsTheCallersChoice",
	"PATCH /node/{id}":        "TestPatchNode",
	"GET /nodes":              "TestGetNodes TestAPageTellsTheTotal TestAClientReadsOnFromNextWhileNodesCome",
	"GET /nodes/fast":         "TestGetNodesFastAndCount TestAListThatTakesTooLongIsBrokenOff",
	"GET /count":              "TestGetNodesFastAndCount",
	"PUT /nodes/{id}":         "TestPutNodesTakesAHierarchy TestTenThousandDescendantsAreAllOrNothingAndDoubleNothing",
	"PUT /batch/nodeset":      "TestPutBatchNodeset",
	"GET /node/{id}/schedule": "TestANodeTellsWhyItsJobsWereCreatedOrNot TestAJobTellsWhyItWasCreated",
	"states":                  "TestOnlyAllowedTransitionsOfState",
	"operators of queries":    "TestEveryQueryOperator TestAFilterThatMakesNoSenseIsNamed TestAHostileRegularExpressionTakesNoTime",
	"who may edit a node":     "TestWhoMayEditANode TestAMemberOfANodesGroupMayEditIt",

	// Events.
	"what is an event":                             "TestEveryCreationAndUpdateUnlessNoeventIsAnEventOnChannelNode",
	"POST /subscribe/{channel}":                    "TestSubscribeAnswersIDChannelUserAndPromiscuous TestWithoutSubscriberIDAListenerHearsWhatComesFromNowOn TestADurableSubscriberResumesWithoutLimit TestAnothersSubscriptionIsRefused",
	"GET /listen/{id}":                             "TestListenAnswersTheMessageOfARedisClient TestTheKeepAliveIsAnEventWithDataBEEP TestOnlyTheOwnersOwnEventsUnlessPromiscuous TestPollingForTheNextAcknowledgesThePreviousOne TestAnUnknownSubscriptionIs404",
	"POST /unsubscribe/{id}":                       "TestADurablePlaceOutlastsUnsubscribe TestAnUnknownSubscriptionIs404",
	"GET /stats/subscriptions":                     "TestStatsTellLastPollPositionAndLag",
	"POST /publish/{channel}":                      "TestPublishAddsTheOwnerAndKeepsTypeSourceAndAttributes",
	"POST /push/{list}":                            "TestPushAndPop TestBadItemsAreNotPushed",
	"GET /pop/{list}":                              "TestPushAndPop TestPopWaitsForAnItem",
	"GET /events":                                  "TestEachFilterOfEventsSelects TestRecursiveBringsTheNodeOfEachEvent TestABadFilterOfEventsIsNamed",
	"any instance answers":                         "TestTwoInstancesGiveDurableSubscribersEachEventInOrder TestTwoInstancesOnMongoGiveDurableSubscribersEachEventInOrder TestAPollElsewhereWaitsUntilTheDeliveryIsNoted",
	"GET /dead-letters":                            "TestADeadLetterIsDeliveredAgainOnRequest",
	"POST /dead-letters/{function}/{event}/replay": "TestADeadLetterIsDeliveredAgainOnRequest",

	// Users.
	"tokens":                          "TestOnlyTokensOfOursAreTaken TestTokensOfDeletedAndDeactivatedUsersAreRefused",
	"passwords":                       "TestALoginReplacesABcryptHash TestLoginsAreLimitedByAccountAndByAddress",
	"POST /user/login":                "TestUserLoginTakesAPasswordForm",
	"POST /user/logout":               "TestALogoutEndsNothing",
	"GET /whoami":                     "TestLoginGivesATokenThatWhoamiKnows",
	"GET /users":                      "TestUsersIsAPageThatCanBeFiltered",
	"GET /user/me":                    "TestUserMeChangesNoGroupsAndNoFlags",
	"PATCH /user/me":                  "TestUserMeChangesNoGroupsAndNoFlags",
	"GET /user/{id}":                  "TestUserByIDIsReadChangedAndDeleted",
	"PATCH /user/{id}":                "TestUserByIDIsReadChangedAndDeleted TestTheLastAdminCannotBeDeletedOrDemoted",
	"DELETE /user/{id}":               "TestUserByIDIsReadChangedAndDeleted",
	"POST /user/register":             "TestUserRegisterIsClosed",
	"POST /user/invite":               "TestUserInviteLetsItsReaderIn TestUserInviteIsCheckedAndSentAgain",
	"GET /user/invite":                "TestUserInviteIsAPageWithOneScript",
	"GET /user/invite/url":            "TestUserInviteURLTellsWhereInvitesLead",
	"POST /user/accept-invite":        "TestUserInviteLetsItsReaderIn TestUserAcceptInviteRefusesEveryOtherToken",
	"GET /user/accept-invite":         "TestUserAcceptInviteIsAPageWithAForm",
	"POST /user/forgot-password":      "TestUserForgotPasswordMailsATokenThatWorksOnce TestUserForgotPasswordAnswersWithoutMailToo",
	"POST /user/reset-password":       "TestUserForgotPasswordMailsATokenThatWorksOnce",
	"POST /user/request-verify-token": "TestUserVerifyProvesAnAddress",
	"POST /user/verify":               "TestUserVerifyProvesAnAddress",
	"POST /user/update-password":      "TestUserUpdatePasswordTakesTheOneBefore",
	"GET /user-groups":                "TestUserGroupsAreMadeAndDeletedByAdmins",
	"POST /user-groups":               "TestUserGroupsAreMadeAndDeletedByAdmins",
	"GET /user-groups/{id}":           "TestUserGroupsAreMadeAndDeletedByAdmins",
	"DELETE /user-groups/{id}":        "TestUserGroupsAreMadeAndDeletedByAdmins",
	"POST /user/tokens":               "TestUserTokensAreMadeListedAndRevokedByTheirOwner TestATokenDoesWhatItsScopesSayAndNoMore",
	"GET /user/tokens":                "TestUserTokensAreMadeListedAndRevokedByTheirOwner",
	"DELETE /user/tokens/{id}":        "TestUserTokensAreMadeListedAndRevokedByTheirOwner",

	// The rest of the API.
	"GET /kv/{namespace}/{key}":    "TestKV",
	"POST /kv/{namespace}/{key}":   "TestKV TestBadKVWritesNothing",
	"DELETE /kv/{namespace}/{key}": "TestKV",
	"POST /telemetry":              "TestPostTelemetry",
	"GET /telemetry":               "TestGetTelemetry",
	"GET /telemetry/stats":         "TestGetTelemetryStats",
	"GET /telemetry/anomalies":     "TestGetTelemetryAnomalies",
	"GET /viewer":                  "TestViewerShowsANodeAndWhatIsAroundIt TestViewerListsATreePageByPage",
	"GET /dashboard":               "TestDashboardCountsBuildsAndJobsOfTheNewestCheckouts",
	"GET /stats":                   "TestStatsCountTheNodesOfSomeDaysByKindStateResultAndTree TestStatsCountsLeadToTheNodesThatWereCounted",
	"GET /analytics":               "TestAnalyticsTellHowOftenJobsAndTestsPassed TestAnalyticsTellWhatStandsOut",
	"GET /manage":                  "TestManageIsAPageWithOneScriptKnownByItsHash TestManageAsksForRoutesThatThereAre",
	"GET /manage.js":               "TestManageIsAPageWithOneScriptKnownByItsHash TestManagePutsNothingInAsMarkupAndStoresNothing",
	"GET /metrics":                 "TestMetricsTellTheLagOfEachDurableSubscriber",
	"GET /healthz":                 "TestEveryVersionPrefixLeadsToTheSameRoutes TestWithoutItsStoreTheAPISaysComeBack",
	"GET /readyz":                  "TestWithoutItsStoreTheAPISaysComeBack TestWithoutItsChannelTheAPIKeepsWhatItAcknowledges",
	"GET /":                        "TestEveryVersionPrefixLeadsToTheSameRoutes",
	"GET /docs":                    "TestEveryVersionPrefixLeadsToTheSameRoutes",
	"GET /openapi.json":            "TestEveryVersionPrefixLeadsToTheSameRoutes TestWhatTheDescriptionForbidsIsRefused",

	// Storage.
	"GET /storage/":              "TestStorageRootSaysWhatItIs",
	"POST /storage/v1/file":      "TestPostV1FileKeepsAFileInItsFolder TestWhatIsNoFormIsRefused",
	"POST /storage/upload":       "TestPostUploadIsPostV1File",
	"POST /storage/v1/archive":   "TestPostV1ArchiveUnpacksEveryKindOfTar",
	"GET /storage/v1/checkauth":  "TestGetV1CheckauthNamesTheAccount",
	"GET /storage/v1/list":       "TestGetV1ListIsPaged",
	"GET /storage/metrics":       "TestGetStorageMetricsAreThoseOfKernelCI",
	"GET /storage/{path}":        "TestGetPathServesTextAsTextAndTheRestAsItIs TestGetPathServesRanges TestHeadPathSaysWhatGetWould",
	"no path of storage escapes": "TestNoPathOfAnUploadEscapes TestNoPathOfADownloadEscapes",

	// The pipeline (functions/callback).
	"POST /api/checkout": "TestCheckoutMakesANodeThatTheTarballFunctionTakesUp TestCheckoutWithoutFiltersAsKciDevSendsIt TestCheckoutIsRefusedWithKernelCIsTexts",
	"POST /api/jobretry": "TestJobRetryIsAnEventAndNoNode TestJobRetryIsRefusedWithKernelCIsTexts",
	"POST /api/patchset": "TestPatchsetIsItsCheckoutWithPatches TestPatchsetByURLKeepsTheURLs TestPatchsetIsRefusedWithKernelCIsTexts",
	"GET /api/metrics":   "TestMetricsAreOfThePipelineCallback",
	"tokens of /api":     "TestTokenOfThePipelineIsBareOrBearer TestEachEndpointHasItsPermission",
}

func TestEveryRowOfTheContractHasATest(t *testing.T) {
	there := testsThatThereAre(t)
	for row, names := range contract {
		for name := range strings.FieldsSeq(names) {
			if !there[name] {
				t.Errorf("%s: there is no %s", row, name)
			}
		}
	}
}

func TestEveryRouteIsARowOfTheContract(t *testing.T) {
	var description struct {
		Paths map[string]map[string]any
	}
	check(t, json.Unmarshal([]byte(newSite(t).want("", "GET", "/openapi.json", "", 200, "")), &description))
	for path, methods := range description.Paths {
		for method := range methods {
			if row := strings.ToUpper(method) + " " + path; contract[row] == "" {
				t.Errorf("%s has no test in the contract", row)
			}
		}
	}
}

var testName = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)

// testsThatThereAre are the tests of the two functions that answer clients.
func testsThatThereAre(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, folder := range []string{".", "../callback"} {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		check(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			check(t, err)
			for _, match := range testName.FindAllSubmatch(text, -1) {
				names[string(match[1])] = true
			}
		}
	}
	return names
}
