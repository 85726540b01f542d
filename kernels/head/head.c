/* The head's inner steps, in the order of operations of kernels/arithmetic.py: one float32 rounding
 * per operation.
 *
 * M models, C classes, P pixels. The scores [C, tile] of a tile stay in the second level cache, the
 * logarithms [C, SPAN] of a span in the first. Mixing is a product of matrices whose sums run over
 * k in order: ROWS scores of a block of pixels stay in registers meanwhile.
 */

#include "softmax.h"

/* Pixels of a vector register, and registers of a block: with ROWS scores they fill half of all. */
#if defined(__AVX512F__)
enum { LANE = 16, LANES_WIDE = 4 };
#elif defined(__AVX__)
enum { LANE = 8, LANES_WIDE = 2 };
#else
enum { LANE = 4, LANES_WIDE = 2 };
#endif
enum { ROWS = 4 }; /* as in cpu.py */
typedef float lane __attribute__((vector_size(4 * LANE), may_alias));

/* Everything that the tiles of one call share; bindings.py holds the mirror. */
struct head {
    const struct sources *source;
    int64_t pixels; /* outer x inner, the length of every output row */
    int64_t tile, mixes, ignore;
    float floor, least;   /* of logarithms, and of what they are taken of */
    const float *mixing;  /* [M, C], or [M, blocks of ROWS classes, C, ROWS] padded with zeros */
    const float *bias;    /* [C] */
    const float *scaled;  /* [M, 256] of gap codes whose pixel has a code 0: gaps / T */
    void *labels;         /* [P] uint8, or uint16 where `ignore` needs it; outputs may be NULL */
    float *probabilities; /* [C, P] */
    float *scores;        /* [C, P] */
};

enum { PARTS = 9 };
union scratch {
    struct {
        struct places at;
        float *scores;        /* [C padded to ROWS, tile] */
        float *logs;          /* [C, SPAN] */
        float *top, *second;  /* [tile] */
        int32_t *label, *bad; /* [tile] */
    };
    void *parts[PARTS];
};

/* What a span of one model's pixels goes through. */
struct step {
    const float *mixing;
    int mixes;
    float scale, floor, least;
    const float *exponentials, *values; /* tables of gap codes */
};

/* Logarithms of the sums of exponentials; the exponents themselves [C, SPAN] where they are no
 * look-up. */
INLINE void log_sums(int kind, int mode, struct view v, int64_t first, const struct planes *planes,
                     const float *restrict top, float scale, float *restrict exponents,
                     float *restrict logs) {
    float total[SPAN] = {0};
    for (int64_t c = 0; c < v.classes; c++) {
        float e[SPAN], *restrict x = mode == TABLE ? e : exponents + c * SPAN;
        load(kind, v.rows + c * v.stride + first * WIDTH[kind], x, planes);
        if (mode == LOGITS)
            for (int i = 0; i < SPAN; i++) x[i] = (x[i] - top[i]) * scale;
        for (int i = 0; i < SPAN; i++) total[i] += mode == TABLE ? x[i] : exp32(x[i]);
    }
    for (int i = 0; i < SPAN; i++) logs[i] = log32(total[i]);
}

/* l of one class; x holds its exponents already, or gets its values. */
INLINE void log_probabilities(int kind, int mode, const char *row, const struct planes *planes,
                              const float *logs, float floor, float least, float *x) {
    if (mode != LOGITS) load(kind, row, x, planes);
    for (int i = 0; i < SPAN; i++) {
        float l = mode == PLAIN ? log32(x[i] < least ? least : x[i]) : x[i] - logs[i];
        x[i] = mode != PLAIN && l < floor ? floor : l;
    }
}

/* scores [C, SPAN] of a tile n wide += mixing x l [C, SPAN]. */
static void multiply(const float *mixing, const float *l, int64_t classes, int64_t n,
                     float *scores) {
    for (int64_t c = 0; c < classes; c += ROWS, mixing += classes * ROWS)
        for (int s = 0; s < SPAN; s += LANE * LANES_WIDE) {
            lane sums[ROWS][LANES_WIDE];
            for (int r = 0; r < ROWS; r++)
                for (int j = 0; j < LANES_WIDE; j++)
                    sums[r][j] = *(const lane *)(scores + (c + r) * n + s + j * LANE);
            for (int64_t k = 0; k < classes; k++) {
                const float *w = mixing + k * ROWS, *x = l + k * SPAN + s;
                for (int r = 0; r < ROWS; r++)
                    for (int j = 0; j < LANES_WIDE; j++)
                        sums[r][j] += w[r] * *(const lane *)(x + j * LANE);
            }
            for (int r = 0; r < ROWS; r++)
                for (int j = 0; j < LANES_WIDE; j++)
                    *(lane *)(scores + (c + r) * n + s + j * LANE) = sums[r][j];
        }
}

INLINE void add(int kind, int mode, struct view v, struct step t, union scratch *w) {
    float logs[SPAN];
    struct planes exponentials = {0}, values = {0};
    if (kind == CODES) values = split(t.values);
    if (mode == TABLE) exponentials = split(t.exponentials);
    if (mode == LOGITS) find_top(kind, v, &values, w->top);
    for (int64_t s = 0; s < v.n; s += SPAN) {
        if (mode != PLAIN)
            log_sums(kind, mode, v, s, mode == TABLE ? &exponentials : &values, w->top + s, t.scale,
                     w->logs, logs);
        const char *row = v.rows + s * WIDTH[kind];
        float *kept = w->logs, *restrict score = w->scores + s, l[SPAN];
        for (int64_t c = 0; c < v.classes; c++, row += v.stride, kept += SPAN, score += v.n) {
            if (t.mixes) {
                log_probabilities(kind, mode, row, &values, logs, t.floor, t.least, kept);
                continue;
            }
            float *x = mode == LOGITS ? kept : l; /* what is needed once stays in registers */
            log_probabilities(kind, mode, row, &values, logs, t.floor, t.least, x);
            for (int i = 0; i < SPAN; i++) score[i] = score[i] + t.mixing[c] * x[i];
        }
        if (t.mixes) multiply(t.mixing, w->logs, v.classes, v.n, w->scores + s);
    }
}

/* One model's pixels into the scores. */
static void member(const struct head *h, int64_t m, int64_t n, union scratch *w) {
    const struct sources *from = h->source;
    int64_t kind = from->kind[m], C = from->classes;
    int64_t block = h->mixes ? (C + ROWS - 1) / ROWS * ROWS * C : C;
    struct view v = {w->at.rows[m], w->at.stride[m], C, n};
    struct step t = {
        h->mixing + m * block,        (int)h->mixes,      from->scale[m], h->floor, h->least,
        from->exponentials + 256 * m, h->scaled + 256 * m};
    if (kind == HALF) add(HALF, LOGITS, v, t, w);
    else if (kind == BFLOAT) add(BFLOAT, LOGITS, v, t, w);
    else if (kind == FLOAT) add(FLOAT, LOGITS, v, t, w);
    else if (kind == HALF + PROBABILITIES) add(HALF, PLAIN, v, t, w);
    else if (kind == BFLOAT + PROBABILITIES) add(BFLOAT, PLAIN, v, t, w);
    else if (kind == FLOAT + PROBABILITIES) add(FLOAT, PLAIN, v, t, w);
    else if (all_have_zero(v, (uint8_t *)w->top)) add(CODES, TABLE, v, t, w);
    else {
        t.values = from->gaps;
        add(CODES, LOGITS, v, t, w);
    }
}

/* The first `count` of n scored pixels to what was asked for, at first + i. */
static void finish(const struct head *h, int64_t n, int64_t count, int64_t first,
                   union scratch *w) {
    int64_t classes = h->source->classes;
    float *restrict total = w->second;
    if (h->labels || h->probabilities)
        rank(w->scores, NULL, classes, n, w->top, w->second, w->label, w->bad);
    for (int64_t i = 0; h->labels && i < count; i++)
        put_label(h->labels, first + i, w->bad[i] ? h->ignore : w->label[i], h->ignore);
    for (int64_t c = 0; h->scores && c < classes; c++)
        memcpy(h->scores + c * h->pixels + first, w->scores + c * n, count * sizeof(float));
    if (!h->probabilities) return;
    memset(total, 0, n * sizeof(float));
    for (int64_t c = 0; c < classes; c++) {
        float *restrict e = w->scores + c * n;
        const float *restrict top = w->top;
        for (int64_t i = 0; i < n; i++) e[i] = exp32(e[i] - top[i]), total[i] += e[i];
    }
    for (int64_t i = 0; i < n; i++) total[i] = 1.0f / total[i];
    for (int64_t c = 0; c < classes; c++) {
        const float *restrict e = w->scores + c * n;
        float *restrict to = h->probabilities + c * h->pixels + first;
        for (int64_t i = 0; i < count; i++) to[i] = e[i] * total[i];
    }
}

/* All models over a tile of pixels: a `fuse_t`. */
static void fuse(const void *call, int64_t n, int64_t count, int64_t first, void *scratch) {
    const struct head *h = call;
    union scratch *w = scratch;
    int64_t classes = h->source->classes;
    for (int64_t c = 0; c < classes + ROWS - 1; c++)
        for (int64_t i = 0; i < n; i++) w->scores[c * n + i] = c < classes ? h->bias[c] : 0.0f;
    for (int64_t m = 0; m < h->source->models; m++) member(h, m, n, w);
    finish(h, n, count, first, w);
}

static int make_scratch(const struct head *h, union scratch *w) {
    int64_t C = h->source->classes, M = h->source->models, n = h->tile;
    int64_t sizes[PARTS] = {
        8 * M, 8 * M, padded_bytes(h->source), 4 * (C + ROWS) * n, 4 * C * SPAN, 4 * n, 4 * n,
        4 * n, 4 * n};
    return reserve(w->parts, sizes, PARTS);
}

/* Pixels start <= i < stop of row `outer`. 0: no memory. */
EXPORT int fusion_head(const struct head *h, int64_t outer, int64_t start, int64_t stop) {
    union scratch w = {0};
    int ready = make_scratch(h, &w);
    if (ready) walk(h->source, h->tile, outer, start, stop, &w.at, fuse, h, &w);
    release_all(w.parts, PARTS);
    return ready;
}
