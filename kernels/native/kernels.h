/* What the compiled loops share. */
#ifndef FUSION_KERNELS_H
#define FUSION_KERNELS_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16 }; /* pixels of a bundle: kernels/contested/layout.py */

/* A row of the table of addresses (layout.Parts.table): contested pixels with equally many
 * candidates, in bundles of LANES pixels. means [bundles, k, G, LANES], classes [bundles, k,
 * LANES], targets [bundles, LANES]; width k. Padding lanes hold zeros. */
typedef struct {
    const float *means;
    const uint16_t *classes;
    const uint16_t *targets;
    int64_t width, pixels, video;
} run_t;

#endif
