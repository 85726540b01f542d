/* Labels alone from gap codes in 16 bits: a table of exponentials that stays in registers, and
 * scores of 32 pixels in a register.
 *
 * The bound, E = 65535 e for the oracle's exponential e of a code, S their sum over C classes, w a
 * model's weight, K = 65535^2 / 65536, all numbers below of the sort that 65535 stands for 1.
 *   e16 = E +- .51, S16 = S +- .51 C; where S16 >= 65535, S / S16 = 1 +- h, h = .51 C / 65535
 *   share = w 65535^2 / S16 cut to an integer: at most 1.02 below
 *   e16 share / 65536, cut, is K w p (1 +- h) from .51 w above to .51 w + 2.03 below
 * The sum over M models is K F (1 +- h) from .51 above to .51 + 2.03 M below. What saturates is too
 * low as the best score, which is safe, and as the second fails the test. So the oracle's scores,
 * off by `roundings` themselves, have the same order where best * keep > second + room; multipliers
 * are at most 1. Pixels whose sum stays below 65535 in any model are undecided.
 */
#pragma once

#ifndef __AVX512VBMI__
INLINE int64_t halves_bytes(int64_t models) { return 0 * models; }
INLINE void halve_all(const struct average *a, struct halves *to) { (void)a, (void)to; }
INLINE int all_codes(const struct sources *from) { return 0 * (int)from->models; }
static void settle_codes(const struct average *a, int64_t n, union scratch *w, uint8_t *again) {
    (void)a, (void)n, (void)w, (void)again;
}
#else

enum { MOST_FIXED = 1024 }; /* classes; h stays below 1 % */

/* Low and high bytes of a table of 256 numbers. */
struct halves {
    __m512i low[4], high[4];
};

static void halve(const float *table, struct halves *to) {
    uint8_t bytes[2][256];
    for (int q = 0; q < 256; q++) {
        int number = (int)(table[q] * 65535.0f + 0.5f);
        bytes[0][q] = (uint8_t)number, bytes[1][q] = (uint8_t)(number >> 8);
    }
    for (int k = 0; k < 4; k++) {
        to->low[k] = _mm512_loadu_si512(bytes[0] + 64 * k);
        to->high[k] = _mm512_loadu_si512(bytes[1] + 64 * k);
    }
}

INLINE int64_t halves_bytes(int64_t models) { return models * (int64_t)sizeof(struct halves); }

static void halve_all(const struct average *a, struct halves *to) {
    for (int64_t m = 0; m < a->source->models; m++)
        if (a->source->kind[m] == CODES) halve(a->source->exponentials + 256 * m, to + m);
}

INLINE __m512i pick(const __m512i *part, __m512i q, __mmask64 upper) {
    return _mm512_mask_blend_epi8(upper, _mm512_permutex2var_epi8(part[0], q, part[1]),
                                  _mm512_permutex2var_epi8(part[2], q, part[3]));
}

/* 32 numbers of 16 bits to or from two registers of 32 bits; all in the unpacked order. */
INLINE __m512i added(__m512i sum, __m512i numbers, int upper) {
    __m512i zero = _mm512_setzero_si512();
    return _mm512_add_epi32(sum, upper ? _mm512_unpackhi_epi16(numbers, zero)
                                       : _mm512_unpacklo_epi16(numbers, zero));
}

/* Pixels whose sum is too low for a bound; *share [32]. */
INLINE int share_fixed(__m512i first, __m512i second, float weight, __m512i *share) {
    __m512 whole = _mm512_set1_ps(weight * 65535.0f * 65535.0f);
    __m512i least = _mm512_set1_epi32(65535);
    *share =
        _mm512_packus_epi32(_mm512_cvttps_epi32(_mm512_div_ps(whole, _mm512_cvtepi32_ps(first))),
                            _mm512_cvttps_epi32(_mm512_div_ps(whole, _mm512_cvtepi32_ps(second))));
    return _mm512_cmplt_epi32_mask(first, least) || _mm512_cmplt_epi32_mask(second, least);
}

/* One model into scores [n / SPAN, C, SPAN]; again [n / SPAN] where a sum is too low. */
INLINE void add_fixed(struct view v, struct halves table, float weight, int opens,
                      struct ahead next, uint16_t *restrict e, uint16_t *restrict scores,
                      uint8_t *restrict again) {
    for (int64_t s = 0; s < v.n; s += SPAN) {
        __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a, share[2];
        for (int64_t k = 0; k < v.classes; k++) {
            ask_for_next(&next);
            __m512i q = _mm512_loadu_si512(v.rows + k * v.stride + s);
            __mmask64 upper = _mm512_movepi8_mask(q);
            __m512i low = pick(table.low, q, upper), high = pick(table.high, q, upper);
            __m512i left = _mm512_unpacklo_epi8(low, high);
            __m512i right = _mm512_unpackhi_epi8(low, high);
            _mm512_store_si512(e + k * SPAN, left);
            _mm512_store_si512(e + k * SPAN + 32, right);
            a = added(a, left, 0), b = added(b, left, 1);
            c = added(c, right, 0), d = added(d, right, 1);
        }
        again[s / SPAN] |= share_fixed(a, b, weight, share);
        again[s / SPAN] |= share_fixed(c, d, weight, share + 1);
        for (int64_t k = 0; k < 2 * v.classes; k++, scores += 32) {
            __m512i part = _mm512_mulhi_epu16(_mm512_load_si512(e + 32 * k), share[k & 1]);
            if (!opens) part = _mm512_adds_epu16(part, _mm512_load_si512(scores));
            _mm512_store_si512(scores, part);
        }
    }
}

/* best, second, label of 32 scores of 16 bits a class. */
INLINE void rank_fixed(const uint16_t *scores, int64_t classes, float *best, float *second,
                       int32_t *label) {
    __m512i top = _mm512_load_si512(scores), next = _mm512_setzero_si512(), found = next;
    for (int64_t c = 1; c < classes; c++) {
        __m512i score = _mm512_load_si512(scores + c * SPAN);
        __mmask32 above = _mm512_cmpgt_epu16_mask(score, top);
        next = _mm512_max_epu16(next, _mm512_min_epu16(score, top));
        found = _mm512_mask_mov_epi16(found, above, _mm512_set1_epi16((short)c));
        top = _mm512_max_epu16(top, score);
    }
    uint16_t numbers[3][32];
    _mm512_storeu_si512(numbers[0], top), _mm512_storeu_si512(numbers[1], next);
    _mm512_storeu_si512(numbers[2], found);
    for (int i = 0; i < 32; i++)
        best[i] = numbers[0][i], second[i] = numbers[1][i], label[i] = numbers[2][i];
}

/* Labels of a span's scores [C, SPAN]. 1: a pixel is undecided. */
INLINE int settle_fixed(const struct average *a, const uint16_t *scores, union scratch *w,
                        int32_t *label) {
    int64_t C = a->source->classes, M = a->source->models;
    int32_t found[SPAN], open = 0;
    float best[SPAN], second[SPAN], *wide = w->exponentials;
    float keep = (float)(1.0 - 2.2 * (0.51 * C / 65535.0 + (C + M + 16) * 0x1p-24));
    float room = 2.1f * M + 1.1f;
    if (a->multipliers) {
        for (int64_t i = 0; i < C * SPAN; i++) wide[i] = scores[i];
        rank_cheap(wide, a->multipliers, C, SPAN, best, second, found);
    } else
        for (int i = 0; i < SPAN; i += 32)
            rank_fixed(scores + i, C, best + i, second + i, found + i);
    for (int i = 0; i < SPAN; i++) {
        open |= !(best[i] * keep > second[i] + room);
        label[i / 8 % 4 * 16 + i / 32 * 8 + i % 8] = found[i]; /* as the bytes were unpacked */
    }
    return open;
}

/* All models over a tile of pixels; `again` [n / SPAN] where one is undecided. */
static void settle_codes(const struct average *a, int64_t n, union scratch *w, uint8_t *again) {
    const struct sources *from = a->source;
    int64_t members = a->group_end[a->groups - 1], opens = 1;
    uint16_t *scores = (uint16_t *)w->scores, *e = (uint16_t *)w->exponentials;
    for (int64_t g = 0, k = 0; g < a->groups; g++)
        for (; k < a->group_end[g]; k++) {
            int64_t m = a->members[k], last = k + 1 == members, then = a->members[last ? 0 : k + 1];
            struct view v = {w->at.rows[m], w->at.stride[m], from->classes, n};
            struct ahead next = {w->at.rows[then] + (last ? n : 0),
                                 w->at.stride[then],
                                 n / CACHE_LINE,
                                 0,
                                 from->classes,
                                 0};
            float weight = a->weight[g] * a->share[g];
            if (!(a->weight[g] > 0)) continue;
            if (opens) add_fixed(v, w->halves[m], weight, 1, next, e, scores, again);
            else add_fixed(v, w->halves[m], weight, 0, next, e, scores, again);
            opens = 0;
        }
    for (int64_t s = 0; s < n; s += SPAN)
        again[s / SPAN] |= settle_fixed(a, scores + s * from->classes, w, w->label + s);
}

INLINE int all_codes(const struct sources *from) {
    int64_t codes = from->classes <= MOST_FIXED;
    for (int64_t m = 0; m < from->models; m++) codes &= from->kind[m] == CODES;
    return (int)codes;
}
#endif
