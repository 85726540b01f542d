/* Bilinear steps as kernels/upsample/naive.py writes them: horizontal, then vertical, a * (1 - f) +
 * b * f.
 *
 * G groups, C classes, maps [h, w] to label rows [rows, W]. `left`, `right`, `fx` [W] and `upper`,
 * `lower`, `fy` [rows] are the neighbours and fractions of every label column and row.
 */

#include <math.h>
#include <stdlib.h>

#include "cells.h"
#include "kernels.h"

/* Maps [C, h, w], strides in bytes, columns adjacent. bindings.py holds the mirrors of both. */
struct maps {
    const char *data;
    int64_t kind, class_stride, row_stride, classes, w;
    const float *codes;  /* [256] decoded */
    float infinity;      /* what inf counts as where values are logits */
    const uint8_t *dead; /* [h, w] pixels without any finite logit, or NULL */
};

/* Row y of class c at label columns; `native` is room for w floats. */
static void widen(const struct maps *m, int64_t c, int64_t y, const struct steps *s,
                  float *restrict native, float *restrict out) {
    decode(m->kind & 3, m->data + c * m->class_stride + y * m->row_stride, m->w, m->codes, native);
    if (m->kind < PROBABILITIES)
        for (int64_t x = 0; x < m->w; x++) {
            float finite = native[x] == -INFINITY ? NO_SCORE : native[x];
            native[x] = finite == INFINITY ? m->infinity : finite;
        }
    if (m->dead)
        for (int64_t x = 0; x < m->w; x++) native[x] = m->dead[y * m->w + x] ? NAN : native[x];
    for (int64_t x = 0; x < s->width; x++)
        out[x] = native[s->left[x]] * (1.0f - s->fx[x]) + native[s->right[x]] * s->fx[x];
}

/* Maps to out [C, rows, W], `out_stride` floats between classes. Consecutive label rows share their
 * neighbours, which are widened once. 0: no memory. */
EXPORT int fusion_bilinear(const struct maps *m, const struct steps *s, float *out,
                           int64_t out_stride) {
    float *room = malloc(sizeof(float) * (size_t)(m->w + 2 * s->width));
    float *native = room, *above = room + m->w, *below = above + s->width;
    for (int64_t c = 0; room && c < m->classes; c++) {
        int64_t has_above = -1, has_below = -1;
        for (int64_t y = 0; y < s->rows; y++) {
            if (s->upper[y] != has_above && s->upper[y] == has_below) {
                float *swap = above;
                above = below, below = swap;
                has_above = has_below, has_below = -1;
            }
            if (s->upper[y] != has_above) widen(m, c, has_above = s->upper[y], s, native, above);
            if (s->lower[y] != has_below) widen(m, c, has_below = s->lower[y], s, native, below);
            const float *restrict a = above, *restrict b = below;
            float *restrict to = out + c * out_stride + y * s->width, f = s->fy[y], rest = 1.0f - f;
            for (int64_t x = 0; x < s->width; x++) to[x] = a[x] * rest + b[x] * f;
        }
    }
    free(room);
    return room != NULL;
}

/* A native value, made finite as `widen` has it. */
INLINE float value_at(const struct maps *m, int64_t c, int64_t y, int64_t x) {
    const char *row = m->data + c * m->class_stride + y * m->row_stride;
    float z;
    switch (m->kind) {
    case FLOAT:
        z = ((const float *)row)[x];
        break;
    case BFLOAT:
        z = from_bfloat(((const uint16_t *)row)[x]);
        break;
    case HALF:
        z = from_half(((const uint16_t *)row)[x]);
        break;
    default:
        z = m->codes[((const uint8_t *)row)[x]];
    }
    return z == -INFINITY ? NO_SCORE : z;
}

/* Logits at n places y W + x alone, to out [C, n], with the bits of fusion_bilinear; of maps
 * without inf and without dead pixels. */
EXPORT void fusion_bilinear_at(const struct maps *m, const struct steps *s, const int64_t *places,
                               int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) {
        int64_t y = places[i] / s->width, x = places[i] % s->width;
        int64_t u = s->upper[y], l = s->lower[y], left = s->left[x], right = s->right[x];
        float fx = s->fx[x], fy = s->fy[y];
        for (int64_t c = 0; c < m->classes; c++) {
            float above = value_at(m, c, u, left) * (1.0f - fx) + value_at(m, c, u, right) * fx;
            float below = value_at(m, c, l, left) * (1.0f - fx) + value_at(m, c, l, right) * fx;
            out[c * n + i] = above * (1.0f - fy) + below * fy;
        }
    }
}

/* The label at one place among a cell's candidates. */
static int64_t decide(const float *means, int64_t groups, int64_t classes, int64_t plane,
                      const float *weights, const float *multipliers, const int64_t corner[4],
                      float fx, float fy, const uint16_t *list, int64_t count, int64_t ignore) {
    float best = 0.0f;
    int64_t label = 0;
    for (int64_t k = 0; k < count; k++) {
        float score = 0.0f;
        for (int64_t g = 0; g < groups; g++) {
            const float *map = means + (g * classes + list[k]) * plane;
            float above = map[corner[0]] * (1.0f - fx) + map[corner[1]] * fx;
            float below = map[corner[2]] * (1.0f - fx) + map[corner[3]] * fx;
            float part = (above * (1.0f - fy) + below * fy) * weights[g];
            score = g == 0 ? part : score + part;
        }
        if (score != score) return ignore;
        score *= multipliers[list[k]];
        if (k == 0 || score > best) best = score, label = list[k];
    }
    return label;
}

/* Labels of rows from group means [G, C, h, w] >= 0, C > 1, weights [G] and multipliers [C] (ones
 * where there are none). labels [rows, W]; adds the pixels whose cell left one class only to
 * *decided. 0: no memory. */
EXPORT int fusion_resized_labels(const float *means, int64_t groups, int64_t classes, int64_t h,
                                 int64_t w, const float *weights, const float *multipliers,
                                 float slack, const struct steps *s, int64_t ignore, void *labels,
                                 int64_t *decided) {
    float *best = malloc(4 * (size_t)w), *bound = malloc(16 * (size_t)(groups * w));
    int32_t *winner = malloc(4 * (size_t)w), *count = malloc(4 * (size_t)w);
    uint8_t *stays = malloc((size_t)w);
    uint16_t *list = malloc(2 * (size_t)(w * classes + 1));
    int ready = best && bound && winner && count && stays && list;
    for (int64_t y = 0; ready && y < s->rows; y++) {
        int64_t u = s->upper[y], l = s->lower[y];
        if (y == 0 || u != s->upper[y - 1])
            candidates(means, means, multipliers, groups, classes, h, w, u, l, slack, best, bound,
                       winner, stays, list, count);
        for (int64_t x = 0; x < s->width; x++) {
            int64_t i = s->left[x], j = s->right[x], label = list[i * classes];
            if (count[i] == 1) ++*decided;
            else {
                const int64_t corner[4] = {u * w + i, u * w + j, l * w + i, l * w + j};
                label = decide(means, groups, classes, h * w, weights, multipliers, corner,
                               s->fx[x], s->fy[y], list + i * classes, count[i], ignore);
            }
            put_label(labels, y * s->width + x, label, ignore);
        }
    }
    free(best), free(bound), free(winner), free(count), free(stays), free(list);
    return ready;
}
