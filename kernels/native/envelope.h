/* Lines over s, of which the highest wins: where one overtakes another. */
#pragma once

#include "kernels.h"

/* A pixel's label changes: FLIP of kernels/sweep. */
typedef struct {
    double at;
    uint16_t target, from, to, place; /* `case` is a word of C */
} flip_t;

/* Candidate j scores height[j] + s * slope[j]; lanes of a bundle lie side by side, hence [j *
 * LANES]. At equal scores the steeper one wins to the right, of equal lines the lower class. */
UNUSED static int64_t winner_at(const double *height, const double *slope, int64_t width,
                                double s) {
    int64_t best = 0;
    for (int64_t j = LANES; j < width * LANES; j += LANES) {
        double difference = height[j] + s * slope[j] - (height[best] + s * slope[best]);
        if (difference > 0 || (difference == 0 && slope[j] > slope[best])) best = j;
    }
    return best / LANES;
}

/* The candidate that overtakes `now` first after s, and where (before `high`, else -1). Of equal
 * ones the first: it is overtaken by a steeper one at the same place. */
UNUSED static int64_t overtaker(const double *height, const double *slope, int64_t width,
                                int64_t now, double s, double high, double *at) {
    int64_t next = -1;
    for (int64_t j = 0; j < width; j++) {
        double gain = slope[j * LANES] - slope[now * LANES];
        if (!(gain > 0)) continue;
        double crossing = (height[now * LANES] - height[j * LANES]) / gain;
        crossing = crossing > s ? crossing : s;
        if (crossing >= high) continue;
        *at = high = crossing;
        next = j;
    }
    return next;
}
