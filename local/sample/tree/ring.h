/* A ring buffer of integers with room for RING_SIZE of them. */
#ifndef RING_H
#define RING_H

#include <stdbool.h>

#define RING_SIZE 8

struct ring {
	int item[RING_SIZE];
	unsigned int first;
	unsigned int count;
};

/* Adds an item at the end; false when the ring is full. */
bool ring_push(struct ring *ring, int item);

/* Takes the oldest item; false when the ring is empty. */
bool ring_pop(struct ring *ring, int *item);

#endif
