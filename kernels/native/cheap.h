/* Softmaxes in cheap arithmetic, and how far their labels can be trusted.
 *
 * A cheap softmax has no pass for the top logit: p_c = 2^(z_c k) / sum 2^(z_c k), k = log2(e) / T,
 * a power is a polynomial and a shift, fused multiply-adds are welcome. A label is taken from it
 * where the best score is so far above the second that the oracle's bits cannot order them
 * otherwise, and no class is NaN; elsewhere the pixel is undecided, and the exact path has it.
 *
 * The bound, u = 2^-24 the rounding of float32, C classes, M models and groups. Relative errors of
 * terms >= 0 carry over to sums, so only those of single powers count:
 *   oracle: two roundings of an argument >= -87 make 2 u 87, exp32 errs by 2 ulp: at most 1.1e-5
 *   cheap: k, the product and a decoded gap code are rounded, |z k| <= 128: 3 u 128 ln 2 = 1.6e-5;
 *          the polynomial errs by POLYNOMIAL, its evaluation by 5 u
 * A probability has that twice, once in its sum of C terms, and C roundings there; scores sum M of
 * them, times weights and multipliers: less than M + 16 roundings. Scores of two classes thus keep
 * their order where they differ by twice the error of both paths, as `trusted` has it, a part in
 * ten for terms of higher order.
 * What is too small for relative errors: powers below 2^-126 err by less than 2^-126, against sums
 * above 2^-40; the oracle drops terms below e^-87 of its top. Both are nothing beside a best score
 * above 2^-60. Sums outside 2^-40 .. 2^120, NaN among them, make NaN of a pixel's scores:
 * undecided. No logit that counts is above 2^120 then, so none was clamped from above, and none is
 * inf or NaN.
 */
#pragma once

#include "softmax.h"

enum { CHUNK = 32 }; /* pixels whose powers and scores [C, CHUNK] stay in the first level cache */

#define LOG2_E 1.4426950408889634
#define POLYNOMIAL 7.6e-5 /* of 2^f for 0 <= f < 1; minimax: 7.49e-5 in float32 coefficients */
#define POWER_0 0.999925196f
#define POWER_1 0.695833385f
#define POWER_2 0.22606723f
#define POWER_3 0.0780245885f

/* The factor that a best score keeps over the second, and more, where it is the oracle's too. */
INLINE float trusted(int64_t classes, int64_t models) {
    double roundings = (double)(classes + models + 16) * 0x1p-24;
    double oracle = 2 * 1.15e-5 + roundings, cheap = 2 * (POLYNOMIAL + 1.65e-5) + roundings;
    return (float)(1.0 - 2.2 * (oracle + cheap));
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
INLINE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
INLINE float fused(float a, float b, float c) { return a * b + c; }
#endif

/* 2^t, NaN for NaN; beyond 2^126 or below 2^-126 one of these. */
INLINE float power_of_two(float t) {
    t = -126.0f > t ? -126.0f : t; /* in this order NaN stays */
    t = 126.0f < t ? 126.0f : t;
    float whole = floorf(t), f = t - whole;
    float y = fused(fused(fused(POWER_3, f, POWER_2), f, POWER_1), f, POWER_0);
    return y * from_bits((uint32_t)((int32_t)whole + 127) << 23);
}

#ifdef __AVX512F__
/* CHUNK values as they are multiplied by the factor: squares of gap codes, logits else. */
INLINE __m512 wide(int kind, const char *row, int i) {
    if (kind == FLOAT) return _mm512_loadu_ps((const float *)row + i);
    if (kind == HALF)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)row + i)));
    if (kind == BFLOAT) {
        __m256i bits = _mm256_loadu_si256((const __m256i *)((const uint16_t *)row + i));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    __m128i codes = _mm_loadu_si128((const __m128i *)((const uint8_t *)row + i));
    __m512 q = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes));
    return _mm512_mul_ps(q, q);
}

INLINE __m512 wide_power(__m512 t) {
    __m512 f = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF);
    __m512 y = _mm512_set1_ps(POWER_3);
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(POWER_2));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(POWER_1));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(POWER_0));
    return _mm512_scalef_ps(y, t);
}

INLINE void add_powers(int kind, const char *row, float factor, const float *table,
                       float *restrict e, float *restrict total) {
    (void)table;
    for (int i = 0; i < CHUNK; i += 16) {
        __m512 y = wide_power(_mm512_mul_ps(wide(kind, row, i), _mm512_set1_ps(factor)));
        _mm512_store_ps(e + i, y);
        _mm512_store_ps(total + i, _mm512_add_ps(_mm512_load_ps(total + i), y));
    }
}
#else
/* e [CHUNK] = powers of a row's values, total += e. Of gap codes looked up: that is cheaper here.
 */
INLINE void add_powers(int kind, const char *row, float factor, const float *table,
                       float *restrict e, float *restrict total) {
    if (kind == CODES) {
        for (int i = 0; i < CHUNK; i++) e[i] = table[((const uint8_t *)row)[i]];
        for (int i = 0; i < CHUNK; i++) total[i] += e[i];
        return;
    }
    for (int i = 0; i < CHUNK; i++) {
        if (kind == FLOAT) e[i] = ((const float *)row)[i];
        if (kind == BFLOAT) e[i] = from_bfloat(((const uint16_t *)row)[i]);
    }
    if (kind == HALF) {
#ifdef __F16C__
        for (int i = 0; i < CHUNK; i += 8)
            _mm256_storeu_ps(e + i,
                             _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 2 * i))));
#else
        for (int i = 0; i < CHUNK; i++) e[i] = from_half(((const uint16_t *)row)[i]);
#endif
    }
    for (int i = 0; i < CHUNK; i++) {
        e[i] = power_of_two(e[i] * factor);
        total[i] += e[i];
    }
}
#endif

/* log2(e) / T of logits, of squared gap codes with what decodes them. */
INLINE float cheap_factor(int64_t kind, float scale) {
    return (float)(LOG2_E * scale * (kind == CODES ? -24.0 / (255.0 * 255.0) : 1.0));
}

/* total [CHUNK] of a model's powers to what they are multiplied by; NaN where nothing is proved. */
INLINE void share_out(float weight, float *restrict total) {
    for (int i = 0; i < CHUNK; i++)
        total[i] = total[i] > 0x1p-40f && total[i] < 0x1p120f ? weight / total[i] : NAN;
}

/* scores [C, CHUNK] (+)= e * share. */
INLINE void add_shares(int64_t classes, int opens, const float *restrict e,
                       const float *restrict share, float *restrict scores) {
    for (int64_t c = 0; c < classes; c++, e += CHUNK, scores += CHUNK)
        for (int i = 0; i < CHUNK; i++)
            scores[i] = opens ? e[i] * share[i] : fused(e[i], share[i], scores[i]);
}

#ifdef __AVX512F__
/* best, second, label of n pixels, a multiple of 16, as `rank` finds them; NaN only if all are. */
INLINE void rank_cheap(const float *scores, const float *factors, int64_t classes, int64_t n,
                       float *best, float *second, int32_t *label) {
    for (int64_t i = 0; i < n; i += 16) {
        __m512 factor = _mm512_set1_ps(factors ? factors[0] : 1.0f);
        __m512 top = _mm512_mul_ps(_mm512_loadu_ps(scores + i), factor);
        __m512 next = _mm512_set1_ps(-INFINITY);
        __m512i found = _mm512_setzero_si512();
        for (int64_t c = 1; c < classes; c++) {
            __m512 score = _mm512_loadu_ps(scores + c * n + i);
            if (factors) score = _mm512_mul_ps(score, _mm512_set1_ps(factors[c]));
            __mmask16 above = _mm512_cmp_ps_mask(score, top, _CMP_GT_OQ);
            next = _mm512_max_ps(next, _mm512_min_ps(score, top));
            found = _mm512_mask_mov_epi32(found, above, _mm512_set1_epi32((int)c));
            top = _mm512_max_ps(top, score);
        }
        _mm512_storeu_ps(best + i, top), _mm512_storeu_ps(second + i, next);
        _mm512_storeu_si512(label + i, found);
    }
}
#else
static __attribute__((noinline)) void rank_cheap(const float *scores, const float *factors,
                                                 int64_t classes, int64_t n, float *best,
                                                 float *second, int32_t *label) {
    int32_t bad[SPAN];
    rank(scores, factors, classes, n, best, second, label, bad);
}
#endif

/* label [CHUNK] of cheap scores [C, CHUNK], all classes' NaN or none's; 1 in `open` where it is not
 * decided, and how many these are. */
INLINE int settle_chunk(const float *scores, const float *multipliers, int64_t classes, float keep,
                        int32_t *restrict label, uint8_t *restrict open) {
    float best[CHUNK], second[CHUNK];
    int count = 0;
    rank_cheap(scores, multipliers, classes, CHUNK, best, second, label);
    for (int i = 0; i < CHUNK; i++)
        count += open[i] = !(best[i] > 0x1p-60f && best[i] * keep > second[i]);
    return count;
}
