// Package api is the function that answers the KernelCI API: nodes, their
// events, who may change what, and the artifacts that jobs upload. An
// unmodified client of KernelCI must not be able to tell the difference; what
// it sees is the wire contract of kernelci-api.
//
// Every route answers under /latest, /v0 and without a prefix. Artifacts are
// outside of that: /storage is what KernelCI's own storage server is, with the
// same routes below it (upload, v1/file, v1/archive, v1/checkauth, v1/list,
// metrics), and artifacts are read at /storage/PATH. /healthz says that the
// process lives, /readyz that its store, channel and storage answer, /metrics
// is for Prometheus, /docs describes all of it; /dashboard, /viewer,
// /stats and /analytics show checkouts, nodes, counts of them and telemetry to
// people, without scripts. /manage is for tokens, accounts and subscriptions, and
// has one script.
//
// It keeps nothing in memory that a request needs later: a listener's place is
// in the store, so any instance can answer its next poll. Requests may come
// twice: a job's report is known by its content, and the same one again is
// answered as the first time; another report for a node that has ended is
// refused with 409. A machine that has a shell and curl only sends it as a form,
// POST /node/ID/results: see package ending.
//
// Who asks is known by a token. A user's login may do what the user may; a
// personal token only what its scopes say (scope.go), and uploads only into the
// folders that it is bound to, if to any; a job's token reports on its node.
// Invites and new passwords go by mailed tokens that work once.
//
// Decisions. Handlers are huma's, and a body is checked against the very schema
// that describes it, so that the description cannot be wrong without a test
// failing; describe.go has those that huma cannot see. A test violates each
// keyword of each schema: what huma is laxer about than JSON Schema is ours, that
// is the case of keys (exact.go), other types of bodies, and parameters that are
// there twice (route.go). What decoders disagree about is refused before
// (body.go). Errors are mapped to KernelCI's two shapes
// in one place, errors.go: 422 for a wrong shape, 400 for what is wrong in it.
//
// A page of nodes has a total, as KernelCI's. It is exact, and counted by an
// index where there is one; it is not counted for a page that is the only one,
// nor again by who reads on from next, which carries it; and one that took long
// is remembered for ten seconds. A bounded count would have been cheaper, but
// clients end their reading at it. What no index answers is gone through for 15
// seconds and then broken off with 504, as KernelCI's lists are.
//
// Where KernelCI finds nothing by a filter on a field that no node has, or by an
// operator that does not exist, this is 400: it is a mistake in every case that
// we know. Integers in data that need more than 53 bits are kept as the nearest
// double, as JavaScript clients read them anyway.
//
// An event counts as delivered when its answer was written out whole, and only
// then is noted so, by the one write that a poll costs: an instance that is
// killed at any moment loses nothing, and who polls on elsewhere is given each
// event in order. An event comes twice, with the same id, only when an instance
// died between writing and noting, the store did not take the note within ten
// seconds, or the client's connection broke. Until the note is there, a mark on
// the bus, renewed while its instance lives, makes a poll at another instance
// wait; one of a dead instance lapses after two seconds. Within an instance a
// mark in memory does the same. The bus being away, a poll at another instance
// that is faster than the note is given the event again: it may come twice, but
// is not lost. The rejected: to note before the answer (what is under way when
// an instance dies is lost to who just polls on), to note twice (a write more),
// to let a poll ask the instance that had the one before (nobody answers for the
// dead). The prices: three short questions to the bus for each event, and a
// poll after a death that takes up to two seconds. What was written to a
// connection whose client had gone unnoticed counts as delivered: who got no
// whole answer subscribes again with its subscriber_id, and is given what it has
// not acknowledged. A server that sends only when the handler has returned
// cannot promise more than that either. Another user's subscription is refused
// with 403, where KernelCI fails with 500.
//
// Logins are limited by counters on the bus, which all instances share. The
// store would have to write for each bad password of a stranger, and counters
// in memory would let as many through as there are instances. The prices: no
// login while the bus is away (tokens go on working), and who guesses at an
// account keeps its owner from logging in for as long as he does.
//
// Changes of accounts that depend on other accounts (the last admin stays, a
// group goes only when it is empty) take turns by a claim in the store; the
// price is that one which is killed in its turn delays the next by half a
// minute.
package api
