/* Contested pixels: the domination filter, and the count of predictions under many weight vectors.
 * Contract: kernels/contested/__init__.py; layout: layout.py; the same, slowly: naive.py. Built
 * without fused multiply-add; every float32 operation here rounds once. Shape letters: G groups, C
 * classes, P pixels, k candidates of a pixel, B weight vectors. */
#include "kernels.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { TILE = 512, DONE = 0, BAD_SCORE = 1, BAD_TARGET = 2, NO_MEMORY = 3 };

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ints __attribute__((vector_size(4 * LANES), aligned(4)));

/* ---- filter ---- */

/* Top class (lowest of equals), its score, and the highest score among classes *below* the top, of
 * every pixel of a tile. `worst` is the largest bit pattern seen: negative numbers, infinities and
 * NaN all lie above that of the largest legal score. */
static void tile_tops(const float *restrict rows, int64_t stride, int64_t classes, int64_t pixels,
                      float *restrict best, float *restrict runner, int32_t *restrict top,
                      uint32_t *restrict worst) {
    for (int64_t i = 0; i < pixels; i++) {
        best[i] = -1.0f;
        runner[i] = 0.0f;
        top[i] = 0;
    }
    for (int64_t c = 0; c < classes; c++) {
        const float *restrict row = rows + c * stride;
        for (int64_t i = 0; i < pixels; i++) {
            float value = row[i];
            uint32_t bits;
            memcpy(&bits, &value, 4);
            worst[i] = bits > worst[i] ? bits : worst[i];
            int higher = value > best[i];
            runner[i] = higher ? best[i] : runner[i];
            top[i] = higher ? (int32_t)c : top[i];
            best[i] = higher ? value : best[i];
        }
    }
}

static int legal(const float *column, int64_t count, float limit) {
    for (int64_t i = 0; i < count; i++)
        if (!(column[i] >= 0.0f && column[i] <= limit)) return 0;
    return 1;
}

/* dominated[c] becomes 1 where class d beats c under every weighting; raised = value * scale +
 * tiny. */
static void mark_dominated(const float *restrict column, const float *restrict raised,
                           int64_t groups, int64_t classes, int64_t d, int32_t *restrict scratch,
                           int32_t *restrict dominated) {
    for (int64_t c = 0; c < classes; c++) scratch[c] = 1;
    for (int64_t g = 0; g < groups; g++) {
        float mine = column[g * classes + d];
        for (int64_t c = 0; c < d; c++) scratch[c] &= raised[g * classes + c] <= mine;
        for (int64_t c = d + 1; c < classes; c++) scratch[c] &= column[g * classes + c] <= mine;
    }
    scratch[d] = 0;
    for (int64_t c = 0; c < classes; c++) dominated[c] |= scratch[c];
}

static int beats(const float *column, const float *raised, int64_t groups, int64_t classes,
                 int64_t d, int64_t c) {
    const float *theirs = d < c ? column : raised;
    for (int64_t g = 0; g < groups; g++)
        if (!(theirs[g * classes + c] <= column[g * classes + d])) return 0;
    return 1;
}

/* The undominated classes of one pixel, ascending. The tops of the groups remove nearly all; the
 * rest are compared pairwise. */
static int64_t survivors(const float *column, float *raised, int64_t groups, int64_t classes,
                         const int32_t *tops, float scale, float tiny, int32_t *scratch,
                         int32_t *dominated, uint16_t *alive) {
    int64_t count = 0, kept = 0;
    for (int64_t i = 0; i < groups * classes; i++) raised[i] = column[i] * scale + tiny;
    memset(dominated, 0, sizeof(int32_t) * (size_t)classes);
    for (int64_t g = 0; g < groups; g++) {
        int64_t d = tops[g * TILE], seen = 0;
        for (int64_t h = 0; h < g; h++) seen |= tops[h * TILE] == d;
        if (!seen) mark_dominated(column, raised, groups, classes, d, scratch, dominated);
    }
    for (int64_t c = 0; c < classes; c++)
        if (!dominated[c]) alive[count++] = (uint16_t)c;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < count && !dominated[alive[i]]; j++)
            if (i != j)
                dominated[alive[i]] = beats(column, raised, groups, classes, alive[j], alive[i]);
    for (int64_t i = 0; i < count; i++)
        if (!dominated[alive[i]]) alive[kept++] = alive[i];
    return kept;
}

/* means [G, C, P], targets [P]: pixels first <= p < last, as far as `room` candidates of output go
 * (at least TILE * C). constant [C, C] += uncontested pixels. Contested pixels are appended:
 * counts, kept_targets [n], kept_classes [K], kept_means [K, G]. state: [next pixel, n, K, status];
 * a bad status leaves the offending pixel in state[0]. */
void contested_filter(const float *means, const uint16_t *targets, int64_t groups, int64_t classes,
                      int64_t stride, int64_t first, int64_t last, int64_t ignore, float scale,
                      float tiny, float limit, int64_t *constant, uint16_t *counts,
                      uint16_t *kept_targets, uint16_t *kept_classes, float *kept_means,
                      int64_t room, int64_t *state) {
    size_t cells = (size_t)(groups * classes);
    float *column = malloc(2 * cells * sizeof(float));
    int32_t *flags = malloc(2 * (size_t)classes * sizeof(int32_t));
    int32_t *tops = malloc((size_t)groups * TILE * sizeof(int32_t));
    float best[TILE], runner[TILE];
    uint32_t worst[TILE], highest;
    uint8_t agree[TILE];
    int64_t n = 0, total = 0, start = first;
    state[3] = column && flags && tops ? DONE : NO_MEMORY;
    memcpy(&highest, &limit, 4);
    for (; state[3] == DONE && start < last && total + TILE * classes <= room; start += TILE) {
        int64_t pixels = last - start < TILE ? last - start : TILE;
        memset(agree, 1, sizeof agree);
        memset(worst, 0, sizeof worst);
        for (int64_t g = 0; g < groups; g++) {
            int32_t *top = tops + g * TILE;
            tile_tops(means + g * classes * stride + start, stride, classes, pixels, best, runner,
                      top, worst);
            for (int64_t i = 0; i < pixels; i++)
                agree[i] &= (top[i] == tops[i]) & (best[i] >= runner[i] * scale + tiny);
        }
        for (int64_t i = 0; i < pixels; i++) {
            int64_t target = targets[start + i], kept;
            if (target == ignore) continue;
            state[3] = target < classes ? DONE : BAD_TARGET;
            if (state[3] == DONE && agree[i] && worst[i] <= highest) {
                constant[target * classes + tops[i]]++;
                continue;
            }
            for (size_t row = 0; row < cells; row++)
                column[row] = means[(int64_t)row * stride + start + i];
            if (state[3] == DONE && !legal(column, (int64_t)cells, limit)) state[3] = BAD_SCORE;
            if (state[3] != DONE) {
                start += i - TILE;
                break;
            } /* the loop's step makes it start + i */
            kept = survivors(column, column + cells, groups, classes, tops + i, scale, tiny, flags,
                             flags + classes, kept_classes + total);
            if (kept == 1) {
                constant[target * classes + kept_classes[total]]++;
                continue;
            }
            for (int64_t j = 0; j < kept; j++)
                for (int64_t g = 0; g < groups; g++)
                    kept_means[(total + j) * groups + g] =
                        column[g * classes + kept_classes[total + j]];
            counts[n] = (uint16_t)kept;
            kept_targets[n++] = (uint16_t)target;
            total += kept;
        }
    }
    state[0] = start < last || state[3] != DONE ? start : last;
    state[1] = n;
    state[2] = total;
    free(column);
    free(flags);
    free(tops);
}

/* ---- counting ---- */

/* Where counts go: [C, C] cells per weight vector, or (matrix == 0) [2, C] intersections and
 * predictions. */
typedef struct {
    int64_t *out;
    int64_t classes, matrix;
} counter_t;

static inline void add(counter_t counter, int64_t b, int64_t target, int64_t label,
                       int64_t amount) {
    if (counter.matrix) {
        counter.out[(b * counter.classes + target) * counter.classes + label] += amount;
    } else {
        int64_t *statistics = counter.out + 2 * b * counter.classes;
        statistics[counter.classes + label] += amount;
        if (label == target) statistics[label] += amount;
    }
}

static inline uint32_t unequal(ints a, ints b) {
#ifdef __AVX512F__
    return _mm512_cmpneq_epi32_mask((__m512i)a, (__m512i)b);
#else
    uint32_t mask = 0;
    for (int i = 0; i < LANES; i++) mask |= (uint32_t)(a[i] != b[i]) << i;
    return mask;
#endif
}

/* Winner of every lane: the first candidate (they ascend) with the highest score; scores add in the
 * order of the groups. */
static inline __attribute__((always_inline)) ints winners(const float *means, const float *weights,
                                                          int64_t width, int64_t groups) {
    floats best = (floats){0} - 1.0f;
    ints index = {0};
    for (int64_t j = 0; j < width; j++) {
        floats score = {0};
        for (int64_t g = 0; g < groups; g++)
            score += weights[g] * *(const floats *)(means + (j * groups + g) * LANES);
        ints higher = score > best;
        best = (floats)(((ints)best & ~higher) | ((ints)score & higher));
        index = (index & ~higher) | (((ints){0} + (int32_t)j) & higher);
    }
    return index;
}

static inline __attribute__((always_inline)) void count_run(const run_t *run, const float *weights,
                                                            int64_t vectors, int64_t groups,
                                                            counter_t counter) {
    for (int64_t bundle = 0; bundle * LANES < run->pixels; bundle++) {
        const float *means = run->means + bundle * run->width * groups * LANES;
        const uint16_t *classes = run->classes + bundle * run->width * LANES,
                       *targets = run->targets + bundle * LANES;
        int64_t lanes = run->pixels - bundle * LANES < LANES ? run->pixels - bundle * LANES : LANES;
        ints before = winners(means, weights, run->width, groups);
        for (int64_t lane = 0; lane < lanes; lane++)
            add(counter, 0, targets[lane], classes[before[lane] * LANES + lane], 1);
        for (int64_t b = 1; b < vectors; b++) {
            ints now = winners(means, weights + b * groups, run->width, groups);
            for (uint32_t changed = unequal(now, before); changed; changed &= changed - 1) {
                int lane = __builtin_ctz(changed);
                add(counter, b, targets[lane], classes[before[lane] * LANES + lane], -1);
                add(counter, b, targets[lane], classes[now[lane] * LANES + lane], 1);
            }
            before = now;
        }
    }
}

/* runs [count], checked against G and C. weights [B, G] normalised. out: per video (per_video
 * values apart; 0 adds them up) [B, C, C] or [B, 2, C], as *differences* between consecutive weight
 * vectors: the caller accumulates over B. Neighbouring vectors disagree on few pixels, so little is
 * written. */
void contested_count(const run_t *runs, int64_t count, const float *weights, int64_t vectors,
                     int64_t groups, int64_t classes, int64_t matrix, int64_t per_video,
                     int64_t *out) {
    for (int64_t r = 0; r < count && vectors > 0; r++) {
        counter_t counter = {out + runs[r].video * per_video, classes, matrix};
        if (groups == 3)
            count_run(runs + r, weights, vectors, 3, counter); /* the common case, unrolled */
        else count_run(runs + r, weights, vectors, groups, counter);
    }
}
