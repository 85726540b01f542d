/* The average's inner steps, in the order of operations of kernels/arithmetic.py: one float32
 * rounding per operation.
 *
 * M models, G groups, C classes, P pixels. A tile is a run of pixels, a multiple of SPAN, whose
 * scores [C, tile] stay in the second level cache; inside it SPAN pixels at a time have their
 * exponentials [C, SPAN] in the first level. Loops run over pixels, which is what the compiler
 * vectorises; sums over classes stay sequential.
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__F16C__)
#include <immintrin.h>
#endif

#include "kernels.h"

#define SPAN 64

/* Everything that the tiles of one call share; bindings.py holds the mirror. Strides in elements,
 * pixels contiguous. */
struct average {
    int64_t models, groups, classes;
    int64_t pixels; /* outer x inner, the length of every output row */
    int64_t inner, tile;
    const char *const *data;     /* [M] logits [C, outer, inner] */
    const int64_t *class_stride; /* [M] */
    const int64_t *outer_stride; /* [M] */
    const int64_t *kind;         /* [M] */
    const float *scale;          /* [M] 1 / T */
    const float *exponentials;   /* [M, 256] of gap codes whose pixel has a code 0 */
    const float *gaps;           /* [256] decoded gap codes */
    const int64_t *members;      /* group after group */
    const int64_t *group_end;    /* [G] */
    const float *share;          /* [G] 1 / n_g */
    const float *weight;         /* [G] normalised; 0: the group is not looked at */
    const float *multipliers;    /* [C] normalised, for labels alone; or NULL */
    int64_t ignore;
    int64_t finishes;     /* 0: only group means are asked for */
    void *labels;         /* [P] uint8, or uint16 where `ignore` needs it; outputs may be NULL */
    float *probabilities; /* [C, P] */
    float *confidence, *margin, *entropy; /* [P] */
    float *group_means;                   /* [G, C, P] */
};

enum { PARTS = 10 };
union scratch {
    struct {
        char *padded;         /* [M, C, SPAN] raw pixels that do not fill a span */
        float *scores, *sums; /* [C, tile] */
        float *exponentials;  /* [C, SPAN] */
        float *top, *second;  /* [tile] */
        int32_t *label, *bad; /* [tile] */
        const char **rows;    /* [M] first class of the pixels at hand */
        int64_t *stride;      /* [M] bytes between classes */
    };
    void *parts[PARTS];
};

/* n pixels of one model: those of class 0, and the bytes to the next class. */
struct view {
    const char *rows;
    int64_t stride, classes, n;
};

/* Cephes expf by Horner's rule for x <= 0. Adding 1.5 * 2^23 rounds to the nearest integer, ties to
 * even, and leaves it in the low bits. */
INLINE float exp32(float x) {
    float shifted = x * 1.44269504088896341f + 12582912.0f;
    float n = shifted - 12582912.0f;
    float f = x - n * 0.693359375f;
    f = f - n * -2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * f + 1.3981999507e-3f;
    y = y * f + 8.3334519073e-3f;
    y = y * f + 4.1665795894e-2f;
    y = y * f + 1.6666665459e-1f;
    y = y * f + 5.0000001201e-1f;
    y = y * (f * f) + f + 1.0f;
    float power = from_bits((to_bits(shifted) << 23) + 0x3f800000u);
    return x < -87.0f ? 0.0f : y * power;
}

#ifdef __AVX512VBMI__
/* 64 lookups at once: the table's four byte planes sit in registers, permutes pick bytes, unpacking
 * makes floats of them. */
struct planes {
    __m512i part[4][4];
};

INLINE struct planes split(const float *table) {
    struct planes planes;
    uint8_t bytes[4][256];
    for (int q = 0; q < 256; q++)
        for (int b = 0; b < 4; b++) bytes[b][q] = (uint8_t)(to_bits(table[q]) >> (8 * b));
    for (int b = 0; b < 4; b++)
        for (int k = 0; k < 4; k++) planes.part[b][k] = _mm512_loadu_si512(bytes[b] + 64 * k);
    return planes;
}

INLINE void look_up(const struct planes *planes, const uint8_t *codes, float *out) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i q = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(codes)), byte[4];
    __mmask64 high = _mm512_movepi8_mask(q);
    for (int b = 0; b < 4; b++)
        byte[b] = _mm512_mask_blend_epi8(
            high, _mm512_permutex2var_epi8(planes->part[b][0], q, planes->part[b][1]),
            _mm512_permutex2var_epi8(planes->part[b][2], q, planes->part[b][3]));
    __m512i low01 = _mm512_unpacklo_epi8(byte[0], byte[1]);
    __m512i low23 = _mm512_unpacklo_epi8(byte[2], byte[3]);
    __m512i high01 = _mm512_unpackhi_epi8(byte[0], byte[1]);
    __m512i high23 = _mm512_unpackhi_epi8(byte[2], byte[3]);
    _mm512_storeu_si512(out, _mm512_unpacklo_epi16(low01, low23));
    _mm512_storeu_si512(out + 16, _mm512_unpackhi_epi16(low01, low23));
    _mm512_storeu_si512(out + 32, _mm512_unpacklo_epi16(high01, high23));
    _mm512_storeu_si512(out + 48, _mm512_unpackhi_epi16(high01, high23));
}
#else
struct planes {
    const float *table;
};
INLINE struct planes split(const float *table) { return (struct planes){table}; }
INLINE void look_up(const struct planes *planes, const uint8_t *codes, float *out) {
    for (int i = 0; i < SPAN; i++) out[i] = planes->table[codes[i]];
}
#endif

/* SPAN values of one class as float32. */
INLINE void load(int kind, const char *row, float *restrict out, const struct planes *planes) {
    if (kind == FLOAT) memcpy(out, row, SPAN * sizeof(float));
    if (kind == BFLOAT)
        for (int i = 0; i < SPAN; i++) out[i] = from_bfloat(((const uint16_t *)row)[i]);
    if (kind == CODES) look_up(planes, (const uint8_t *)row, out);
    if (kind == HALF) {
#if defined(__AVX512F__)
        for (int i = 0; i < SPAN; i += 16)
            _mm512_storeu_ps(out + i,
                             _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + 2 * i))));
#elif defined(__F16C__)
        for (int i = 0; i < SPAN; i += 8)
            _mm256_storeu_ps(out + i,
                             _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 2 * i))));
#else
        for (int i = 0; i < SPAN; i++) out[i] = from_half(((const uint16_t *)row)[i]);
#endif
    }
}

/* Rows of a tile are short and far apart, so the processor foresees none of them: asks for the row
 * `AHEAD` classes on. Harmless past the end. */
#define AHEAD 6
INLINE void prefetch(const char *row, int64_t stride, int64_t bytes) {
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(row + AHEAD * stride + b);
}

/* top[n] of a model's logits. Rows in full, one after another: the order in which memory is
 * fastest. A NaN shows up in the sums later. */
INLINE void find_top(int kind, struct view v, const struct planes *planes, float *restrict top) {
    float z[SPAN];
    for (int64_t i = 0; i < v.n; i++) top[i] = -INFINITY;
    for (int64_t c = 0; c < v.classes; c++) {
        const char *row = v.rows + c * v.stride;
        prefetch(row, v.stride, v.n * WIDTH[kind]);
        for (int64_t s = 0; s < v.n; s += SPAN) {
            load(kind, row + s * WIDTH[kind], z, planes);
            for (int i = 0; i < SPAN; i++) top[s + i] = z[i] > top[s + i] ? z[i] : top[s + i];
        }
    }
}

/* 1 where every pixel has a code 0: then its top is 0, and the table of exponentials holds. */
static int all_have_zero(struct view v, uint8_t *restrict least) {
    memset(least, 255, v.n);
    for (int64_t c = 0; c < v.classes; c++) {
        const uint8_t *row = (const uint8_t *)v.rows + c * v.stride;
        prefetch((const char *)row, v.stride, v.n);
        for (int64_t i = 0; i < v.n; i++) least[i] = row[i] < least[i] ? row[i] : least[i];
    }
    uint8_t worst = 0;
    for (int64_t i = 0; i < v.n; i++) worst = least[i] > worst ? least[i] : worst;
    return worst == 0;
}

enum { LOGITS, PLAIN, TABLE };

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

INLINE void add(int kind, int mode, struct view v, float scale, const float *table, struct step t,
                union scratch *w) {
    float inverse[SPAN];
    struct planes planes = {0};
    if (kind == CODES) planes = split(table);
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
    struct view v = {w->rows[m], w->stride[m], a->classes, n};
    const float *table = a->exponentials + 256 * m;
    int64_t kind = a->kind[m];
    float scale = a->scale[m];
    if (kind == HALF) add(HALF, LOGITS, v, scale, NULL, t, w);
    else if (kind == BFLOAT) add(BFLOAT, LOGITS, v, scale, NULL, t, w);
    else if (kind == FLOAT) add(FLOAT, LOGITS, v, scale, NULL, t, w);
    else if (kind == HALF + PROBABILITIES) add(HALF, PLAIN, v, scale, NULL, t, w);
    else if (kind == BFLOAT + PROBABILITIES) add(BFLOAT, PLAIN, v, scale, NULL, t, w);
    else if (kind == FLOAT + PROBABILITIES) add(FLOAT, PLAIN, v, scale, NULL, t, w);
    else if (all_have_zero(v, (uint8_t *)w->top)) add(CODES, TABLE, v, scale, table, t, w);
    else add(CODES, LOGITS, v, scale, a->gaps, t, w);
}

/* best, second, label of n pixels from scores [C, n], each class times its factor (NULL: as it is);
 * bad where a score is NaN. */
INLINE void rank(const float *scores, const float *factors, int64_t classes, int64_t n,
                 float *restrict best, float *restrict second, int32_t *restrict label,
                 int32_t *restrict bad) {
    for (int64_t i = 0; i < n; i++) {
        best[i] = factors ? scores[i] * factors[0] : scores[i];
        second[i] = -INFINITY, label[i] = 0, bad[i] = scores[i] != scores[i];
    }
    for (int64_t c = 1; c < classes; c++) {
        const float *restrict row = scores + c * n;
        float factor = factors ? factors[c] : 1.0f; /* times 1 is the same bits */
        for (int64_t i = 0; i < n; i++) {
            float score = row[i] * factor;
            float lower = score > best[i] ? best[i] : score;
            second[i] = lower > second[i] ? lower : second[i];
            label[i] = score > best[i] ? (int32_t)c : label[i];
            best[i] = score > best[i] ? score : best[i];
            bad[i] |= score != score;
        }
    }
}

/* The first `count` of n scored pixels to labels and what else was asked for, at first + i. */
static void finish(const struct average *a, int64_t n, int64_t count, int64_t first,
                   union scratch *w) {
    const float *restrict best = w->top, *restrict second = w->second, *scores = w->scores;
    const int32_t *restrict label = w->label, *restrict bad = w->bad;
    if (a->labels) {
        rank(scores, a->multipliers, a->classes, n, w->top, w->second, w->label, w->bad);
        for (int64_t i = 0; i < count; i++)
            put_label(a->labels, first + i, bad[i] ? a->ignore : label[i], a->ignore);
    }
    int ranked = a->confidence || a->margin;
    if (ranked && (!a->labels || a->multipliers))
        rank(scores, NULL, a->classes, n, w->top, w->second, w->label, w->bad);
    for (int64_t i = 0; i < count; i++) {
        int64_t to = first + i;
        float sum = 0.0f;
        if (a->confidence) a->confidence[to] = bad[i] ? NAN : best[i];
        if (a->margin)
            a->margin[to] = bad[i] ? NAN : a->classes > 1 ? best[i] - second[i] : best[i];
        for (int64_t c = 0; a->entropy && c < a->classes; c++) {
            float p = scores[c * n + i];
            sum += p == 0.0f ? 0.0f : p * logf(p);
        }
        if (a->entropy) a->entropy[to] = -sum;
    }
    for (int64_t c = 0; a->probabilities && c < a->classes; c++)
        memcpy(a->probabilities + c * a->pixels + first, scores + c * n, count * sizeof(float));
}

/* All models over n pixels (a multiple of SPAN) whose rows are in w->rows; the first `count` of
 * them are wanted. */
static void fuse(const struct average *a, int64_t n, int64_t count, int64_t first,
                 union scratch *w) {
    int opens = 1;
    for (int64_t g = 0, k = 0; g < a->groups; g++) {
        int64_t start = k;
        for (; k < a->group_end[g]; k++) {
            int last = k + 1 == a->group_end[g], keep = a->group_means != NULL;
            struct step t = {k == start, last, opens, keep, a->share[g], a->weight[g]};
            member(a, a->members[k], n, t, w);
        }
        if (a->weight[g] > 0) opens = 0;
        for (int64_t c = 0; a->group_means && c < a->classes; c++)
            memcpy(a->group_means + (g * a->classes + c) * a->pixels + first, w->sums + c * n,
                   count * sizeof(float));
    }
    if (a->finishes) finish(a, n, count, first, w);
}

/* Fewer than SPAN pixels: copies them side by side, padded with the last one, so that no row is
 * read past its end. */
static void fuse_rest(const struct average *a, int64_t count, int64_t first, union scratch *w) {
    char *to = w->padded;
    for (int64_t m = 0; m < a->models; m++) {
        int64_t width = WIDTH[a->kind[m] & 3];
        const char *row = w->rows[m];
        w->rows[m] = to;
        for (int64_t c = 0; c < a->classes; c++, row += w->stride[m], to += SPAN * width) {
            memcpy(to, row, count * width);
            for (int64_t i = count; i < SPAN; i++)
                memcpy(to + i * width, row + (count - 1) * width, width);
        }
        w->stride[m] = SPAN * width;
    }
    fuse(a, SPAN, count, first, w);
}

static int make_scratch(const struct average *a, union scratch *w) {
    int64_t C = a->classes, n = a->tile, M = a->models, raw = 0, ready = 1;
    for (int64_t m = 0; m < M; m++) raw += WIDTH[a->kind[m] & 3] * C * SPAN;
    int64_t sizes[PARTS] = {raw,   4 * C * n, 4 * C * n, 4 * C * SPAN, 4 * n,
                            4 * n, 4 * n,     4 * n,     8 * M,        8 * M};
    for (int k = 0; k < PARTS; k++)
        ready &= (w->parts[k] = aligned_alloc(64, (size_t)(sizes[k] + 127) / 64 * 64)) != NULL;
    return (int)ready;
}

/* Pixels start <= i < stop of row `outer`. 0: no memory. */
int fusion_average(const struct average *a, int64_t outer, int64_t start, int64_t stop) {
    union scratch w = {0};
    int ready = make_scratch(a, &w);
    for (int64_t s = start; ready && s < stop;) {
        int64_t most = stop - s < a->tile ? stop - s : a->tile;
        int64_t n = most / SPAN * SPAN; /* 0: less than a span is left over */
        for (int64_t m = 0; m < a->models; m++) {
            w.rows[m] = a->data[m] + (outer * a->outer_stride[m] + s) * WIDTH[a->kind[m] & 3];
            w.stride[m] = a->class_stride[m] * WIDTH[a->kind[m] & 3];
        }
        if (n) fuse(a, n, n, outer * a->inner + s, &w);
        else fuse_rest(a, stop - s, outer * a->inner + s, &w);
        s += n ? n : stop - s;
    }
    for (int k = 0; k < PARTS; k++) free(w.parts[k]);
    return ready;
}
