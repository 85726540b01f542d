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

/* Vectors are passed to what is inlined alone, so that no calling convention is involved. */
#pragma GCC diagnostic ignored "-Wpsabi"

/* ---- filter ---- */

/* One pixel's scores [G, C], the same raised (value * scale + tiny), and flags [2, C]. */
typedef struct {
    int64_t groups, classes;
    float scale, tiny, limit, *column, *raised;
    const float *plain; /* what a lower class must reach: column, or raised under multipliers */
    int32_t *dominated;
} pixel_t;

/* One group's top class (lowest of equals) of every pixel of a tile. `doubt` is raised to the
 * largest bit pattern seen: negative numbers, infinities and NaN all lie above that of the largest
 * legal score. It is full where the top is not the first group's, or not ahead by the margin of the
 * classes below it (of all under multipliers, `both`). */
static void tile_tops(const float *restrict rows, int64_t stride, int64_t classes, int64_t pixels,
                      float scale, float tiny, int both, const int32_t *tops, int32_t *top,
                      uint32_t *restrict doubt) {
    float best[TILE], runner[TILE]; /* runner: the highest of those that must be behind */
    for (int64_t i = 0; i < pixels; i++) {
        best[i] = -1.0f;
        runner[i] = 0.0f;
        top[i] = 0;
    }
    for (int64_t c = 0; c < classes; c++) {
        const float *restrict row = rows + c * stride;
        for (int64_t i = 0; i < pixels; i++) {
            float value = row[i];
            uint32_t bits = to_bits(value);
            int higher = value > best[i];
            doubt[i] = bits > doubt[i] ? bits : doubt[i];
            runner[i] = higher ? best[i] : (both & (value > runner[i])) ? value : runner[i];
            top[i] = higher ? (int32_t)c : top[i];
            best[i] = higher ? value : best[i];
        }
    }
    for (int64_t i = 0; i < pixels; i++)
        if (top[i] != tops[i] || !(best[i] >= runner[i] * scale + tiny)) doubt[i] = UINT32_MAX;
}

/* dominated[c] becomes 1 where class d beats c under every weighting. */
static void mark_dominated(const pixel_t *pixel, int64_t d) {
    int64_t classes = pixel->classes;
    int32_t *restrict dominated = pixel->dominated, *restrict scratch = dominated + classes;
    for (int64_t c = 0; c < classes; c++) scratch[c] = 1;
    for (int64_t g = 0; g < pixel->groups; g++) {
        const float *column = pixel->column + g * classes, *raised = pixel->raised + g * classes;
        const float *plain = pixel->plain + g * classes;
        float mine = column[d];
        for (int64_t c = 0; c < d; c++) scratch[c] &= raised[c] <= mine;
        for (int64_t c = d + 1; c < classes; c++) scratch[c] &= plain[c] <= mine;
    }
    scratch[d] = 0;
    for (int64_t c = 0; c < classes; c++) dominated[c] |= scratch[c];
}

static int beats(const pixel_t *pixel, int64_t d, int64_t c) {
    const float *mine = pixel->column + d, *theirs = (d < c ? pixel->plain : pixel->raised) + c;
    for (int64_t cell = 0; cell < pixel->groups * pixel->classes; cell += pixel->classes)
        if (!(theirs[cell] <= mine[cell])) return 0;
    return 1;
}

/* The undominated classes of one pixel, ascending; none where a score is illegal. The tops of the
 * groups remove nearly all, the rest are compared pairwise. */
static int64_t survivors(const pixel_t *pixel, const int32_t *tops, uint16_t *alive) {
    int64_t groups = pixel->groups, classes = pixel->classes, count = 0, kept = 0;
    int32_t *dominated = pixel->dominated, legal = 1;
    for (int64_t i = 0; i < groups * classes; i++) {
        float score = pixel->column[i];
        legal &= (score >= 0.0f) & (score <= pixel->limit);
        pixel->raised[i] = score * pixel->scale + pixel->tiny;
    }
    if (!legal) return 0;
    memset(dominated, 0, sizeof(int32_t) * (size_t)classes);
    for (int64_t g = 0; g < groups; g++) {
        int64_t d = tops[g * TILE], seen = 0;
        for (int64_t h = 0; h < g; h++) seen |= tops[h * TILE] == d;
        if (!seen) mark_dominated(pixel, d);
    }
    for (int64_t c = 0; c < classes; c++)
        if (!dominated[c]) alive[count++] = (uint16_t)c;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < count && !dominated[alive[i]]; j++)
            dominated[alive[i]] = i != j && beats(pixel, alive[j], alive[i]);
    for (int64_t i = 0; i < count; i++)
        if (!dominated[alive[i]]) alive[kept++] = alive[i];
    return kept;
}

/* means [G, C, P], targets [P]: pixels first <= p < last, as far as `room` candidates of output go
 * (at least TILE * C). both: under multipliers every class must be ahead by the margin. constant
 * [C, C] += uncontested pixels. Contested pixels are appended: counts, kept_targets [n],
 * kept_classes [K], kept_means [K, G]. state: [next pixel, n, K, status]; a bad status leaves the
 * offending pixel in state[0]. */
EXPORT void contested_filter(const float *means, const uint16_t *targets, int64_t groups,
                             int64_t classes, int64_t stride, int64_t first, int64_t last,
                             int64_t ignore, float scale, float tiny, float limit, int64_t both,
                             int64_t *constant, uint16_t *counts, uint16_t *kept_targets,
                             uint16_t *kept_classes, float *kept_means, int64_t room,
                             int64_t *state) {
    int64_t cells = groups * classes, n = 0, total = 0, start = first, status = DONE;
    float *column = malloc((size_t)(2 * cells + 2 * classes + groups * TILE) * 4);
    int32_t *flags = (int32_t *)(column + 2 * cells), *tops = flags + 2 * classes;
    const float *plain = both ? column + cells : column;
    pixel_t pixel = {groups, classes, scale, tiny, limit, column, column + cells, plain, flags};
    uint32_t doubt[TILE];
    if (!column) status = NO_MEMORY;
    for (; status == DONE && start < last && total + TILE * classes <= room; start += TILE) {
        int64_t pixels = last - start < TILE ? last - start : TILE;
        memset(doubt, 0, sizeof doubt);
        for (int64_t g = 0; g < groups; g++)
            tile_tops(means + g * classes * stride + start, stride, classes, pixels, scale, tiny,
                      (int)both, tops, tops + g * TILE, doubt);
        for (int64_t i = 0; i < pixels; i++) {
            int64_t target = targets[start + i], kept = 1;
            uint16_t *alive = kept_classes + total;
            if (target == ignore) continue;
            alive[0] = (uint16_t)tops[i];
            if (target >= classes || doubt[i] > to_bits(limit)) {
                for (int64_t cell = 0; cell < cells; cell++)
                    column[cell] = means[cell * stride + start + i];
                kept = survivors(&pixel, tops + i, alive);
                if (!kept) status = BAD_SCORE;
                if (target >= classes) status = BAD_TARGET;
                if (status != DONE) {
                    state[0] = start + i;
                    break;
                }
            }
            if (kept == 1) {
                constant[target * classes + alive[0]]++;
                continue;
            }
            for (int64_t j = 0; j < kept; j++)
                for (int64_t g = 0; g < groups; g++)
                    kept_means[(total + j) * groups + g] = column[g * classes + alive[j]];
            counts[n] = (uint16_t)kept;
            kept_targets[n++] = (uint16_t)target;
            total += kept;
        }
    }
    if (status == DONE) state[0] = start < last ? start : last;
    state[1] = n;
    state[2] = total;
    state[3] = status;
    free(column);
}

/* ---- counting ---- */

/* Where counts go: [C, C] cells per weight vector, or (matrix == 0) [2, C] intersections and
 * predictions. */
typedef struct {
    int64_t *out;
    int64_t classes, matrix;
} counter_t;

static inline void add(counter_t to, int64_t b, int64_t target, int64_t label, int64_t amount) {
    if (to.matrix) {
        to.out[(b * to.classes + target) * to.classes + label] += amount;
        return;
    }
    int64_t *statistics = to.out + 2 * b * to.classes;
    statistics[to.classes + label] += amount;
    if (label == target) statistics[label] += amount;
}

INLINE uint32_t unequal(const ints *a, const ints *b) {
#ifdef __AVX512F__
    return _mm512_cmpneq_epi32_mask((__m512i)*a, (__m512i)*b);
#else
    uint32_t mask = 0;
    for (int i = 0; i < LANES; i++) mask |= (uint32_t)((*a)[i] != (*b)[i]) << i;
    return mask;
#endif
}

/* Winner of every lane: the first candidate (they ascend) with the highest score; scores add in the
 * order of the groups, and are times their class's multiplier where there are any (else NULL). */
INLINE ints winners(const float *means, const uint16_t *classes, const float *weights,
                    const float *multipliers, int64_t width, int64_t groups) {
    floats best = (floats){0} - 1.0f;
    ints index = {0};
    for (int64_t j = 0; j < width; j++) {
        floats score = {0};
        for (int64_t g = 0; g < groups; g++)
            score += weights[g] * *(const floats *)(means + (j * groups + g) * LANES);
        if (multipliers) {
            floats factor;
            for (int i = 0; i < LANES; i++) factor[i] = multipliers[classes[j * LANES + i]];
            score *= factor;
        }
        ints higher = score > best;
        best = (floats)(((ints)best & ~higher) | ((ints)score & higher));
        index = (index & ~higher) | (((ints){0} + (int32_t)j) & higher);
    }
    return index;
}

INLINE void count_run(const run_t *run, const float *weights, const float *multipliers,
                      int64_t vectors, int64_t groups, counter_t counter) {
    for (int64_t first = 0; first < run->pixels; first += LANES) {
        const float *means = run->means + first * run->width * groups;
        const uint16_t *classes = run->classes + first * run->width,
                       *targets = run->targets + first;
        int64_t lanes = run->pixels - first < LANES ? run->pixels - first : LANES;
        ints before = winners(means, classes, weights, multipliers, run->width, groups);
        for (int64_t lane = 0; lane < lanes; lane++)
            add(counter, 0, targets[lane], classes[before[lane] * LANES + lane], 1);
        for (int64_t b = 1; b < vectors; b++) {
            const float *factors = multipliers ? multipliers + b * counter.classes : NULL;
            ints now = winners(means, classes, weights + b * groups, factors, run->width, groups);
            for (uint32_t changed = unequal(&now, &before); changed; changed &= changed - 1) {
                int lane = __builtin_ctz(changed);
                add(counter, b, targets[lane], classes[before[lane] * LANES + lane], -1);
                add(counter, b, targets[lane], classes[now[lane] * LANES + lane], 1);
            }
            before = now;
        }
    }
}

/* runs [count], checked against G and C. weights [B, G] and multipliers [B, C] (or NULL)
 * normalised. out: per video (per_video values apart; 0 adds them up) [B, C, C] or [B, 2, C], as
 * *differences* between consecutive weight vectors: the caller accumulates over B. Neighbouring
 * vectors disagree on few pixels, so little is written. */
EXPORT void contested_count(const run_t *runs, int64_t count, const float *weights,
                            const float *multipliers, int64_t vectors, int64_t groups,
                            int64_t classes, int64_t matrix, int64_t per_video, int64_t *out) {
    for (int64_t r = 0; r < count && vectors > 0; r++) {
        counter_t counter = {out + runs[r].video * per_video, classes, matrix};
        /* the common cases, unrolled */
        if (groups == 3 && !multipliers) count_run(runs + r, weights, NULL, vectors, 3, counter);
        else if (groups == 1) count_run(runs + r, weights, multipliers, vectors, 1, counter);
        else if (groups == 3) count_run(runs + r, weights, multipliers, vectors, 3, counter);
        else count_run(runs + r, weights, multipliers, vectors, groups, counter);
    }
}
