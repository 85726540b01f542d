/* What the compiled loops share: kinds of value and their decoding, and the layout of contested
 * pixels. */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "portable.h"

/* Numbered as KINDS of kernels/arithmetic.py. Values that are probabilities already: kind + 4. */
enum { HALF, BFLOAT, FLOAT, CODES, PROBABILITIES };
static const int64_t WIDTH[] = {2, 2, 4, 1}; /* bytes of a value of kind & 3 */

#define NO_SCORE -1e30f /* stands for -inf while interpolating: 0 * -inf would be NaN */

enum { NARROW_VOID = 255 }; /* kernels/numbers.py */
enum { LANES = 16 };        /* pixels of a bundle: kernels/contested/layout.py */

/* A row of the table of addresses (layout.Parts.table): contested pixels with equally many
 * candidates, in bundles of LANES pixels. means [bundles, k, G, LANES], classes [bundles, k,
 * LANES], targets [bundles, LANES]; width k. Padding lanes hold zeros. */
typedef struct {
    const float *means;
    const uint16_t *classes;
    const uint16_t *targets;
    int64_t width, pixels, video;
} run_t;

INLINE float from_bits(uint32_t bits) {
    union {
        uint32_t bits;
        float value;
    } both = {bits};
    return both.value;
}

INLINE uint32_t to_bits(float value) {
    union {
        float value;
        uint32_t bits;
    } both = {value};
    return both.bits;
}

/* Exact for every half, subnormal, infinite and NaN alike: two roads, one picked (Maratyszcza,
 * FP16). */
INLINE float from_half(uint16_t half) {
    uint32_t shifted = (uint32_t)half << 16, doubled = shifted + shifted;
    float normal = from_bits((doubled >> 4) + (0xe0u << 23)) * 0x1p-112f;
    float small = from_bits((doubled >> 17) | (126u << 23)) - 0.5f;
    return from_bits(to_bits(doubled < (1u << 27) ? small : normal) | (shifted & 0x80000000u));
}

INLINE float from_bfloat(uint16_t bfloat) { return from_bits((uint32_t)bfloat << 16); }

/* n values of one class as float32. Called through memory, not inlined: for rows of maps that are
 * about to be interpolated. */
static __attribute__((noinline, unused)) void decode(int64_t kind, const char *row, int64_t n,
                                                     const float *gaps, float *restrict out) {
    for (int64_t i = 0; i < n; i++) {
        if (kind == FLOAT) out[i] = ((const float *)row)[i];
        if (kind == BFLOAT) out[i] = from_bfloat(((const uint16_t *)row)[i]);
        if (kind == HALF) out[i] = from_half(((const uint16_t *)row)[i]);
        if (kind == CODES) out[i] = gaps[((const uint8_t *)row)[i]];
    }
}

/* labels are uint16 where the void label does not fit into uint8. */
INLINE void put_label(void *labels, int64_t i, int64_t label, int64_t ignore) {
    if (ignore > UINT8_MAX) ((uint16_t *)labels)[i] = (uint16_t)label;
    else ((uint8_t *)labels)[i] = (uint8_t)label;
}
