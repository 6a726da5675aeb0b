#include "ring.h"

bool ring_push(struct ring *ring, int item)
{
	if (ring->count == RING_SIZE)
		return false;
	ring->item[(ring->first + ring->count++) % RING_SIZE] = item;
	return true;
}

bool ring_pop(struct ring *ring, int *item)
{
	if (ring->count == 0)
		return false;
	*item = ring->item[ring->first];
	ring->first = (ring->first + 1) % RING_SIZE;
	ring->count--;
	return true;
}
