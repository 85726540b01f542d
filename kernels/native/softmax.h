/* Log-softmax, softmax and what surrounds them, for the loops over maps of many models, in the
 * order of operations of kernels/arithmetic.py: one float32 rounding per operation.
 *
 * M models, C classes. A tile is a run of pixels, a multiple of SPAN; inside it SPAN pixels at a
 * time have their values [C, SPAN] in the first level cache. Loops run over pixels, which is what
 * the compiler vectorises; sums over classes stay sequential.
 */
#pragma once

#include <math.h>

#if defined(__AVX512F__) || defined(__F16C__)
#include <immintrin.h>
#endif

#include "kernels.h"

#define SPAN 64

/* The maps of a call; bindings.py holds the mirror. Strides in elements, pixels contiguous.
 * Independent channels are one class whose lines follow each other: all of a channel, then all of
 * the next. */
struct sources {
    int64_t models, classes, outer, inner; /* outer: lines of a class or channel */
    const char *const *data;               /* [M] values [C, outer, inner] */
    const int64_t *class_stride;           /* [M] */
    const int64_t *outer_stride;           /* [M] */
    const int64_t *kind;                   /* [M] */
    const float *scale;                    /* [M] 1 / T */
    const float *exponentials; /* [M, 256] of gap codes whose pixel has a code 0; of angle codes
                                  their probabilities */
    const float *gaps;         /* [256] decoded gap codes */
};

/* Where the pixels at hand are: of every model the bytes of class 0, and to the next class. */
struct places {
    const char **rows; /* [M] */
    int64_t *stride;   /* [M] */
    char *padded;      /* [M, C, SPAN] raw pixels that do not fill a span */
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

/* The probability of an independent channel. */
INLINE float sigmoid32(float z, float scale) {
    float e = exp32(-fabsf(z * scale)), r = 1.0f / (1.0f + e);
    return z >= 0.0f ? r : e * r;
}

/* Cephes logf by Horner's rule for normal x > 0 and NaN. */
INLINE float log32(float x) {
    uint32_t bits = to_bits(x);
    float n = (float)((int32_t)(bits >> 23) - 126);
    float f = from_bits((bits & 0x7fffffu) | 0x3f000000u); /* x = f 2^n, 0.5 <= f < 1 */
    int low = f < 0.707106781186547524f;
    n = low ? n - 1.0f : n;
    f = (low ? f + f : f) - 1.0f;
    float square = f * f, y = 7.0376836292e-2f;
    y = y * f + -1.1514610310e-1f;
    y = y * f + 1.1676998740e-1f;
    y = y * f + -1.2420140846e-1f;
    y = y * f + 1.4249322787e-1f;
    y = y * f + -1.6668057665e-1f;
    y = y * f + 2.0000714765e-1f;
    y = y * f + -2.4999993993e-1f;
    y = y * f + 3.3333331174e-1f;
    y = y * f * square + n * -2.12194440e-4f;
    y = f + (y - square * 0.5f) + n * 0.693359375f;
    return x != x ? x : y;
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
UNUSED static int all_have_zero(struct view v, uint8_t *restrict least) {
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

enum { LOGITS, PLAIN, TABLE, SIGMOID };

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

/* Points at pixel `first` of row `outer` of every model. */
static void place(const struct sources *from, int64_t outer, int64_t first, struct places *p) {
    int64_t channel = outer / from->outer, line = outer % from->outer; /* channel 0 of classes */
    for (int64_t m = 0; m < from->models; m++) {
        int64_t width = WIDTH[from->kind[m] & 3];
        int64_t start = channel * from->class_stride[m] + line * from->outer_stride[m] + first;
        p->rows[m] = from->data[m] + start * width;
        p->stride[m] = from->class_stride[m] * width;
    }
}

/* Fewer than SPAN pixels: copies them side by side, padded with the last one, so that no row is
 * read past its end. */
static void pad(const struct sources *from, int64_t count, struct places *p) {
    char *to = p->padded;
    for (int64_t m = 0; m < from->models; m++) {
        int64_t width = WIDTH[from->kind[m] & 3];
        const char *row = p->rows[m];
        p->rows[m] = to;
        for (int64_t c = 0; c < from->classes; c++, row += p->stride[m], to += SPAN * width) {
            memcpy(to, row, count * width);
            for (int64_t i = count; i < SPAN; i++)
                memcpy(to + i * width, row + (count - 1) * width, width);
        }
        p->stride[m] = SPAN * width;
    }
}

/* Fuses n pixels (a multiple of SPAN) whose places are known; the first `count` of them, which go
 * to `first` of the outputs, are wanted. */
typedef void fuse_t(const void *call, int64_t n, int64_t count, int64_t first, void *scratch);

/* Tile after tile of the pixels start <= i < stop of row `outer`. */
INLINE void walk(const struct sources *from, int64_t tile, int64_t outer, int64_t start,
                 int64_t stop, struct places *at, fuse_t *fuse, const void *call, void *scratch) {
    for (int64_t s = start; s < stop;) {
        int64_t most = stop - s < tile ? stop - s : tile;
        int64_t n = most / SPAN * SPAN; /* 0: less than a span is left over */
        place(from, outer, s, at);
        if (!n) pad(from, most, at);
        fuse(call, n ? n : SPAN, n ? n : most, outer * from->inner + s, scratch);
        s += n ? n : most;
    }
}

/* Bytes of `padded`. */
UNUSED static int64_t padded_bytes(const struct sources *from) {
    int64_t raw = 0;
    for (int64_t m = 0; m < from->models; m++) raw += WIDTH[from->kind[m] & 3];
    return raw * from->classes * SPAN;
}

/* Arrays of so many bytes, aligned to a line of the cache. 0: no memory. */
UNUSED static int reserve(void **parts, const int64_t *sizes, int count) {
    int ready = 1;
    for (int k = 0; k < count; k++)
        ready &= (parts[k] = allocate_aligned((size_t)sizes[k])) != NULL;
    return ready;
}

UNUSED static void release_all(void **parts, int count) {
    for (int k = 0; k < count; k++) free_aligned(parts[k]);
}
