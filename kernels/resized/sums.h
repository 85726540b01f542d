/* One frame, and many weighted sums of its models' maps, row by row. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "cells.h"

/* bindings.py holds the mirror. targets uint8, or uint16 where `wide`; C and above do not count. */
struct frame {
    const float *maps;
    const void *targets;
    const struct steps *steps;
    int64_t models, classes, h, w, wide;
};

struct term {
    int64_t model;
    double weight;
};

/* B sums: `base` [M] is part of all, terms[ends[b - 1] .. ends[b]] are added to it; scale [B, C].
 */
struct sums {
    struct term *base, *terms;
    int64_t common, *ends, number;
    const float *scale;
};

static int gather(struct sums *s, const double *base, const double *more, int64_t models) {
    s->base = malloc(sizeof(struct term) * (size_t)models);
    s->terms = malloc(sizeof(struct term) * (size_t)(models * s->number));
    s->ends = malloc(sizeof(int64_t) * (size_t)s->number);
    if (!s->base || !s->terms || !s->ends) return 0;
    int64_t made = s->common = 0;
    for (int64_t m = 0; m < models; m++)
        if (base[m] != 0) s->base[s->common++] = (struct term){m, base[m]};
    for (int64_t b = 0; b < s->number; b++) {
        for (int64_t m = 0; m < models; m++)
            if (more[b * models + m] != 0)
                s->terms[made++] = (struct term){m, more[b * models + m]};
        s->ends[b] = made;
    }
    return 1;
}

/* to [w] += terms. Exact: kernels/resized/__init__.py, so that no order matters. */
static void add(const struct frame *f, const struct term *terms, int64_t count, int64_t c,
                int64_t y, double *restrict to) {
    for (int64_t i = 0; i < count; i++) {
        const float *restrict row = f->maps + ((terms[i].model * f->classes + c) * f->h + y) * f->w;
        double weight = terms[i].weight;
        for (int64_t x = 0; x < f->w; x++) to[x] += weight * row[x];
    }
}

/* All sums of class c in native row y, rounded to float32, to mix [B, w]. */
static void mix_row(const struct frame *f, const struct sums *s, double *base, double *restrict sum,
                    int64_t c, int64_t y, float *mix) {
    memset(base, 0, sizeof(double) * (size_t)f->w);
    add(f, s->base, s->common, c, y, base);
    for (int64_t b = 0, from = 0; b < s->number; from = s->ends[b++]) {
        float *restrict to = mix + b * f->w;
        memcpy(sum, base, sizeof(double) * (size_t)f->w);
        add(f, s->terms + from, s->ends[b] - from, c, y, sum);
        for (int64_t x = 0; x < f->w; x++) to[x] = (float)sum[x];
    }
}
