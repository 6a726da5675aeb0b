// Package bus says how instances wake each other. What it carries may be lost
// at any time: the store holds what must last (design: "Redis carries, it does
// not keep"). A listener therefore reads the log first, then waits here, and
// looks again after a while even if nothing came.
//
// The drivers are in sub-packages; bustest is the suite that each must pass.
package bus

import (
	"context"
	"time"
)

// MostItems is how many items a list may hold: nobody takes them when it has
// come so far.
const MostItems = 10_000

// Bus publishes messages, hands out the items of lists, counts, and knows what
// is in hand.
type Bus interface {
	// Publish gives the message to whoever is subscribed to the channel now,
	// on any instance. Temporary when the server is away.
	Publish(ctx context.Context, channel string, message []byte) error
	// Subscribe starts listening; what is published after it returns is
	// received. Channel "*" is every channel. Temporary when the server is away.
	Subscribe(ctx context.Context, channel string) (Subscription, error)
	// Push appends an item to the named list. Temporary while the list has
	// MostItems, or some more where several push at once.
	Push(ctx context.Context, list string, item []byte) error
	// Pop removes the oldest item, which goes to one caller only. It waits up
	// to wait for one; NotFound when none came.
	Pop(ctx context.Context, list string, wait time.Duration) ([]byte, error)
	// Count adds by to the counter of that name, which all instances share, and
	// returns its value and how long it lasts: window from its first use on.
	// Then it begins anew.
	Count(ctx context.Context, name string, by int64, window time.Duration) (value int64, rest time.Duration, err error)
	// Hold tells all instances that holder has a thing of that name in hand. It
	// is over when the holder releases it, or has not said so again for that
	// long: then the holder has died. Many may hold the same; one that died is
	// forgotten no earlier than the others.
	Hold(ctx context.Context, name, holder string, lasts time.Duration) error
	// Release says that holder has the thing no longer; nothing happens when it
	// was forgotten already.
	Release(ctx context.Context, name, holder string) error
	// Held says whether anybody has the thing in hand.
	Held(ctx context.Context, name string) (bool, error)
	// Ping says whether the server answers.
	Ping(ctx context.Context) error
	// Close ends every subscription.
	Close() error
}

// Message is one published message.
type Message struct {
	Channel string
	Payload []byte
}

// Subscription receives messages.
type Subscription interface {
	// Messages is closed when the subscription ends. A slow reader loses the
	// oldest messages rather than memory.
	Messages() <-chan Message
	// Close ends the subscription.
	Close() error
}
