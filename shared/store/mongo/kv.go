package mongo

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// pair is a key's document in the collection kv.
type pair struct {
	ID        string `bson:"_id"`
	Namespace string `bson:"namespace"`
	Key       string `bson:"key"`
	Value     string `bson:"value"`
}

func pairID(namespace, key string) string {
	return fmt.Sprintf("%d:%s/%s", len(namespace), namespace, key)
}

// KV returns the value of a key; NotFound.
func (s *Store) KV(ctx context.Context, namespace, key string) (string, error) {
	var p pair
	err := s.kv.FindOne(ctx, byID(pairID(namespace, key))).Decode(&p)
	return p.Value, s.failure(ctx, fmt.Sprintf("mongo.KV(%q, %q)", namespace, key), orNotFound(err, "key %q of namespace %q", key, namespace))
}

// SetKV stores a value, in place of what was there.
func (s *Store) SetKV(ctx context.Context, namespace, key, value string) error {
	p := pair{pairID(namespace, key), namespace, key, value}
	err := again(func() error {
		_, err := s.kv.ReplaceOne(ctx, byID(p.ID), p, options.Replace().SetUpsert(true))
		return err
	})
	return s.failure(ctx, fmt.Sprintf("mongo.SetKV(%q, %q)", namespace, key), err)
}

// DeleteKV removes a key; nothing happens when it is not there.
func (s *Store) DeleteKV(ctx context.Context, namespace, key string) error {
	_, err := s.kv.DeleteOne(ctx, byID(pairID(namespace, key)))
	return s.failure(ctx, fmt.Sprintf("mongo.DeleteKV(%q, %q)", namespace, key), err)
}
