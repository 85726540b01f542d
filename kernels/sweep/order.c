/* Flips in the order of their places, by radix: their number makes comparing too slow. */
#include <stdlib.h>
#include <string.h>

#include "envelope.h"
#include "kernels.h"

enum { DIGIT = 11, DIGITS = 6, VALUES = 1 << DIGIT };
enum { PARTS = 256, MANY = 1 << 15 }; /* so that a part's flips fit in the cache */

/* Bits that are ordered as places are: negative ones come the other way round; -0 is 0. */
static uint64_t key(const flip_t *flip) {
    uint64_t bits;
    double at = flip->at + 0.0;
    memcpy(&bits, &at, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

/* The part of a place, of so many that all places from `low` on are divided into; `scale` is their
 * number over the length. Rounding is monotone, so a later place is in no earlier part. */
static int64_t part(double at, double low, double scale, int64_t parts) {
    double place = (at - low) * scale;
    return place < (double)parts ? (int64_t)place : parts - 1;
}

/* Sorts `from` [n] and says where: there, or in `to`. counts [6, 2048]. */
static flip_t *sorted(flip_t *from, int64_t n, flip_t *to, int64_t *counts) {
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
    return from;
}

/* Flips [n] by place, equal ones as they came, to `ordered` [n]. 0: no memory. */
EXPORT int contested_order(const flip_t *flips, int64_t n, flip_t *ordered) {
    int64_t ends[PARTS] = {0}, parts = n < MANY ? 1 : PARTS, largest = 0;
    double low = n ? flips[0].at : 0, high = low;
    for (int64_t i = 1; i < n; i++) {
        low = flips[i].at < low ? flips[i].at : low;
        high = flips[i].at > high ? flips[i].at : high;
    }
    double scale = high > low ? (double)parts / (high - low) : 0;
    for (int64_t i = 0; i < n; i++) ends[part(flips[i].at, low, scale, parts)]++;
    for (int64_t p = 0, next = 0; p < parts; p++) {
        int64_t number = ends[p];
        largest = number > largest ? number : largest;
        ends[p] = next, next += number;
    }
    flip_t *other = malloc(sizeof(flip_t) * (size_t)(largest + 1));
    int64_t *counts = malloc(sizeof(int64_t) * DIGITS * VALUES);
    int ready = other && counts;
    for (int64_t i = 0; ready && i < n; i++)
        ordered[ends[part(flips[i].at, low, scale, parts)]++] = flips[i];
    for (int64_t p = 0, first = 0; ready && p < parts; first = ends[p++]) {
        flip_t *made = sorted(ordered + first, ends[p] - first, other, counts);
        if (made != ordered + first)
            memcpy(ordered + first, made, sizeof(flip_t) * (size_t)(ends[p] - first));
    }
    free(other), free(counts);
    return ready;
}
