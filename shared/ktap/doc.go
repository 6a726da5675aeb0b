// Package ktap reads test results in the formats that kernel tests print: KTAP
// version 1 and TAP 12 to 14, as they come out of kselftest, KUnit and plain
// programs, with whatever else a console prints between them.
//
// [Parse] streams: its memory does not grow with the input, only with the
// number of results, and that is bounded too. It never fails on content. What
// it cannot make sense of becomes a diagnostic of the next result, and what is
// wrong (a plan that was not kept, a number given twice, a limit) is listed in
// [Report.Problems].
//
// # What is understood
//
// Version, plan, result and diagnostic lines; plans before or after the
// results; subtests by indentation (KTAP, KUnit, TAP 14) and behind "# "
// (kselftest's runner); the directives SKIP, TODO, XFAIL, TIMEOUT and ERROR;
// YAML blocks, kept as diagnostics; "Bail out!"; several documents one after
// another; kernel log prefixes such as "[    0.120000] " and "<6>[  1.2][ T1] ";
// CRLF, terminal colours, NUL bytes and invalid UTF-8.
//
// A diagnostic belongs to the result that follows it, as KTAP says, but for
// "Failed test" lines and YAML blocks, which TAP puts after the result.
//
// # Decisions
//
// Own code: the parsers on the module proxy (shogo82148/go-tap, mpontillo/tap13
// and newer ones) know TAP 13 alone, read a line of any length into memory and
// stop at the first unknown line, which a kernel log has by the thousand. The
// price is this package.
//
// "not ok" with TODO or XFAIL is a skip: calling it a pass would hide that the
// thing does not work, calling it a failure would report what everyone knows.
//
// A subtest whose own result line never came is kept, with result incomplete
// (or fail, when a case in it failed), so that a crash in the middle loses
// nothing that was reported before it. One that claims "ok" over a failed case
// is a failure, as KTAP asks.
package ktap
