/* The average's inner steps, in the order of operations of kernels/arithmetic.py: one float32
 * rounding per operation.
 *
 * M models, G groups, C classes, P pixels. The scores [C, tile] of a tile stay in the second level
 * cache, the exponentials [C, SPAN] of a span in the first. Independent channels need none: they
 * are one class of many pixels, and all that a tile of them sums up stays in the first.
 */

#include "softmax.h"

/* Everything that the tiles of one call share; bindings.py holds the mirror. */
struct average {
    const struct sources *source;
    int64_t groups;
    int64_t pixels; /* outer x inner, the length of every output row */
    int64_t tile;
    const int64_t *members;   /* group after group */
    const int64_t *group_end; /* [G] */
    const float *share;       /* [G] 1 / n_g */
    const float *weight;      /* [G] normalised; 0: the group is not looked at */
    const float *multipliers; /* [C] normalised, for labels alone; of channels [2 C]; or NULL */
    int64_t channel; /* pixels of an independent channel, of which P holds all; 0: classes */
    int64_t ignore;
    int64_t finishes;     /* 0: only group means are asked for */
    void *labels;         /* [P] uint8, or uint16 where `ignore` needs it; outputs may be NULL */
    float *probabilities; /* [C, P] */
    float *confidence, *margin, *entropy; /* [P] */
    float *group_means;                   /* [G, C, P] */
    int64_t cheap; /* 1: labels alone of logits, for which cheap.h proves something */
    int64_t rest;  /* tiles that are not to be tried the cheap way; of all threads */
};

enum { PARTS = 13, MOST_SPANS = 32 }; /* of a tile: sources.py */
union scratch {
    struct {
        struct places at;
        struct planes *planes; /* [M] of codes */
        struct halves *halves; /* [M] of codes, as fixed.h takes them */
        float *scores, *sums;  /* [C, tile] */
        float *opposites;      /* [tile] of channels */
        float *exponentials;   /* [C, SPAN] */
        float *top, *second;   /* [tile] */
        int32_t *label, *bad;  /* [tile] */
    };
    void *parts[PARTS];
};

/* Exponentials [C, SPAN] of the pixels at `first` and their reciprocal sums; values themselves and
 * ones where they are probabilities already. */
INLINE void exponentials(int kind, int mode, struct view v, int64_t first,
                         const struct planes *planes, const float *restrict top, float scale,
                         float *restrict out, float *restrict inverse) {
    float total[SPAN] = {0};
    for (int64_t c = 0; c < v.classes; c++) {
        float *restrict e = out + c * SPAN;
        load(kind, v.rows + c * v.stride + first * WIDTH[kind], e, planes);
        if (mode == LOGITS)
            for (int i = 0; i < SPAN; i++) e[i] = exp32((e[i] - top[i]) * scale);
        if (mode != PLAIN)
            for (int i = 0; i < SPAN; i++) total[i] = total[i] + e[i];
    }
    for (int i = 0; i < SPAN; i++) inverse[i] = mode == PLAIN ? 1.0f : 1.0f / total[i];
}

/* sums (+)= exponentials * inverse, over the classes of SPAN pixels. */
INLINE void add_member(int64_t classes, int64_t n, int first, const float *restrict e,
                       const float *restrict inverse, float *restrict sums) {
    for (int64_t c = 0; c < classes; c++, e += SPAN, sums += n)
        for (int i = 0; i < SPAN; i++)
            sums[i] = first ? e[i] * inverse[i] : sums[i] + e[i] * inverse[i];
}

/* What a group does with one member's exponentials. */
struct step {
    int first, last, opens, keep;
    float share, weight;
};

/* The last member of a group: the mean, kept in `sums` for the caller when asked, goes into the
 * scores with the group's weight. */
INLINE void close_group(int64_t classes, int64_t n, struct step t, const float *restrict e,
                        const float *restrict inverse, float *restrict sums,
                        float *restrict scores) {
    for (int64_t c = 0; c < classes; c++, e += SPAN, sums += n, scores += n)
        for (int i = 0; i < SPAN; i++) {
            float p = e[i] * inverse[i];
            float mean = (t.first ? p : sums[i] + p) * t.share;
            if (t.keep) sums[i] = mean;
            if (t.weight > 0) scores[i] = t.opens ? mean * t.weight : scores[i] + mean * t.weight;
        }
}

INLINE void add(int kind, int mode, struct view v, float scale, struct planes planes, struct step t,
                union scratch *w) {
    float inverse[SPAN];
    if (mode == LOGITS) find_top(kind, v, &planes, w->top);
    for (int64_t s = 0; s < v.n; s += SPAN) {
        exponentials(kind, mode, v, s, &planes, w->top + s, scale, w->exponentials, inverse);
        float *sums = w->sums + s, *scores = w->scores + s;
        if (t.last) close_group(v.classes, v.n, t, w->exponentials, inverse, sums, scores);
        else add_member(v.classes, v.n, t.first, w->exponentials, inverse, sums);
    }
}

/* One model's pixels into its group. */
static void member(const struct average *a, int64_t m, int64_t n, struct step t, union scratch *w) {
    const struct sources *from = a->source;
    struct view v = {w->at.rows[m], w->at.stride[m], from->classes, n};
    struct planes none = {0};
    int64_t kind = from->kind[m];
    float scale = from->scale[m];
    if (kind == HALF) add(HALF, LOGITS, v, scale, none, t, w);
    else if (kind == BFLOAT) add(BFLOAT, LOGITS, v, scale, none, t, w);
    else if (kind == FLOAT) add(FLOAT, LOGITS, v, scale, none, t, w);
    else if (kind == HALF + PROBABILITIES) add(HALF, PLAIN, v, scale, none, t, w);
    else if (kind == BFLOAT + PROBABILITIES) add(BFLOAT, PLAIN, v, scale, none, t, w);
    else if (kind == FLOAT + PROBABILITIES) add(FLOAT, PLAIN, v, scale, none, t, w);
    else if (all_have_zero(v, (uint8_t *)w->top)) add(CODES, TABLE, v, scale, w->planes[m], t, w);
    else add(CODES, LOGITS, v, scale, split(from->gaps), t, w);
}

/* n pixels of channels of one model; `next` is what will be read after them. */
struct run {
    const char *row, *next;
    int64_t n;
    float scale;
};

/* sums (+)= probabilities. */
INLINE void add_channel(int kind, int mode, struct run r, struct planes planes, int first,
                        float *restrict sums) {
    for (int64_t s = 0; s < r.n; s += SPAN) {
        float p[SPAN];
        prefetch(r.next + s * WIDTH[kind], 0, SPAN * WIDTH[kind]);
        load(kind, r.row + s * WIDTH[kind], p, &planes);
        if (mode == SIGMOID)
            for (int i = 0; i < SPAN; i++) p[i] = sigmoid32(p[i], r.scale);
        for (int i = 0; i < SPAN; i++) sums[s + i] = first ? p[i] : sums[s + i] + p[i];
    }
}

/* A function per kind of value, so that a table of codes stays in registers. */
#define CHANNEL(name, kind, mode)                                                         \
    static __attribute__((noinline)) void name(struct run r, const struct planes *planes, \
                                               int first, float *sums) {                  \
        if (first) add_channel(kind, mode, r, *planes, 1, sums);                          \
        else add_channel(kind, mode, r, *planes, 0, sums);                                \
    }
CHANNEL(half_logits, HALF, SIGMOID)
CHANNEL(bfloat_logits, BFLOAT, SIGMOID)
CHANNEL(float_logits, FLOAT, SIGMOID)
CHANNEL(codes, CODES, PLAIN)
CHANNEL(halves, HALF, PLAIN)
CHANNEL(bfloats, BFLOAT, PLAIN)
CHANNEL(floats, FLOAT, PLAIN)

/* The k-th member's pixels of channels into its group. */
static void channel_member(const struct average *a, int64_t k, int64_t n, int first,
                           union scratch *w) {
    static void (*const by_kind[])(struct run, const struct planes *, int, float *) = {
        half_logits, bfloat_logits, float_logits, codes, halves, bfloats, floats};
    int64_t m = a->members[k], turn = k + 1 == a->group_end[a->groups - 1];
    int64_t then = a->members[turn ? 0 : k + 1], on = turn ? n : 0; /* pixels further */
    const char *next = w->at.rows[then] + on * WIDTH[a->source->kind[then] & 3];
    struct run r = {w->at.rows[m], next, n, a->source->scale[m]};
    by_kind[a->source->kind[m]](r, w->planes + m, first, w->sums);
}

/* A group's sums to means; they speak for a channel, what is left to 1 against it. */
static void close_channel(int64_t n, int opens, float share, float weight, float *restrict sums,
                          float *restrict scores, float *restrict opposites) {
    for (int64_t i = 0; i < n; i++) {
        float mean = sums[i] * share, yes = mean * weight, no = (1.0f - mean) * weight;
        sums[i] = mean;
        scores[i] = opens ? yes : scores[i] + yes;
        opposites[i] = opens ? no : opposites[i] + no;
    }
}

/* Labels of `count` scored pixels of channels, at first + i. */
static void decide(const struct average *a, int64_t count, int64_t first, const union scratch *w) {
    for (int64_t i = 0; i < count;) {
        int64_t c = (first + i) / a->channel, left = (c + 1) * a->channel - first;
        int64_t stop = left < count ? left : count;
        const float *restrict scores = w->scores, *restrict opposites = w->opposites;
        uint8_t *restrict to = (uint8_t *)a->labels + first;
        float no = a->multipliers ? a->multipliers[2 * c] : 1.0f; /* times 1 is the same bits */
        float yes = a->multipliers ? a->multipliers[2 * c + 1] : 1.0f;
        for (; i < stop; i++) {
            int bad = scores[i] != scores[i], above = scores[i] * yes > opposites[i] * no;
            to[i] = (uint8_t)(bad ? NARROW_VOID : above);
        }
    }
}

/* All models over a tile of pixels of channels: a `fuse_t`. */
static void fuse_channels(const void *call, int64_t n, int64_t count, int64_t first,
                          void *scratch) {
    const struct average *a = call;
    union scratch *w = scratch;
    int opens = 1;
    for (int64_t g = 0, k = 0; g < a->groups; g++) {
        for (int64_t start = k; k < a->group_end[g]; k++) channel_member(a, k, n, k == start, w);
        if (a->weight[g] > 0) {
            close_channel(n, opens, a->share[g], a->weight[g], w->sums, w->scores, w->opposites);
            opens = 0;
        } else
            for (int64_t i = 0; i < n; i++) w->sums[i] = w->sums[i] * a->share[g];
        if (a->group_means)
            memcpy(a->group_means + g * a->pixels + first, w->sums, count * sizeof(float));
    }
    if (a->labels) decide(a, count, first, w);
    if (a->probabilities) memcpy(a->probabilities + first, w->scores, count * sizeof(float));
}

/* The first `count` of n scored pixels to labels and what else was asked for, at first + i. */
static void finish(const struct average *a, int64_t n, int64_t count, int64_t first,
                   union scratch *w) {
    const float *restrict best = w->top, *restrict second = w->second, *scores = w->scores;
    const int32_t *restrict label = w->label, *restrict bad = w->bad;
    if (a->labels) {
        rank(scores, a->multipliers, a->source->classes, n, w->top, w->second, w->label, w->bad);
        for (int64_t i = 0; i < count; i++)
            put_label(a->labels, first + i, bad[i] ? a->ignore : label[i], a->ignore);
    }
    int ranked = a->confidence || a->margin;
    if (ranked && (!a->labels || a->multipliers))
        rank(scores, NULL, a->source->classes, n, w->top, w->second, w->label, w->bad);
    for (int64_t i = 0; i < count; i++) {
        int64_t to = first + i;
        float sum = 0.0f;
        if (a->confidence) a->confidence[to] = bad[i] ? NAN : best[i];
        if (a->margin)
            a->margin[to] = bad[i] ? NAN : a->source->classes > 1 ? best[i] - second[i] : best[i];
        for (int64_t c = 0; a->entropy && c < a->source->classes; c++) {
            float p = scores[c * n + i];
            sum += p == 0.0f ? 0.0f : p * logf(p);
        }
        if (a->entropy) a->entropy[to] = -sum;
    }
    for (int64_t c = 0; a->probabilities && c < a->source->classes; c++)
        memcpy(a->probabilities + c * a->pixels + first, scores + c * n, count * sizeof(float));
}

/* All models over a tile of pixels: a `fuse_t`. */
static void fuse(const void *call, int64_t n, int64_t count, int64_t first, void *scratch) {
    const struct average *a = call;
    union scratch *w = scratch;
    int opens = 1;
    for (int64_t g = 0, k = 0; g < a->groups; g++) {
        int64_t start = k;
        for (; k < a->group_end[g]; k++) {
            int last = k + 1 == a->group_end[g], keep = a->group_means != NULL;
            struct step t = {k == start, last, opens, keep, a->share[g], a->weight[g]};
            member(a, a->members[k], n, t, w);
        }
        if (a->weight[g] > 0) opens = 0;
        for (int64_t c = 0; a->group_means && c < a->source->classes; c++)
            memcpy(a->group_means + (g * a->source->classes + c) * a->pixels + first,
                   w->sums + c * n, count * sizeof(float));
    }
    if (a->finishes) finish(a, n, count, first, w);
}

#include "decided.h"

static int make_scratch(const struct average *a, union scratch *w) {
    int64_t C = a->source->classes, M = a->source->models, n = a->tile;
    int64_t planes = M * (int64_t)sizeof(struct planes);
    int64_t sizes[PARTS] = {8 * M,     8 * M,           padded_bytes(a->source),
                            planes,    halves_bytes(M), 4 * C * n,
                            4 * C * n, 4 * n,           4 * C * SPAN,
                            4 * n,     4 * n,           4 * n,
                            4 * n};
    if (!reserve(w->parts, sizes, PARTS)) return 0;
    halve_all(a, w->halves);
    for (int64_t m = 0; m < M; m++)
        if (a->source->kind[m] == CODES) w->planes[m] = split(a->source->exponentials + 256 * m);
    return 1;
}

/* Pixels start <= i < stop of row `outer`. 0: no memory. */
EXPORT int fusion_average(const struct average *a, int64_t outer, int64_t start, int64_t stop) {
    union scratch w = {0};
    int ready = make_scratch(a, &w);
    fuse_t *step = a->channel ? fuse_channels : a->cheap && pays(a->source) ? fuse_labels : fuse;
    if (ready) walk(a->source, a->tile, outer, start, stop, &w.at, step, a, &w);
    release_all(w.parts, PARTS);
    return ready;
}
