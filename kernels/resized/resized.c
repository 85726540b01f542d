/* Labels of many weighted sums of maps at label resolution, counted without a label map.
 * Contract: kernels/resized/__init__.py; the same, slowly: naive.py.
 *
 * M models, B weight vectors, C classes, maps [M, C, h, w], targets [rows, W]. Two native rows of
 * all sums are held at a time. A cell (the label pixels between four native pixels) whose corners
 * leave one class only is counted as it is. In the others the least and the most that any of the B
 * sums is at the corners, interpolated, settle most pixels for all B at once; what is left is
 * interpolated for all B side by side. */
#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "envelope.h"
#include "kernels.h"
#include "sums.h"

enum { COLUMNS = 8 }; /* label columns, or weight vectors, that loops take at a time */

/* Everything that is allocated. Rows of two native rows (slots): mix [2, C, B, w]; low, high [C, 2,
 * w] least and most scaled sums (flips: low [B, C, 2, w], the scaled sums). */
struct room {
    double *base, *sum;
    float *mix, *low, *high, *best, *bound, *lanes, *corners, *columns;
    int32_t *winner, *count, *moved, *same;
    uint8_t *stays, *open;
    uint16_t *list;
    int64_t *first;
};

static int64_t target_of(const struct frame *f, int64_t i) {
    int64_t t = f->wide ? ((const uint16_t *)f->targets)[i] : ((const uint8_t *)f->targets)[i];
    return t < f->classes ? t : f->classes;
}

static int64_t padded(int64_t number) { return (number + COLUMNS - 1) / COLUMNS * COLUMNS; }

/* Native row y into a slot, with the least and most of all sums, or (`apart`) with each sum. */
static void fetch(const struct frame *f, const struct sums *s, struct room *r, int64_t y,
                  int64_t slot, int apart) {
    int64_t w = f->w, C = f->classes;
    for (int64_t c = 0; c < C; c++) {
        float *mix = r->mix + (slot * C + c) * s->number * w;
        mix_row(f, s, r->base, r->sum, c, y, mix);
        for (int64_t b = 0; b < s->number; b++) {
            const float *restrict row = mix + b * w;
            float scale = s->scale[b * C + c];
            float *restrict low = r->low + ((apart ? b * C + c : c) * 2 + slot) * w;
            float *restrict high = r->high + (c * 2 + slot) * w;
            if (apart || b == 0)
                for (int64_t x = 0; x < w; x++) low[x] = row[x] * scale;
            if (apart) continue;
            if (b == 0) memcpy(high, low, sizeof(float) * (size_t)w);
            for (int64_t x = 0; b && x < w; x++) {
                float value = row[x] * scale;
                low[x] = value < low[x] ? value : low[x];
                high[x] = value > high[x] ? value : high[x];
            }
        }
    }
}

/* Horizontal steps of a class at up to COLUMNS label columns: above and below, [2, COLUMNS]. */
INLINE void across(const float *above, const float *below, int64_t x, int64_t next,
                   const float *restrict fx, float *restrict to) {
    float tl = above[x], tr = above[next], bl = below[x], br = below[next];
    for (int j = 0; j < COLUMNS; j++) {
        to[j] = tl * (1.0f - fx[j]) + tr * fx[j];
        to[COLUMNS + j] = bl * (1.0f - fx[j]) + br * fx[j];
    }
}

/* A part of a cell: its classes, corners and label pixels. */
struct part {
    const uint16_t *list;
    int64_t n, x, next, upper, lower; /* classes; native columns; slots of the native rows */
    int64_t column, columns, row, rows;
    float fx[COLUMNS];
};

/* Scores of class k of a part at row fraction fy, from its `across`. */
INLINE void down(const float *restrict lanes, float fy, float scale, float *restrict to) {
    for (int j = 0; j < COLUMNS; j++)
        to[j] = (lanes[j] * (1.0f - fy) + lanes[COLUMNS + j] * fy) * scale;
}

/* Counts the pixels of a part whose label is the same for all sums; marks the others in open [rows,
 * COLUMNS] and returns their number. One sum alone is taken unscaled and settles everything. */
static int64_t settle(const struct frame *f, const struct sums *s, struct room *r,
                      const struct part *p, float slack) {
    int64_t w = f->w, C = f->classes, left = 0, alone = s->number == 1;
    float *low = r->lanes, *high = low + p->n * 2 * COLUMNS, keep = 1.0f - slack;
    for (int64_t k = 0; k < p->n; k++) {
        int64_t c = p->list[k];
        const float *from = alone ? r->mix + c * w : r->low + c * 2 * w;
        int64_t slot = alone ? C * w : w;
        across(from + p->upper * slot, from + p->lower * slot, p->x, p->next, p->fx,
               low + k * 2 * COLUMNS);
        from = r->high + c * 2 * w;
        across(from + p->upper * w, from + p->lower * w, p->x, p->next, p->fx,
               high + k * 2 * COLUMNS);
    }
    for (int64_t y = 0; y < p->rows; y++) {
        float best[COLUMNS], value[COLUMNS], fy = f->steps->fy[p->row + y];
        int32_t index[COLUMNS] = {0}, unsure[COLUMNS] = {0};
        for (int j = 0; j < COLUMNS; j++) best[j] = -1.0f;
        for (int64_t k = 0; k < p->n; k++) {
            down(low + k * 2 * COLUMNS, fy, alone ? s->scale[p->list[k]] : 1.0f, value);
            for (int j = 0; j < COLUMNS; j++) {
                index[j] = value[j] > best[j] ? (int32_t)k : index[j];
                best[j] = value[j] > best[j] ? value[j] : best[j];
            }
        }
        for (int64_t k = 0; !alone && k < p->n; k++) {
            down(high + k * 2 * COLUMNS, fy, 1.0f, value);
            for (int j = 0; j < COLUMNS; j++)
                unsure[j] |= (index[j] != k) & !(value[j] < best[j] * keep);
        }
        int64_t place = (p->row + y) * f->steps->width + p->column;
        for (int64_t j = 0; j < p->columns; j++) {
            int64_t t = target_of(f, place + j), keeps = !unsure[j] || t == C;
            r->open[y * COLUMNS + j] = !keeps;
            left += !keeps;
            r->same[((j & 1) * (C + 1) + t) * C + p->list[index[j]]] += keeps;
        }
    }
    return left;
}

/* One label pixel for COLUMNS sums: the winner's row of `moved` gains one in its lane. */
INLINE void vote(const struct part *p, const float *columns, const float *scale, int64_t lanes,
                 int64_t classes, float fy, int64_t t, int64_t matrix, int32_t *moved) {
    float best[COLUMNS] = {0};
    int32_t index[COLUMNS] = {0};
    for (int64_t k = 0; k < p->n; k++) {
        const float *restrict above = columns + k * 2 * lanes, *restrict below = above + lanes;
        const float *restrict by = scale + k * lanes;
        for (int j = 0; j < COLUMNS; j++) {
            float value = (above[j] * (1.0f - fy) + below[j] * fy) * by[j];
            int wins = k == 0 || value > best[j];
            best[j] = wins ? value : best[j];
            index[j] = wins ? (int32_t)k : index[j];
        }
    }
    for (int64_t k = 0; k < p->n; k++) {
        int64_t c = p->list[k];
        int32_t *restrict row = moved + ((matrix ? t : 1) * classes + c) * lanes;
        for (int j = 0; j < COLUMNS; j++) row[j] += index[j] == k;
        if (matrix || c != t) continue;
        row = moved + c * lanes;
        for (int j = 0; j < COLUMNS; j++) row[j] += index[j] == k;
    }
}

/* The open pixels of a part, for every sum. */
static void tally(const struct frame *f, const struct sums *s, struct room *r, const struct part *p,
                  int64_t matrix) {
    int64_t w = f->w, C = f->classes, B = s->number, lanes = padded(B);
    float *scale = r->corners + p->n * 4 * lanes;
    for (int64_t k = 0; k < p->n; k++) {
        float *to = r->corners + k * 4 * lanes;
        const float *above = r->mix + (p->upper * C + p->list[k]) * B * w;
        const float *below = r->mix + (p->lower * C + p->list[k]) * B * w;
        for (int64_t b = 0; b < B; b++) {
            to[b] = above[b * w + p->x], to[lanes + b] = above[b * w + p->next];
            to[2 * lanes + b] = below[b * w + p->x], to[3 * lanes + b] = below[b * w + p->next];
            scale[k * lanes + b] = s->scale[b * C + p->list[k]];
        }
    }
    for (int64_t j = 0; j < p->columns; j++) {
        float fx = p->fx[j];
        int ready = 0;
        for (int64_t y = 0; y < p->rows; y++) {
            if (!r->open[y * COLUMNS + j]) continue;
            for (int64_t k = 0; !ready && k < 2 * p->n; k++) { /* above and below in turn */
                const float *restrict l = r->corners + 2 * k * lanes, *restrict m = l + lanes;
                float *restrict to = r->columns + k * lanes;
                for (int64_t b = 0; b < lanes; b++) to[b] = l[b] * (1.0f - fx) + m[b] * fx;
            }
            ready = 1;
            int64_t t = target_of(f, (p->row + y) * f->steps->width + p->column + j);
            for (int64_t b = 0; b < lanes; b += COLUMNS)
                vote(p, r->columns + b, scale + b, lanes, C, f->steps->fy[p->row + y], t, matrix,
                     r->moved + b);
        }
    }
}

/* A cell with one class. */
static void count_cell(const struct frame *f, struct room *r, const struct part *p, int64_t last) {
    int64_t C = f->classes;
    for (int64_t y = p->row; y < p->row + p->rows; y++)
        for (int64_t x = p->column; x < last; x++)
            r->same[((x & 1) * (C + 1) + target_of(f, y * f->steps->width + x)) * C + p->list[0]]++;
}

struct flips {
    double low, high;
    int64_t room, found;
    flip_t *list;
    int64_t *statistics;
};

/* The flips of a part's pixels along the segment between two sums. */
static void cross(const struct frame *f, const struct sums *s, struct room *r, const struct part *p,
                  struct flips *to) {
    int64_t w = f->w, C = f->classes, n = p->n;
    double *height = (double *)(r->lanes + 4 * n * COLUMNS), *slope = height + n * LANES;
    for (int64_t k = 0; k < n; k++)
        for (int64_t b = 0; b < 2; b++) {
            const float *from = r->mix + (p->list[k] * 2 + b) * w;
            across(from + p->upper * C * 2 * w, from + p->lower * C * 2 * w, p->x, p->next, p->fx,
                   r->lanes + (k * 2 + b) * 2 * COLUMNS);
        }
    for (int64_t y = 0; y < p->rows; y++) {
        float ends[2][COLUMNS], fy = f->steps->fy[p->row + y];
        double top[COLUMNS] = {0}, last[COLUMNS] = {0}, steep[COLUMNS] = {0};
        int64_t index[COLUMNS] = {0}, quiet[COLUMNS];
        for (int64_t k = 0; k < n; k++) {
            for (int64_t b = 0; b < 2; b++)
                down(r->lanes + (k * 2 + b) * 2 * COLUMNS, fy, s->scale[b * C + p->list[k]],
                     ends[b]);
            double *restrict h = height + k * LANES, *restrict v = slope + k * LANES;
            for (int j = 0; j < COLUMNS; j++) {
                h[j] = ends[0][j], v[j] = (double)ends[1][j] - (double)ends[0][j];
                double here = h[j] + to->low * v[j], there = h[j] + to->high * v[j];
                double more = here - top[j];
                int wins = k == 0 || more > 0 || (more == 0 && v[j] > steep[j]);
                top[j] = wins ? here : top[j], last[j] = wins ? there : last[j];
                steep[j] = wins ? v[j] : steep[j], index[j] = wins ? k : index[j];
            }
        }
        for (int j = 0; j < COLUMNS; j++) quiet[j] = 1;
        for (int64_t k = 0; k < n; k++)
            for (int j = 0; j < COLUMNS; j++) {
                double there = height[k * LANES + j] + to->high * slope[k * LANES + j];
                quiet[j] &= index[j] == k || there < last[j] * (1 - 1e-12);
            }
        for (int64_t j = 0; j < p->columns; j++) {
            int64_t t = target_of(f, (p->row + y) * f->steps->width + p->column + j),
                    now = index[j];
            if (t == C) continue;
            uint16_t from = p->list[now];
            double at = to->low;
            to->statistics[C + from]++;
            to->statistics[t] += from == t;
            while (!quiet[j] &&
                   (now = overtaker(height + j, slope + j, n, now, at, to->high, &at)) >= 0) {
                flip_t flip = {at, (uint16_t)t, from, p->list[now], 0};
                if (to->found < to->room) to->list[to->found] = flip;
                to->found++;
                from = p->list[now];
            }
        }
    }
}

static void release(struct sums *s, struct room *r) {
    void *all[] = {r->base,  r->sum,     r->mix,     r->low,    r->high,  r->best,  r->bound,
                   r->lanes, r->corners, r->columns, r->winner, r->count, r->moved, r->same,
                   r->stays, r->open,    r->list,    r->first,  s->base,  s->terms, s->ends};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* 0: no memory. `tables`: numbers of `moved`. */
static int prepare(const struct frame *f, const struct sums *s, struct room *r, int64_t tables) {
    size_t w = (size_t)f->w, C = (size_t)f->classes, B = (size_t)s->number;
    size_t lanes = (size_t)padded(s->number);
    r->base = malloc(8 * w), r->sum = malloc(8 * w);
    r->mix = malloc(8 * C * B * w), r->low = malloc(16 * C * w);
    r->high = malloc(8 * C * w), r->best = malloc(4 * w), r->bound = malloc(32 * w);
    r->lanes = malloc(4 * 4 * C * COLUMNS + 16 * C * LANES);
    r->corners = calloc(5 * C * lanes, 4), r->columns = malloc(8 * C * lanes);
    r->winner = malloc(4 * w), r->count = malloc(4 * w);
    r->moved = calloc((size_t)tables + 1, 4), r->same = calloc(2 * (C + 1) * C, 4);
    r->stays = malloc(w), r->open = malloc((size_t)(f->steps->rows + 1) * COLUMNS);
    r->list = malloc(2 * (w * C + 1)), r->first = malloc(8 * (w + 1));
    if (!(r->base && r->sum && r->mix && r->low && r->high && r->best && r->bound && r->lanes &&
          r->corners && r->columns && r->winner && r->count && r->moved && r->same && r->stays &&
          r->open && r->list && r->first))
        return 0;
    int64_t x = 0;
    for (int64_t column = 0; column < f->steps->width; column++)
        while (x <= f->steps->left[column]) r->first[x++] = column;
    while (x <= f->w) r->first[x++] = f->steps->width;
    return 1;
}

/* Every part of every cell in turn; `flips` NULL counts labels. */
static void walk(const struct frame *f, const struct sums *s, struct room *r, float slack,
                 int64_t matrix, struct flips *flips) {
    const struct steps *steps = f->steps;
    int64_t held[2] = {-1, -1}, w = f->w, groups = flips ? 2 : 1;
    struct part p;
    for (p.row = 0; p.row < steps->rows; p.row += p.rows) {
        int64_t u = steps->upper[p.row], l = steps->lower[p.row];
        for (p.rows = 1; p.row + p.rows < steps->rows && steps->upper[p.row + p.rows] == u;)
            p.rows++;
        p.upper = held[1] == u;
        if (held[p.upper] != u) fetch(f, s, r, held[p.upper] = u, p.upper, flips != NULL);
        p.lower = l == u ? p.upper : !p.upper;
        if (held[p.lower] != l) fetch(f, s, r, held[p.lower] = l, p.lower, flips != NULL);
        candidates(r->low, flips ? r->low : r->high, NULL, groups, f->classes, 2, w, p.upper,
                   p.lower, slack, r->best, r->bound, r->winner, r->stays, r->list, r->count);
        for (p.x = 0; p.x < w; p.x++) {
            int64_t last = r->first[p.x + 1];
            p.next = p.x + 1 < w ? p.x + 1 : p.x;
            p.list = r->list + p.x * f->classes, p.n = r->count[p.x], p.column = r->first[p.x];
            if (p.n == 1) count_cell(f, r, &p, last);
            for (; p.n > 1 && p.column < last; p.column += p.columns) {
                p.columns = last - p.column < COLUMNS ? last - p.column : COLUMNS;
                for (int64_t j = 0; j < COLUMNS; j++)
                    p.fx[j] = steps->fx[p.column + (j < p.columns ? j : 0)];
                if (flips) cross(f, s, r, &p, flips);
                else if (settle(f, s, r, &p, slack)) tally(f, s, r, &p, matrix);
            }
        }
    }
}

/* Adds the labels of B sums of maps to counts: [B, C, C] (rows targets) where `matrix`, else [B, 2,
 * C], intersections and predictions. base [M] and more [B, M] add up to the weights; scale [B, C].
 * 0: no memory. */
EXPORT int fusion_resized_count(const struct frame *f, const double *base, const double *more,
                                int64_t number, const float *scale, float slack, int64_t matrix,
                                int64_t *counts) {
    struct sums s = {.number = number, .scale = scale};
    struct room r = {0};
    int64_t C = f->classes, lanes = padded(number), rows = matrix ? C : 2;
    int ready = gather(&s, base, more, f->models) && prepare(f, &s, &r, rows * C * lanes);
    if (ready) walk(f, &s, &r, slack, matrix, NULL);
    for (int64_t b = 0; ready && b < number; b++) {
        int64_t *to = counts + b * rows * C;
        for (int64_t i = 0; i < rows * C; i++) to[i] += r.moved[i * lanes + b];
        for (int64_t t = 0; t < C; t++)
            for (int64_t c = 0; c < C; c++) {
                int64_t both = (int64_t)r.same[t * C + c] + r.same[(C + 1 + t) * C + c];
                to[matrix ? t * C + c : C + c] += both;
                if (!matrix && t == c) to[c] += both;
            }
    }
    release(&s, &r);
    return ready;
}

/* Flips with low < s < high along the segment from one weighted sum to another (ends [2, M]) into
 * list [most]; further ones are only counted, their number is returned; -1: no memory. statistics
 * [2, C] += intersections and predictions just right of low. scale [2, C], the same rows twice. */
EXPORT int64_t fusion_resized_flips(const struct frame *f, const double *ends, const float *scale,
                                    float slack, double low, double high, int64_t most,
                                    flip_t *list, int64_t *statistics) {
    struct sums s = {.number = 2, .scale = scale};
    struct room r = {0};
    struct flips to = {low, high, most, 0, list, statistics};
    double *none = calloc((size_t)f->models, 8);
    int ready = none && gather(&s, none, ends, f->models) && prepare(f, &s, &r, 0);
    if (ready) walk(f, &s, &r, slack, 0, &to);
    int64_t C = f->classes;
    for (int64_t t = 0; ready && t < C; t++)
        for (int64_t c = 0; c < C; c++) {
            int64_t both = (int64_t)r.same[t * C + c] + r.same[(C + 1 + t) * C + c];
            statistics[C + c] += both;
            if (t == c) statistics[c] += both;
        }
    free(none);
    release(&s, &r);
    return ready ? to.found : -1;
}
