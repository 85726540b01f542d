/* Labels at label resolution from interpolated logits, in the cheap arithmetic of cheap.h: blocks
 * of STRIP label rows x CHUNK label columns, a model after another. What is not decided is left to
 * the exact path, pixel by pixel.
 *
 * M models, C classes, maps [C, h, w], label columns W. Interpolation is vertical first, at native
 * columns, then horizontal; log2(e) / T is part of the vertical weights. In base 2 logarithms,
 * values |z| log2(e) / T <= Z: each step of a (1 - f) + b f errs by few roundings of a and b that
 * are not larger than Z, 7 in the oracle, 9 here, so arguments of powers differ by less than
 * 16 u Z between exact arithmetic and either. Logits of -inf count as -1e30: with a weight above 0
 * (then it is above 1e-17) they make powers of 0 on both paths, without one they add 0 to both.
 *
 * Interpolated logits differ as linearly as their corners do. Where a class is above all others by
 * GAP at four corners in every model, it is so in between, and GAP is more than all roundings make
 * of it: the pixel has its label, and no power is taken.
 */

#include <math.h>
#include <stdlib.h>

#include "cells.h"
#include "cheap.h"

enum { STRIP = 4, NATIVE = 32 }; /* native columns under CHUNK label columns, at most */
#define GAP 0x1p-7f              /* base 2, beside 32 u MOST_VALUE = 0.002 */
#define MOST_VALUE 1024.0f       /* Z; cpu.py */

/* One model's; bindings.py holds the mirror. Strides in bytes. */
struct strip_map {
    const char *data;
    int64_t kind, class_stride, row_stride, h, w;
    const struct steps *steps;
    float scale, weight; /* 1 / T; the model's share of all weights */
};

/* What native columns of a block become: their vertical weights times log2(e) / T. */
struct place {
    const char *above, *below; /* class 0 at the first of `count` native columns */
    float upper, lower;
    int64_t count;
};

#ifdef __AVX512BW__
INLINE __m512 native(int kind, const char *row, int64_t from, int64_t count) {
    __mmask16 mask = count - from >= 16 ? 0xffff : (__mmask16)((1u << (count - from)) - 1);
    __m512 z;
    if (kind == CODES) {
        __m128i q = _mm_maskz_loadu_epi8(mask, row + from);
        z = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(q));
        return _mm512_mul_ps(z, z);
    }
    if (kind == FLOAT) z = _mm512_maskz_loadu_ps(mask, row + 4 * from);
    else {
        __m256i bits = _mm256_maskz_loadu_epi16(mask, row + 2 * from);
        z = kind == HALF ? _mm512_cvtph_ps(bits)
                         : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    return _mm512_max_ps(_mm512_set1_ps(NO_SCORE), z);
}

INLINE __m512 vertical(int kind, const struct place *p, int64_t offset, int64_t from) {
    __m512 above = native(kind, p->above + offset, from, p->count);
    __m512 below = native(kind, p->below + offset, from, p->count);
    return _mm512_fmadd_ps(below, _mm512_set1_ps(p->lower),
                           _mm512_mul_ps(above, _mm512_set1_ps(p->upper)));
}

/* Powers e [C, CHUNK] of a label row's interpolated logits and their sums. */
INLINE void strip_powers(int kind, int wide, const struct strip_map *m, int64_t classes,
                         const struct place *p, const int32_t *left, const int32_t *right,
                         const float *rest, const float *fx, float *restrict e, float *total) {
    __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t c = 0; c < classes; c++) {
        __m512 first = vertical(kind, p, c * m->class_stride, 0), second = first;
        if (wide) second = vertical(kind, p, c * m->class_stride, 16);
        for (int i = 0; i < 2; i++) {
            __m512i l = _mm512_loadu_si512(left + 16 * i), r = _mm512_loadu_si512(right + 16 * i);
            __m512 a =
                wide ? _mm512_permutex2var_ps(first, l, second) : _mm512_permutexvar_ps(l, first);
            __m512 b =
                wide ? _mm512_permutex2var_ps(first, r, second) : _mm512_permutexvar_ps(r, first);
            __m512 t = _mm512_fmadd_ps(b, _mm512_loadu_ps(fx + 16 * i),
                                       _mm512_mul_ps(a, _mm512_loadu_ps(rest + 16 * i)));
            __m512 y = wide_power(t);
            _mm512_store_ps(e + c * CHUNK + 16 * i, y);
            sum[i] = _mm512_add_ps(sum[i], y);
        }
    }
    _mm512_store_ps(total, sum[0]), _mm512_store_ps(total + 16, sum[1]);
}
#else
INLINE void native(int kind, const char *row, int64_t count, float *restrict z) {
    for (int64_t i = 0; i < count; i++) {
        if (kind == FLOAT) z[i] = ((const float *)row)[i];
        if (kind == BFLOAT) z[i] = from_bfloat(((const uint16_t *)row)[i]);
        if (kind == HALF) z[i] = from_half(((const uint16_t *)row)[i]);
        if (kind == CODES) z[i] = (float)((const uint8_t *)row)[i] * ((const uint8_t *)row)[i];
        z[i] = NO_SCORE > z[i] ? NO_SCORE : z[i];
    }
}

INLINE void strip_powers(int kind, int wide, const struct strip_map *m, int64_t classes,
                         const struct place *p, const int32_t *left, const int32_t *right,
                         const float *rest, const float *fx, float *restrict e, float *total) {
    float above[NATIVE], below[NATIVE], t[CHUNK], upper = p->upper, lower = p->lower;
    for (int i = 0; i < CHUNK; i++) total[i] = 0 * wide;
    for (int64_t c = 0; c < classes; c++, e += CHUNK) {
        native(kind, p->above + c * m->class_stride, p->count, above);
        native(kind, p->below + c * m->class_stride, p->count, below);
        for (int i = 0; i < NATIVE; i++) above[i] = fused(below[i], lower, above[i] * upper);
        for (int i = 0; i < CHUNK; i++)
            t[i] = fused(above[right[i]], fx[i], above[left[i]] * rest[i]);
        for (int i = 0; i < CHUNK; i++) e[i] = power_of_two(t[i]), total[i] += e[i];
    }
}
#endif

/* A block of `rows` label rows of all models: what cells and arithmetic need of it. */
struct block {
    int64_t y, x, rows, columns, classes;
    float *e, *scores; /* [C, CHUNK], [STRIP, C, CHUNK] */
};

/* Asks for a model's lines of the block, before they are read for the first time. */
INLINE void ask_for_block(const struct strip_map *m, const struct block *b, int64_t c) {
    const struct steps *s = m->steps;
    int64_t bytes = s->left[b->x] * WIDTH[m->kind] + c * m->class_stride;
    __builtin_prefetch(m->data + s->upper[b->y] * m->row_stride + bytes);
    __builtin_prefetch(m->data + s->lower[b->y] * m->row_stride + bytes);
}

INLINE void add_strip(int kind, const struct strip_map *m, const struct strip_map *next, int opens,
                      const struct block *b) {
    const struct steps *s = m->steps;
    float rest[CHUNK], fx[CHUNK], factor = cheap_factor(kind, m->scale);
    float total[CHUNK] __attribute__((aligned(CACHE_LINE)));
    int32_t left[CHUNK], right[CHUNK];
    int64_t base = s->left[b->x], count = 0;
    for (int64_t i = 0; i < CHUNK; i++) {
        int64_t x = b->x + (i < b->columns ? i : 0);
        left[i] = (int32_t)(s->left[x] - base), right[i] = (int32_t)(s->right[x] - base);
        fx[i] = s->fx[x], rest[i] = 1.0f - fx[i];
        count = right[i] >= count ? right[i] + 1 : count;
    }
    for (int64_t c = 0; next && c < b->classes; c++) ask_for_block(next, b, c);
    for (int64_t r = 0; r < b->rows; r++) {
        int64_t y = b->y + r, at = base * WIDTH[kind];
        struct place p = {m->data + s->upper[y] * m->row_stride + at,
                          m->data + s->lower[y] * m->row_stride + at, (1.0f - s->fy[y]) * factor,
                          s->fy[y] * factor, count};
        float *scores = b->scores + r * b->classes * CHUNK;
        if (count > 16)
            strip_powers(kind, 1, m, b->classes, &p, left, right, rest, fx, b->e, total);
        else strip_powers(kind, 0, m, b->classes, &p, left, right, rest, fx, b->e, total);
        share_out(m->weight, total);
        if (opens) add_shares(b->classes, 1, b->e, total, scores);
        else add_shares(b->classes, 0, b->e, total, scores);
    }
}

/* The class that all models agree on around a label pixel, or -1. */
INLINE int32_t agreed_on(const int32_t *agreed, const struct strip_map *m, int64_t y, int64_t x) {
    const struct steps *s = m->steps;
    const int32_t *above = agreed + s->upper[y] * m->w, *below = agreed + s->lower[y] * m->w;
    int32_t c = above[s->left[x]];
    int same = above[s->right[x]] == c && below[s->left[x]] == c && below[s->right[x]] == c;
    return same ? c : -1;
}

/* Labels of the block where all its pixels have agreeing corners. */
static int same_corners(const int32_t *agreed, const struct strip_map *m, const struct block *b,
                        int32_t labels[STRIP][CHUNK]) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t i = 0; i < b->columns; i++) {
            labels[r][i] = agreed_on(agreed, m, b->y + r, b->x + i);
            if (labels[r][i] < 0) return 0;
        }
    return 1;
}

/* Labels [rows, W] of the rows that the maps' steps hold, and `open` [rows, W]: 1 where one is not
 * decided. agreed [h, w]: fusion_agreed's, or NULL. `most`: Z of all models. Returns how many
 * pixels are open; -1: no memory. */
EXPORT int64_t fusion_strip_labels(const struct strip_map *maps, int64_t models, int64_t classes,
                                   const float *multipliers, const int32_t *agreed, float most,
                                   int64_t ignore, void *labels, uint8_t *open) {
    const struct steps *s = maps->steps;
    struct block b = {.classes = classes};
    float keep = trusted(classes, models) - 2.2f * 2 * 18 * 0x1p-24f * 0.6932f * most;
    int32_t found[STRIP][CHUNK];
    uint8_t unsure[STRIP][CHUNK];
    int64_t left = 0;
    b.e = allocate_aligned(4 * CHUNK * (size_t)classes);
    b.scores = allocate_aligned(4 * STRIP * CHUNK * (size_t)classes);
    int ready = b.e && b.scores;
    for (b.y = 0; ready && b.y < s->rows; b.y += STRIP)
        for (b.x = 0; b.x < s->width; b.x += CHUNK) {
            b.rows = s->rows - b.y < STRIP ? s->rows - b.y : STRIP;
            b.columns = s->width - b.x < CHUNK ? s->width - b.x : CHUNK;
            memset(unsure, 0, sizeof unsure);
            int same = agreed && same_corners(agreed, maps, &b, found);
            for (int64_t m = 0; !same && m < models; m++) {
                const struct strip_map *map = maps + m, *next = m + 1 < models ? map + 1 : NULL;
                if (map->kind == HALF) add_strip(HALF, map, next, m == 0, &b);
                else if (map->kind == BFLOAT) add_strip(BFLOAT, map, next, m == 0, &b);
                else if (map->kind == FLOAT) add_strip(FLOAT, map, next, m == 0, &b);
                else add_strip(CODES, map, next, m == 0, &b);
            }
            for (int64_t r = 0; r < b.rows; r++) {
                if (!same)
                    settle_chunk(b.scores + r * classes * CHUNK, multipliers, classes, keep,
                                 found[r], unsure[r]);
                int64_t to = (b.y + r) * s->width + b.x;
                for (int64_t i = 0; i < b.columns; i++) {
                    put_label(labels, to + i, found[r][i], ignore);
                    left += open[to + i] = unsure[r][i];
                }
            }
        }
    free_aligned(b.e), free_aligned(b.scores);
    return ready ? left : -1;
}

/* Of rows y0 <= y < y1 of one model: `agreed` [h, w] loses classes (to -1) that are not above all
 * others by `gap`; the first model's (`opens`) are what it begins with. Returns the largest |z|
 * but for -inf; inf where a NaN, an inf or a pixel of nothing but -inf is; -1: no
 * memory. gaps [256] decoded codes. */
EXPORT float fusion_agreed(const struct strip_map *m, int64_t classes, int64_t y0, int64_t y1,
                           float gap, const float *gaps, int opens, int32_t *agreed) {
    float *room = malloc(4 * sizeof(float) * (size_t)m->w), largest = 0.0f;
    float *z = room, *top = room + m->w, *second = top + m->w, *extent = second + m->w;
    int32_t *label = malloc(sizeof(int32_t) * (size_t)m->w);
    for (int64_t y = y0; room && label && y < y1; y++) {
        for (int64_t x = 0; x < m->w; x++)
            top[x] = second[x] = -INFINITY, label[x] = -1, extent[x] = 0.0f;
        for (int64_t c = 0; c < classes; c++) {
            const char *row = m->data + c * m->class_stride + y * m->row_stride;
            prefetch(row, m->class_stride, m->w * WIDTH[m->kind]);
            const uint8_t *q =
                (const uint8_t *)row; /* not looked up: GAP has room for a rounding */
            if (m->kind != CODES) decode(m->kind, row, m->w, gaps, z);
            for (int64_t x = 0; m->kind == CODES && x < m->w; x++)
                z[x] = (float)q[x] * (float)q[x] * (float)(-24.0 / (255.0 * 255.0));
            for (int64_t x = 0; x < m->w; x++) {
                float lower = z[x] > top[x] ? top[x] : z[x];
                float size = z[x] != z[x] ? INFINITY : z[x] == -INFINITY ? 0.0f : fabsf(z[x]);
                second[x] = lower > second[x] ? lower : second[x];
                label[x] = z[x] > top[x] ? (int32_t)c : label[x];
                top[x] = z[x] > top[x] ? z[x] : top[x];
                extent[x] = extent[x] > size ? extent[x] : size;
            }
        }
        for (int64_t x = 0; x < m->w; x++) {
            int32_t *to = agreed + y * m->w + x;
            int32_t clear = top[x] - second[x] > gap ? label[x] : -1;
            *to = opens || *to == clear ? clear : -1;
            extent[x] = top[x] == -INFINITY ? INFINITY : extent[x]; /* nothing but -inf */
            largest = largest > extent[x] ? largest : extent[x];
        }
    }
    if (!room || !label) largest = -1.0f;
    free(room), free(label);
    return largest;
}
