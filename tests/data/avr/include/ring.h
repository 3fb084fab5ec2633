#ifndef RING_H
#define RING_H
#include <stdbool.h>
#include <stdint.h>
/* A ring of bytes between an interrupt and the main loop; the size is a power of two. */
#define RING_SIZE 64
typedef struct { volatile uint8_t head, tail; uint8_t data[RING_SIZE]; } ring_t;
static inline bool ring_empty(const ring_t *ring) { return ring->head == ring->tail; }
static inline bool ring_full(const ring_t *ring) { return ((ring->head + 1) & (RING_SIZE - 1)) == ring->tail; }
bool ring_put(ring_t *ring, uint8_t byte);
bool ring_get(ring_t *ring, uint8_t *byte);
#endif
