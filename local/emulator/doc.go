// Package emulator runs every function of the catalog in one process, the way
// a cloud runs them: each behind its own URL, woken by HTTP requests alone.
//
// Beside the functions it has what a cloud gives: a bus that delivers each
// event to each function that wants it, at least once and in order per tree,
// with retries and dead letters ([dispatcher]); a clock that invokes the
// scheduled functions ([ticker]); and, for -once, an eye on whether anything
// is still to be done ([Emulator.RunOnce]).
//
// It survives being killed at any instant: how far each function has come is
// a cursor in the store that moves only behind work that is finished, so a
// restart delivers again whatever was under way, and every function may be
// run twice.
//
// Decisions. Events go over loopback HTTP rather than by function call: what
// is tested here is then the decode path, the time limits and the statuses of
// the cloud, at the price of some tenths of a millisecond each. The handlers
// are mounted without functions-framework-go, which owns its listener and
// cannot be shut down or share a port; infra/cloudrun serves the same handlers
// through it.
package emulator
