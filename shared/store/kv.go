package store

import "context"

// KV keeps texts by name for the pipeline's services and for people: settings,
// and what a service must know after it was started again.
type KV interface {
	// KV returns the value of a key; NotFound.
	KV(ctx context.Context, namespace, key string) (string, error)
	// SetKV stores a value, in place of what was there.
	SetKV(ctx context.Context, namespace, key, value string) error
	// DeleteKV removes a key; nothing happens when it is not there.
	DeleteKV(ctx context.Context, namespace, key string) error
}
