/* Labels alone, from cheap softmaxes; spans of pixels with an undecided one go the exact way. */
#pragma once

#include "cheap.h"

enum { REST = 16 }; /* tiles that go the exact way at once after one where hardly any was decided */

/* A model's tile, and the next one, whose lines are asked for row by row while this one's are
 * worked on: a processor foresees neither. */
struct ahead {
    const char *row;
    int64_t stride, lines, line, classes, c;
};

INLINE void ask_for_next(struct ahead *a) {
    if (a->c >= a->classes) return;
    __builtin_prefetch(a->row + a->line * CACHE_LINE, 0, 2);
    if (++a->line == a->lines) a->line = 0, a->c++, a->row += a->stride;
}

/* One model into scores [n / CHUNK, C, CHUNK]. */
INLINE void add_cheaply(int kind, struct view v, float factor, float weight, int opens,
                        struct ahead next, const float *table, float *restrict e,
                        float *restrict scores) {
    for (int64_t s = 0; s < v.n; s += CHUNK, scores += v.classes * CHUNK) {
        float total[CHUNK] __attribute__((aligned(CACHE_LINE))) = {0};
        for (int64_t c = 0; c < v.classes; c++) {
            ask_for_next(&next);
            add_powers(kind, v.rows + c * v.stride + s * WIDTH[kind], factor, table, e + c * CHUNK,
                       total);
        }
        share_out(weight, total);
        if (opens) add_shares(v.classes, 1, e, total, scores);
        else add_shares(v.classes, 0, e, total, scores);
    }
}

static void member_cheaply(const struct average *a, int64_t m, int64_t then, int64_t on, int64_t n,
                           float weight, int opens, union scratch *w) {
    const struct sources *from = a->source;
    struct view v = {w->at.rows[m], w->at.stride[m], from->classes, n};
    int64_t kind = from->kind[m], width = WIDTH[from->kind[then]];
    float factor = cheap_factor(kind, from->scale[m]), *e = w->exponentials;
    const float *table = from->exponentials + 256 * m;
    int64_t lines = (n * width + CACHE_LINE - 1) / CACHE_LINE;
    struct ahead next = {w->at.rows[then] + on * width, w->at.stride[then], lines, 0, v.classes, 0};
    if (kind == HALF) add_cheaply(HALF, v, factor, weight, opens, next, table, e, w->scores);
    else if (kind == BFLOAT)
        add_cheaply(BFLOAT, v, factor, weight, opens, next, table, e, w->scores);
    else if (kind == FLOAT) add_cheaply(FLOAT, v, factor, weight, opens, next, table, e, w->scores);
    else add_cheaply(CODES, v, factor, weight, opens, next, table, e, w->scores);
}

/* The tile's scores; 0: no group counts. */
static void add_all_cheaply(const struct average *a, int64_t n, union scratch *w) {
    int64_t members = a->group_end[a->groups - 1], opens = 1;
    for (int64_t g = 0, k = 0; g < a->groups; g++)
        for (; k < a->group_end[g]; k++) {
            int64_t last = k + 1 == members, then = a->members[last ? 0 : k + 1];
            float weight = a->weight[g] * a->share[g];
            if (a->weight[g] > 0)
                member_cheaply(a, a->members[k], then, last ? n : 0, n, weight, (int)opens, w);
            if (a->weight[g] > 0) opens = 0;
        }
}

#include "fixed.h"

/* All models over a tile of pixels; `again` [n / SPAN] where one is undecided. */
static void settle(const struct average *a, int64_t n, union scratch *w, uint8_t *again) {
    int64_t C = a->source->classes;
    float keep = trusted(C, a->source->models);
    if (all_codes(a->source)) {
        settle_codes(a, n, w, again);
        return;
    }
    add_all_cheaply(a, n, w);
    uint8_t open[CHUNK];
    for (int64_t s = 0; s < n; s += CHUNK)
        again[s / SPAN] |=
            0 < settle_chunk(w->scores + s * C, a->multipliers, C, keep, w->label + s, open);
}

/* Whether the cheap way is cheaper: of codes whose exponentials are looked up one by one it is not.
 */
INLINE int pays(const struct sources *from) {
#ifdef __AVX512F__
    return from->models > 0;
#else
    int64_t codes = 1;
    for (int64_t m = 0; m < from->models; m++) codes &= from->kind[m] == CODES;
    return !codes;
#endif
}

/* All models over a tile of pixels: a `fuse_t`. */
static void fuse_labels(const void *call, int64_t n, int64_t count, int64_t first, void *scratch) {
    const struct average *a = call;
    union scratch *w = scratch;
    int64_t *rest = &((struct average *)call)->rest; /* speed alone hangs on it */
    if (__atomic_load_n(rest, __ATOMIC_RELAXED) > 0) {
        __atomic_sub_fetch(rest, 1, __ATOMIC_RELAXED);
        fuse(call, n, count, first, scratch);
        return;
    }
    int64_t spans = 0;
    uint8_t again[MOST_SPANS] = {0};
    settle(a, n, w, again);
    for (int64_t i = 0; i < count; i++) put_label(a->labels, first + i, w->label[i], a->ignore);
    for (int64_t s = 0; s < n; s += SPAN) spans += again[s / SPAN];
    for (int64_t s = 0; s < n && spans; s += SPAN) {
        if (again[s / SPAN])
            fuse(call, SPAN, count - s < SPAN ? count - s : SPAN, first + s, scratch);
        for (int64_t m = 0; m < a->source->models; m++)
            w->at.rows[m] += SPAN * WIDTH[a->source->kind[m] & 3];
    }
    if (2 * spans > n / SPAN) __atomic_store_n(rest, REST, __ATOMIC_RELAXED);
}
