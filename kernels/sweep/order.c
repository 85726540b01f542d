/* Flips in the order of their places, by a radix sort: their number makes comparing too slow. */
#include <string.h>

#include "envelope.h"
#include "kernels.h"

enum { DIGIT = 11, DIGITS = 6, VALUES = 1 << DIGIT };

/* Bits of a place >= 0, which are ordered as it is; -0 is 0. */
static uint64_t key(const flip_t *flip) {
    uint64_t bits;
    double at = flip->at + 0.0;
    memcpy(&bits, &at, sizeof bits);
    return bits;
}

/* Sorts flips [n] by place, equal ones as they came; other [n] is scratch, counts [6, 2048]. */
void contested_order(flip_t *flips, int64_t n, flip_t *other, int64_t *counts) {
    flip_t *from = flips, *to = other;
    memset(counts, 0, sizeof(int64_t) * DIGITS * VALUES);
    for (int64_t i = 0; i < n; i++)
        for (int d = 0; d < DIGITS; d++)
            counts[d * VALUES + (key(from + i) >> d * DIGIT & (VALUES - 1))]++;
    for (int d = 0; n && d < DIGITS; d++) {
        int64_t *place = counts + d * VALUES, next = 0;
        if (place[key(from) >> d * DIGIT & (VALUES - 1)] == n) continue; /* all have this digit */
        for (int v = 0; v < VALUES; v++) {
            int64_t number = place[v];
            place[v] = next, next += number;
        }
        for (int64_t i = 0; i < n; i++)
            to[place[key(from + i) >> d * DIGIT & (VALUES - 1)]++] = from[i];
        flip_t *swap = from;
        from = to, to = swap;
    }
    if (from != flips) memcpy(flips, from, sizeof(flip_t) * (size_t)n);
}
