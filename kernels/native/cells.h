/* Cells: the label pixels between four native pixels, and the classes that can win in them. */
#pragma once

#include "kernels.h"

/* Label columns [W] and rows: `left`, `right`, `fx` and `upper`, `lower`, `fy` are neighbours and
 * fractions. bindings.py holds the mirror. */
struct steps {
    const int64_t *left, *right, *upper, *lower;
    const float *fx, *fy;
    int64_t width, rows;
};

/* Classes that can win in the cells between rows `u` and `l` of means [G, C, h, w], known to lie
 * between `low` and `high` (one array twice where they are known), each class times its multiplier
 * (NULL: as it is): list [w, C] ascending, count [w]. best, winner, stays [w] and bound [G, 4, w]
 * are scratch.
 *
 * Exact: rounded interpolation and sums are monotone, so a class that is below another at all four
 * corners in every group is not above it in between. `slack` exceeds all relative rounding on the
 * way, so it is strictly below and ties cannot arise either. NaN: all stay.
 */
UNUSED static void candidates(const float *low, const float *high, const float *multipliers,
                              int64_t groups, int64_t classes, int64_t h, int64_t w, int64_t u,
                              int64_t l, float slack, float *restrict best, float *restrict bound,
                              int32_t *restrict winner, uint8_t *restrict stays, uint16_t *list,
                              int32_t *count) {
    int64_t plane = h * w;
    for (int64_t x = 0; x < w; x++) best[x] = -1.0f, winner[x] = 0, count[x] = 0;
    /* any choice of winner is right; one that is high at all corners prunes most */
    for (int64_t c = 0; c < classes; c++) {
        float *restrict sum = bound;
        for (int64_t x = 0; x < w; x++) sum[x] = 0.0f;
        for (int64_t g = 0; g < groups; g++) {
            const float *map = low + (g * classes + c) * plane;
            const float *above = map + u * w, *below = map + l * w;
            for (int64_t x = 0; x + 1 < w; x++)
                sum[x] += (above[x] + below[x]) + (above[x + 1] + below[x + 1]);
            sum[w - 1] += 2 * (above[w - 1] + below[w - 1]);
        }
        float factor = multipliers ? multipliers[c] : 1.0f;
        for (int64_t x = 0; x < w; x++) {
            float scaled = sum[x] * factor;
            winner[x] = scaled > best[x] ? (int32_t)c : winner[x];
            best[x] = scaled > best[x] ? scaled : best[x];
        }
    }
    for (int64_t g = 0; g < groups; g++)
        for (int64_t x = 0; x < w; x++) {
            const float *map = low + (g * classes + winner[x]) * plane;
            int64_t next = x + 1 < w ? x + 1 : x;
            float *to = bound + 4 * g * w + x, factor = multipliers ? multipliers[winner[x]] : 1.0f;
            float keep = (1.0f - slack) * factor;
            to[0] = map[u * w + x] * keep, to[w] = map[l * w + x] * keep;
            to[2 * w] = map[u * w + next] * keep, to[3 * w] = map[l * w + next] * keep;
        }
    for (int64_t c = 0; c < classes; c++) {
        float b = multipliers ? multipliers[c] : 1.0f;
        for (int64_t x = 0; x < w; x++) stays[x] = winner[x] == c;
        for (int64_t g = 0; g < groups; g++) {
            const float *map = high + (g * classes + c) * plane;
            const float *restrict above = map + u * w, *restrict below = map + l * w;
            const float *restrict to = bound + 4 * g * w;
            for (int64_t x = 0; x < w - 1; x++)
                stays[x] |=
                    !((above[x] * b < to[x]) & (below[x] * b < to[w + x]) &
                      (above[x + 1] * b < to[2 * w + x]) & (below[x + 1] * b < to[3 * w + x]));
            stays[w - 1] |= !((above[w - 1] * b < to[w - 1]) & (below[w - 1] * b < to[2 * w - 1]));
        }
        for (int64_t x = 0; x < w; x++) {
            list[x * classes + count[x]] = (uint16_t)c; /* overwritten unless it stays */
            count[x] += stays[x];                       /* at most c before this class */
        }
    }
}
