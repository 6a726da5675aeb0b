package api

import (
	"context"
	"time"
)

// pageLife is how long a page that counts much is shown to others as it is:
// anybody may ask for it.
const pageLife = 10 * time.Second

// mostKept is how many answers of one page are kept.
const mostKept = 64

// keptPages are the answers of one page that were made last, by what was asked.
// Of many who ask at once, one has its answer made and the others wait: what is
// counted for strangers keeps no more than one reader of the store busy.
type keptPages struct {
	turn  chan struct{} // is held by who looks at the rest
	pages map[string]keptPage
}

type keptPage struct {
	page  *pageOutput
	until time.Time
}

func newKeptPages() keptPages {
	return keptPages{turn: make(chan struct{}, 1), pages: map[string]keptPage{}}
}

// show returns the answer to what was asked: as it was made for somebody else,
// or made now, within the patience that a list has.
func (k *keptPages) show(ctx context.Context, f *Function, asked string, draw func(patience context.Context) (*pageOutput, error)) (*pageOutput, error) {
	patience, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-patience.Done():
		return nil, f.failList(ctx, patience.Err())
	}
	if known, ok := k.pages[asked]; ok && f.now().Before(known.until) {
		return known.page, nil
	}
	page, err := draw(patience)
	if err != nil {
		return nil, err
	}
	if len(k.pages) >= mostKept {
		clear(k.pages)
	}
	k.pages[asked] = keptPage{page, f.now().Add(pageLife)}
	return page, nil
}
