/* Inner steps of kernels/cpu.py, in the order of operations of kernels/reference.py: one float32 rounding per operation.
 *
 * M models, G groups, C classes, P pixels. A tile is a run of pixels, a multiple of LANES, whose scores [C, tile] stay in the second
 * level cache; inside it LANES pixels at a time have their exponentials [C, LANES] in the first level. Loops run over pixels, which
 * is what the compiler vectorises; sums over classes stay sequential.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__F16C__)
#include <immintrin.h>
#endif

#define LANES 64
#define INLINE static inline __attribute__((always_inline))

enum { FLOAT, HALF, BFLOAT, CODES };
static const int64_t WIDTH[] = {4, 2, 2, 1};

/* Everything that the tiles of one call share; kernels/cpu.py holds the mirror. Strides in elements, pixels contiguous. */
struct average {
    int64_t models, groups, classes, pixels; /* pixels: outer x inner, the length of every output row */
    int64_t inner, tile;
    const char *const *data;       /* [M] logits [C, outer, inner] */
    const int64_t *class_stride;   /* [M] */
    const int64_t *outer_stride;   /* [M] */
    const int32_t *kind;           /* [M] */
    const int32_t *plain;          /* [M] 1: already probabilities, no softmax */
    const float *scale;            /* [M] 1 / T */
    const float *exponentials;     /* [M, 256] of gap codes whose pixel has a code 0 */
    const float *gaps;             /* [256] decoded gap codes */
    const int64_t *members;        /* group after group */
    const int64_t *group_end;      /* [G] */
    const float *share;            /* [G] 1 / n_g */
    const float *weight;           /* [G] normalised; 0: the group is not looked at */
    int64_t ignore;
    int64_t finishes;              /* 0: only group means are asked for */
    uint8_t *labels;               /* [P] and the rest: NULL where not asked for */
    uint16_t *wide_labels;
    float *probabilities;          /* [C, P] */
    float *confidence, *margin, *entropy; /* [P] */
    float *means;                  /* [G, C, P] */
};

struct scratch {
    char *padded;              /* [M, C, LANES] raw pixels that do not fill a vector */
    float *scores, *sums;      /* [C, tile] */
    float *exponentials;       /* [C, LANES] */
    float *top, *second;       /* [tile] */
    int32_t *label, *bad;      /* [tile] */
    const char **rows;         /* [M] first class of the pixels at hand */
    int64_t *stride;           /* [M] bytes between classes */
};

/* Cephes expf by Horner's rule for x <= 0. Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits. */
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
    union { float value; uint32_t bits; } from = {shifted}, power;
    power.bits = (from.bits << 23) + 0x3f800000u;
    return x < -87.0f ? 0.0f : y * power.value;
}

INLINE float from_bits(uint32_t bits) {
    union { uint32_t bits; float value; } both = {bits};
    return both.value;
}

/* Exact for every half, subnormal, infinite and NaN alike: two roads, one picked (Maratyszcza, FP16). */
INLINE float from_half(uint16_t half) {
    uint32_t shifted = (uint32_t)half << 16, doubled = shifted + shifted;
    float normal = from_bits((doubled >> 4) + (0xe0u << 23)) * 0x1p-112f;
    float small = from_bits((doubled >> 17) | (126u << 23)) - 0.5f;
    union { float value; uint32_t bits; } chosen = {doubled < (1u << 27) ? small : normal};
    return from_bits(chosen.bits | (shifted & 0x80000000u));
}

#ifdef __AVX512VBMI__
/* 64 lookups at once: the table's four byte planes sit in registers, permutes pick bytes, unpacking makes floats of them. */
struct planes { __m512i part[4][4]; };

INLINE struct planes split(const float *table) {
    struct planes planes;
    uint8_t bytes[4][256];
    for (int q = 0; q < 256; q++) {
        uint32_t bits;
        memcpy(&bits, table + q, 4);
        for (int b = 0; b < 4; b++) bytes[b][q] = (uint8_t)(bits >> (8 * b));
    }
    for (int b = 0; b < 4; b++)
        for (int k = 0; k < 4; k++) planes.part[b][k] = _mm512_loadu_si512(bytes[b] + 64 * k);
    return planes;
}

INLINE void look_up(const struct planes *planes, const uint8_t *codes, float *out) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i q = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(codes)), byte[4];
    __mmask64 high = _mm512_movepi8_mask(q);
    for (int b = 0; b < 4; b++)
        byte[b] = _mm512_mask_blend_epi8(high, _mm512_permutex2var_epi8(planes->part[b][0], q, planes->part[b][1]),
                                         _mm512_permutex2var_epi8(planes->part[b][2], q, planes->part[b][3]));
    __m512i low01 = _mm512_unpacklo_epi8(byte[0], byte[1]), high01 = _mm512_unpackhi_epi8(byte[0], byte[1]);
    __m512i low23 = _mm512_unpacklo_epi8(byte[2], byte[3]), high23 = _mm512_unpackhi_epi8(byte[2], byte[3]);
    _mm512_storeu_si512(out, _mm512_unpacklo_epi16(low01, low23));
    _mm512_storeu_si512(out + 16, _mm512_unpackhi_epi16(low01, low23));
    _mm512_storeu_si512(out + 32, _mm512_unpacklo_epi16(high01, high23));
    _mm512_storeu_si512(out + 48, _mm512_unpackhi_epi16(high01, high23));
}
#else
struct planes { const float *table; };
INLINE struct planes split(const float *table) { return (struct planes){table}; }
INLINE void look_up(const struct planes *planes, const uint8_t *codes, float *out) {
    for (int i = 0; i < LANES; i++) out[i] = planes->table[codes[i]];
}
#endif

/* LANES values of one class as float32. */
INLINE void load(int kind, const char *row, float *restrict out, const struct planes *planes) {
    if (kind == FLOAT) memcpy(out, row, LANES * sizeof(float));
    if (kind == BFLOAT)
        for (int i = 0; i < LANES; i++) out[i] = from_bits((uint32_t)((const uint16_t *)row)[i] << 16);
    if (kind == CODES) look_up(planes, (const uint8_t *)row, out);
    if (kind == HALF) {
#if defined(__AVX512F__)
        for (int i = 0; i < LANES; i += 16) _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + 2 * i))));
#elif defined(__F16C__)
        for (int i = 0; i < LANES; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 2 * i))));
#else
        for (int i = 0; i < LANES; i++) out[i] = from_half(((const uint16_t *)row)[i]);
#endif
    }
}

/* Rows of a tile are short and far apart, so the processor foresees none of them: asks for the row `AHEAD` classes on. Harmless past the end. */
#define AHEAD 6
INLINE void foresee(const char *row, int64_t stride, int64_t bytes) {
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(row + AHEAD * stride + b);
}

/* top[n] of a model's logits. Rows in full, one after another: the order in which memory is fastest. A NaN shows up in the sums later. */
INLINE void find_top(int kind, const char *rows, int64_t stride, int64_t classes, int64_t n, const struct planes *planes, float *restrict top) {
    float z[LANES];
    for (int64_t i = 0; i < n; i++) top[i] = -INFINITY;
    for (int64_t c = 0; c < classes; c++) {
        foresee(rows + c * stride, stride, n * WIDTH[kind]);
        for (int64_t s = 0; s < n; s += LANES) {
            load(kind, rows + c * stride + s * WIDTH[kind], z, planes);
            for (int i = 0; i < LANES; i++) top[s + i] = z[i] > top[s + i] ? z[i] : top[s + i];
        }
    }
}

/* 1 where every pixel has a code 0, so that the top logit is 0 and the table of exponentials holds. */
static int all_have_zero(const char *rows, int64_t stride, int64_t classes, int64_t n, uint8_t *restrict least) {
    memset(least, 255, n);
    for (int64_t c = 0; c < classes; c++) {
        const uint8_t *row = (const uint8_t *)rows + c * stride;
        foresee((const char *)row, stride, n);
        for (int64_t i = 0; i < n; i++) least[i] = row[i] < least[i] ? row[i] : least[i];
    }
    uint8_t worst = 0;
    for (int64_t i = 0; i < n; i++) worst = least[i] > worst ? least[i] : worst;
    return worst == 0;
}

enum { LOGITS, PLAIN, TABLE };

/* Exponentials [C, LANES] and their reciprocal sums; values themselves and ones where they are probabilities already. */
INLINE void exponentials(int kind, int mode, const char *rows, int64_t stride, int64_t classes, const struct planes *planes,
                         const float *restrict top, float scale, float *restrict out, float *restrict inverse) {
    float total[LANES] = {0};
    for (int64_t c = 0; c < classes; c++) {
        float *restrict e = out + c * LANES;
        load(kind, rows + c * stride, e, planes);
        if (mode == LOGITS)
            for (int i = 0; i < LANES; i++) e[i] = exp32((e[i] - top[i]) * scale);
        if (mode != PLAIN)
            for (int i = 0; i < LANES; i++) total[i] = total[i] + e[i];
    }
    for (int i = 0; i < LANES; i++) inverse[i] = mode == PLAIN ? 1.0f : 1.0f / total[i];
}

/* sums (+)= exponentials * inverse, over the classes of LANES pixels. */
INLINE void add_member(int64_t classes, int64_t n, int first, const float *restrict e, const float *restrict inverse, float *restrict sums) {
    for (int64_t c = 0; c < classes; c++, e += LANES, sums += n)
        for (int i = 0; i < LANES; i++) sums[i] = first ? e[i] * inverse[i] : sums[i] + e[i] * inverse[i];
}

/* The last member of a group: the mean, kept in `sums` for the caller when asked, goes into the scores with the group's weight. */
INLINE void close_group(int64_t classes, int64_t n, int alone, int opens, int keep, float share, float weight, const float *restrict e,
                        const float *restrict inverse, float *restrict sums, float *restrict scores) {
    for (int64_t c = 0; c < classes; c++, e += LANES, sums += n, scores += n)
        for (int i = 0; i < LANES; i++) {
            float p = e[i] * inverse[i];
            float mean = (alone ? p : sums[i] + p) * share;
            if (keep) sums[i] = mean;
            scores[i] = opens ? mean * weight : scores[i] + mean * weight;
        }
}

/* What a group does with one member's exponentials. */
struct step { int first, last, opens, keep; float share, weight; };

INLINE void accumulate(int64_t classes, int64_t n, const struct step *t, const float *e, const float *inverse, float *sums, float *scores) {
    if (!t->last && t->first) add_member(classes, n, 1, e, inverse, sums);
    else if (!t->last) add_member(classes, n, 0, e, inverse, sums);
    else if (t->keep || !(t->weight > 0)) {
        float ignored[LANES]; /* a group of weight 0 whose mean is asked for: its scores go nowhere */
        if (t->weight > 0) close_group(classes, n, t->first, t->opens, 1, t->share, t->weight, e, inverse, sums, scores);
        else for (int64_t c = 0; c < classes; c++) close_group(1, n, t->first, 1, 1, t->share, 0, e + c * LANES, inverse, sums + c * n, ignored);
    } else if (t->first && t->opens) close_group(classes, n, 1, 1, 0, t->share, t->weight, e, inverse, sums, scores);
    else if (t->first) close_group(classes, n, 1, 0, 0, t->share, t->weight, e, inverse, sums, scores);
    else if (t->opens) close_group(classes, n, 0, 1, 0, t->share, t->weight, e, inverse, sums, scores);
    else close_group(classes, n, 0, 0, 0, t->share, t->weight, e, inverse, sums, scores);
}

INLINE void member_of_kind(int kind, int mode, const char *rows, int64_t stride, int64_t classes, int64_t n, float scale,
                           const float *table, const struct step *t, struct scratch *w) {
    float inverse[LANES];
    struct planes planes = {0};
    if (kind == CODES) planes = split(table);
    if (mode == LOGITS) find_top(kind, rows, stride, classes, n, &planes, w->top);
    for (int64_t s = 0; s < n; s += LANES) {
        exponentials(kind, mode, rows + s * WIDTH[kind], stride, classes, &planes, w->top + s, scale, w->exponentials, inverse);
        accumulate(classes, n, t, w->exponentials, inverse, w->sums + s, w->scores + s);
    }
}

/* One model's pixels into its group. `rows`: class 0, `stride` bytes to the next class. */
static void member(const struct average *a, int64_t m, const char *rows, int64_t stride, int64_t n, const struct step *t, struct scratch *w) {
    int64_t C = a->classes;
    float scale = a->scale[m];
    switch (a->kind[m] * 2 + a->plain[m]) {
        case FLOAT * 2: member_of_kind(FLOAT, LOGITS, rows, stride, C, n, scale, NULL, t, w); break;
        case HALF * 2: member_of_kind(HALF, LOGITS, rows, stride, C, n, scale, NULL, t, w); break;
        case BFLOAT * 2: member_of_kind(BFLOAT, LOGITS, rows, stride, C, n, scale, NULL, t, w); break;
        case FLOAT * 2 + 1: member_of_kind(FLOAT, PLAIN, rows, stride, C, n, scale, NULL, t, w); break;
        case HALF * 2 + 1: member_of_kind(HALF, PLAIN, rows, stride, C, n, scale, NULL, t, w); break;
        case BFLOAT * 2 + 1: member_of_kind(BFLOAT, PLAIN, rows, stride, C, n, scale, NULL, t, w); break;
        default:
            if (all_have_zero(rows, stride, C, n, (uint8_t *)w->top)) member_of_kind(CODES, TABLE, rows, stride, C, n, scale, a->exponentials + 256 * m, t, w);
            else member_of_kind(CODES, LOGITS, rows, stride, C, n, scale, a->gaps, t, w);
    }
}

/* The first `count` of n scored pixels to labels and what else was asked for, at first + i. */
static void finish(const struct average *a, int64_t n, int64_t count, int64_t first, struct scratch *w) {
    float *restrict best = w->top, *restrict second = w->second;
    int32_t *restrict label = w->label, *restrict bad = w->bad;
    for (int64_t i = 0; i < n; i++) best[i] = w->scores[i], second[i] = -INFINITY, label[i] = 0, bad[i] = best[i] != best[i];
    for (int64_t c = 1; c < a->classes; c++) {
        const float *restrict row = w->scores + c * n;
        for (int64_t i = 0; i < n; i++) {
            float lower = row[i] > best[i] ? best[i] : row[i];
            second[i] = lower > second[i] ? lower : second[i];
            label[i] = row[i] > best[i] ? (int32_t)c : label[i];
            best[i] = row[i] > best[i] ? row[i] : best[i];
            bad[i] |= row[i] != row[i];
        }
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t to = first + i;
        float sum = 0.0f;
        if (a->labels) a->labels[to] = (uint8_t)(bad[i] ? a->ignore : label[i]);
        if (a->wide_labels) a->wide_labels[to] = (uint16_t)(bad[i] ? a->ignore : label[i]);
        if (a->confidence) a->confidence[to] = bad[i] ? NAN : best[i];
        if (a->margin) a->margin[to] = bad[i] ? NAN : a->classes > 1 ? best[i] - second[i] : best[i];
        for (int64_t c = 0; a->entropy && c < a->classes; c++) {
            float p = w->scores[c * n + i];
            sum += p == 0.0f ? 0.0f : p * logf(p);
        }
        if (a->entropy) a->entropy[to] = -sum;
    }
    for (int64_t c = 0; a->probabilities && c < a->classes; c++)
        memcpy(a->probabilities + c * a->pixels + first, w->scores + c * n, count * sizeof(float));
}

/* All models over n pixels (a multiple of LANES) whose rows are in w->rows; the first `count` of them are wanted. */
static void fuse(const struct average *a, int64_t n, int64_t count, int64_t first, struct scratch *w) {
    int opens = 1;
    for (int64_t g = 0, k = 0; g < a->groups; g++) {
        int64_t start = k;
        for (; k < a->group_end[g]; k++) {
            int64_t m = a->members[k];
            struct step t = {k == start, k + 1 == a->group_end[g], opens, a->means != NULL, a->share[g], a->weight[g]};
            member(a, m, w->rows[m], w->stride[m], n, &t, w);
        }
        if (a->weight[g] > 0) opens = 0;
        for (int64_t c = 0; a->means && c < a->classes; c++)
            memcpy(a->means + (g * a->classes + c) * a->pixels + first, w->sums + c * n, count * sizeof(float));
    }
    if (a->finishes) finish(a, n, count, first, w);
}

/* Fewer than LANES pixels: copies them side by side, padded with the last one, so that no row is read past its end. */
static void fuse_rest(const struct average *a, int64_t count, int64_t first, struct scratch *w) {
    char *to = w->padded;
    for (int64_t m = 0; m < a->models; m++) {
        int64_t width = WIDTH[a->kind[m]];
        const char *row = w->rows[m];
        w->rows[m] = to;
        for (int64_t c = 0; c < a->classes; c++, row += w->stride[m], to += LANES * width) {
            memcpy(to, row, count * width);
            for (int64_t i = count; i < LANES; i++) memcpy(to + i * width, row + (count - 1) * width, width);
        }
        w->stride[m] = LANES * width;
    }
    fuse(a, LANES, count, first, w);
}

static void free_scratch(struct scratch *w) {
    void *parts[] = {w->padded, w->scores, w->sums, w->exponentials, w->top, w->second, w->label, w->bad, w->rows, w->stride};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) free(parts[k]);
}

static void *room(int64_t bytes) { return aligned_alloc(64, (size_t)(bytes + 127) / 64 * 64); }

static int make_scratch(const struct average *a, struct scratch *w) {
    int64_t C = a->classes, n = a->tile, bytes = 0;
    for (int64_t m = 0; m < a->models; m++) bytes += WIDTH[a->kind[m]] * C * LANES;
    *w = (struct scratch){room(bytes), room(4 * C * n), room(4 * C * n), room(4 * C * LANES), room(4 * n), room(4 * n), room(4 * n), room(4 * n),
                          room(8 * a->models), room(8 * a->models)};
    return w->padded && w->scores && w->sums && w->exponentials && w->top && w->second && w->label && w->bad &&
           w->rows && w->stride;
}

/* Pixels start <= i < stop of row `outer`. 0: no memory. */
int fusion_average(const struct average *a, int64_t outer, int64_t start, int64_t stop) {
    struct scratch w = {0};
    int ready = make_scratch(a, &w);
    for (int64_t s = start; ready && s < stop;) {
        int64_t n = (stop - s < a->tile ? stop - s : a->tile) / LANES * LANES; /* 0: less than a vector is left over */
        for (int64_t m = 0; m < a->models; m++) {
            w.rows[m] = a->data[m] + (outer * a->outer_stride[m] + s) * WIDTH[a->kind[m]];
            w.stride[m] = a->class_stride[m] * WIDTH[a->kind[m]];
        }
        if (n) fuse(a, n, n, outer * a->inner + s, &w);
        else fuse_rest(a, stop - s, outer * a->inner + s, &w);
        s += n ? n : stop - s;
    }
    free_scratch(&w);
    return ready;
}

/* counts [C, C] += pairs (target, label); 0 if a counted pair is out of range. */
#define CONFUSION(name, type)                                                                                                       \
    int name(const type *targets, const type *labels, int64_t n, int64_t classes, int64_t ignore, int64_t *counts) {               \
        int sound = 1;                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                                           \
            int64_t target = (int64_t)targets[i], label = (int64_t)labels[i];                                                       \
            if (target == ignore) continue;                                                                                         \
            if ((uint64_t)target < (uint64_t)classes && (uint64_t)label < (uint64_t)classes) counts[target * classes + label]++;    \
            else sound = 0;                                                                                                         \
        }                                                                                                                           \
        return sound;                                                                                                               \
    }
CONFUSION(fusion_confusion_bytes, uint8_t)
CONFUSION(fusion_confusion, int64_t)

/* n values of one class as float32. Called through memory, not inlined: for rows of maps that are about to be interpolated. */
void fusion_decode(int64_t kind, const char *row, int64_t n, const float *gaps, float *restrict out) {
    for (int64_t i = 0; i < n; i++) {
        if (kind == FLOAT) out[i] = ((const float *)row)[i];
        if (kind == BFLOAT) out[i] = from_bits((uint32_t)((const uint16_t *)row)[i] << 16);
        if (kind == HALF) out[i] = from_half(((const uint16_t *)row)[i]);
        if (kind == CODES) out[i] = gaps[((const uint8_t *)row)[i]];
    }
}
