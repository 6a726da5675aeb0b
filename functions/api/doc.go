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
// is for Prometheus, /docs describes all of it.
//
// It keeps nothing in memory that a request needs later: a listener's place is
// in the store, so any instance can answer its next poll. Requests may come
// twice: a job's report is known by its content, and the same one again is
// answered as the first time; another report for a node that has ended is
// refused with 409.
//
// Decisions. Handlers are huma's, which gives validation and the OpenAPI
// description; node bodies are decoded by shared/node all the same, since a
// field that is absent and one that is null mean different things in a PATCH.
// Errors are mapped to KernelCI's two shapes in one place, errors.go.
package api
