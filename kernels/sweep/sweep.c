/* Weights that move: where labels flip along a segment of weights, the best interval between flips,
 * and bounds over a simplex of weights. Everything here is float64 and decides nothing by itself:
 * the caller evaluates what is found in float32, and bounds keep a slack for its rounding.
 * Contract: kernels/sweep/__init__.py; the same, slowly: naive.py. */
#include <math.h>

#include "envelope.h"
#include "kernels.h"

enum { NEVER = 0, ALWAYS = 1, WHEN_PREDICTED = 2 }; /* how a class counts in the mean */

static const float *means_of(const run_t *run, int64_t pixel, int64_t groups) {
    return run->means + pixel / LANES * run->width * groups * LANES + pixel % LANES;
}

static uint16_t class_of(const run_t *run, int64_t pixel, int64_t candidate) {
    return run->classes[(pixel / LANES * run->width + candidate) * LANES + pixel % LANES];
}

/* ---- flips along w(s) = start + s * step, under multipliers [C] or NULL ---- */

/* height, slope [k, LANES] of all candidates of the bundle that begins with a pixel. */
static void lines_of(const run_t *run, int64_t pixel, int64_t groups, const double *restrict start,
                     const double *restrict step, const double *restrict multipliers,
                     double *restrict height, double *restrict slope) {
    const float *restrict means = means_of(run, pixel, groups);
    const uint16_t *classes = run->classes + pixel * run->width;
    for (int64_t j = 0; j < run->width; j++) {
        double heights[LANES] = {0}, slopes[LANES] = {0};
        for (int64_t g = 0; g < groups; g++)
            for (int lane = 0; lane < LANES; lane++) {
                heights[lane] += start[g] * means[(j * groups + g) * LANES + lane];
                slopes[lane] += step[g] * means[(j * groups + g) * LANES + lane];
            }
        for (int lane = 0; multipliers && lane < LANES; lane++) {
            double factor = multipliers[classes[j * LANES + lane]];
            heights[lane] *= factor, slopes[lane] *= factor;
        }
        memcpy(height + j * LANES, heights, sizeof heights);
        memcpy(slope + j * LANES, slopes, sizeof slopes);
    }
}

/* Flips with low < s < high of all runs into flips[room] (further ones are only counted), their
 * number is returned. statistics [V, 2, C] += intersections and predictions just right of low, a
 * run's video being its case. scratch [2, largest width, LANES]. */
EXPORT int64_t contested_flips(const run_t *runs, int64_t count, const double *start,
                               const double *step, const double *multipliers, int64_t groups,
                               int64_t classes, double low, double high, int64_t room,
                               flip_t *flips, int64_t *statistics, double *scratch) {
    int64_t found = 0;
    for (int64_t r = 0; r < count; r++) {
        const run_t *run = runs + r;
        int64_t *right = statistics + 2 * classes * run->video, *predicted = right + classes;
        double *height = scratch, *slope = scratch + run->width * LANES;
        for (int64_t pixel = 0; pixel < run->pixels; pixel++) {
            if (pixel % LANES == 0)
                lines_of(run, pixel, groups, start, step, multipliers, height, slope);
            const double *heights = height + pixel % LANES, *slopes = slope + pixel % LANES;
            int64_t now = winner_at(heights, slopes, run->width, low);
            uint16_t target = run->targets[pixel], from = class_of(run, pixel, now);
            double s = low;
            predicted[from]++;
            right[target] += from == target;
            while ((now = overtaker(heights, slopes, run->width, now, s, high, &s)) >= 0) {
                uint16_t to = class_of(run, pixel, now);
                if (found < room)
                    flips[found] = (flip_t){s, target, from, to, (uint16_t)run->video};
                found++;
                from = to;
            }
        }
    }
    return found;
}

/* ---- flips while one class's multiplier grows ---- */

/* Of every lane of a bundle the score of class `moving` (0: it is no candidate), and of the best
 * other candidate with its index (the first, hence lowest, of equals; -1: there is none). */
INLINE void two_best(const run_t *run, int64_t pixel, const double *weights,
                     const double *multipliers, int64_t groups, int64_t moving, double *mine,
                     double *best, int64_t *other) {
    const float *restrict means = means_of(run, pixel, groups);
    const uint16_t *restrict classes = run->classes + pixel * run->width;
    for (int lane = 0; lane < LANES; lane++) mine[lane] = 0, best[lane] = -1, other[lane] = -1;
    for (int64_t j = 0; j < run->width; j++, classes += LANES, means += groups * LANES) {
        double score[LANES] = {0};
        for (int64_t g = 0; g < groups; g++)
            for (int lane = 0; lane < LANES; lane++)
                score[lane] += weights[g] * means[g * LANES + lane];
        for (int lane = 0; lane < LANES; lane++) {
            double scaled = score[lane] * multipliers[classes[lane]];
            int moves = classes[lane] == moving, higher = !moves & (scaled > best[lane]);
            mine[lane] = moves ? score[lane] : mine[lane];
            best[lane] = higher ? scaled : best[lane];
            other[lane] = higher ? j : other[lane];
        }
    }
}

/* Flips to class `moving` while the logarithm of its multiplier goes from low to high, the others
 * standing still: at most one a pixel, where its score meets the best other. Flips beyond room are
 * only counted; their number is returned. statistics [V, 2, C] += counts just right of low. */
EXPORT int64_t contested_class_flips(const run_t *runs, int64_t count, const double *weights,
                                     const double *multipliers, int64_t groups, int64_t classes,
                                     int64_t moving, double low, double high, int64_t room,
                                     flip_t *flips, int64_t *statistics) {
    double mine[LANES], best[LANES];
    int64_t other[LANES], found = 0;
    for (int64_t r = 0; r < count; r++) {
        const run_t *run = runs + r;
        int64_t *right = statistics + 2 * classes * run->video, *predicted = right + classes;
        for (int64_t first = 0; first < run->pixels; first += LANES) {
            int64_t lanes = run->pixels - first < LANES ? run->pixels - first : LANES;
            if (groups == 1)
                two_best(run, first, weights, multipliers, 1, moving, mine, best, other);
            else two_best(run, first, weights, multipliers, groups, moving, mine, best, other);
            for (int64_t lane = 0; lane < lanes; lane++) {
                uint16_t target = run->targets[first + lane], to = (uint16_t)moving, from = to;
                if (other[lane] >= 0) from = class_of(run, first + lane, other[lane]);
                /* log of 0 is -inf: nothing else has a score */
                double at = mine[lane] > 0 ? log(best[lane] / mine[lane]) : INFINITY;
                uint16_t label = other[lane] < 0 || at <= low ? to : from;
                predicted[label]++;
                right[label] += label == target;
                if (label == to || at >= high) continue;
                if (found < room)
                    flips[found] = (flip_t){at, target, from, to, (uint16_t)run->video};
                found++;
            }
        }
    }
    return found;
}

/* ---- the best of the stretches between flips ---- */

/* A mean over outer groups of means over cells (kernels/sweep: Cells). A cell is a class of a case,
 * number case * C + class. */
typedef struct {
    const int64_t *rows, *outer;          /* [V * C] */
    const uint8_t *counted;               /* [V * C] */
    const double *weight, *share;         /* [V * C], [O] */
    int64_t classes, *statistics;         /* [V, 2, C]: right, predicted */
    int64_t *members, *present, groups;   /* [O], [O], how many groups are present */
    double *score, *sum, *weights, *mean; /* [V * C], and of each group's members [O] */
    double total, shares;                 /* of the groups that are present */
} mean_t;

/* Whether a cell is a member of its group's mean. */
INLINE int member(const mean_t *m, int64_t cell, const int64_t *predicted) {
    return m->counted[cell] == ALWAYS || (m->counted[cell] == WHEN_PREDICTED && *predicted > 0);
}

/* A cell joins its group (by = 1), leaves it (-1) or neither (0). */
INLINE void join(mean_t *m, int64_t cell, int by) {
    int64_t g = m->outer[cell];
    m->members[g] += by;
    m->weights[g] = m->members[g] ? m->weights[g] + by * m->weight[cell] : 0.0;
}

/* The score of a cell, and with it its group's sum, is that of its counts. */
INLINE void score(mean_t *m, int64_t cell, int64_t right, int64_t predicted, int dice) {
    int64_t all = m->rows[cell] + predicted - (dice ? 0 : right);
    double fresh = all > 0 ? (double)(dice ? 2 * right : right) / (double)all : 0.0;
    if (m->counted[cell] != NEVER)
        m->sum[m->outer[cell]] += m->weight[cell] * (fresh - m->score[cell]);
    m->score[cell] = fresh;
}

/* The outer mean is that of the group's sum. */
INLINE void settle(mean_t *m, int64_t g) {
    int present = m->weights[g] > 0;
    double fresh = present ? m->sum[g] / m->weights[g] : 0.0;
    m->groups += present - m->present[g];
    m->shares += (double)(present - m->present[g]) * m->share[g];
    m->total += m->share[g] * (fresh - m->mean[g]);
    m->present[g] = present;
    m->mean[g] = fresh;
    if (!m->groups) m->total = m->shares = 0.0;
}

INLINE double value_of(const mean_t *m, int nested) {
    if (nested) return m->shares > 0 ? m->total / m->shares : 0.0;
    return m->weights[0] > 0 ? m->sum[0] / m->weights[0] : 0.0;
}

/* One pixel's label flips. */
INLINE void move(mean_t *m, const flip_t *flip, int nested, int dice) {
    int64_t *right = m->statistics + 2 * m->classes * flip->place, *predicted = right + m->classes;
    const int64_t ids[2] = {flip->from, flip->to}, first = m->classes * flip->place;
    right[flip->target] += (flip->to == flip->target) - (flip->from == flip->target);
    for (int side = 0; side < 2; side++) {
        int64_t c = ids[side], cell = first + c;
        int before = member(m, cell, predicted + c);
        predicted[c] += side ? 1 : -1;
        int by = member(m, cell, predicted + c) - before;
        if (by) join(m, cell, by);
    }
    for (int side = 0; side < 2; side++) {
        int64_t c = ids[side], cell = first + c;
        score(m, cell, right[c], predicted[c], dice);
        if (nested) settle(m, m->outer[cell]);
    }
}

INLINE void scan(const mean_t *start, const flip_t *flips, int64_t n, double low, double high,
                 double narrowest, double *best, int nested, int dice) {
    mean_t own = *start, *m = &own; /* in registers */
    double from = low;
    for (int64_t i = 0; i <= n; i++) {
        double to = i < n ? flips[i].at : high;
        if (to > from) { /* between flips; never inside a group of equal ones */
            double value = value_of(m, nested), width = best[2] - best[1];
            int better = value > best[0] + 1e-12 || (value > best[0] - 1e-12 && to - from > width);
            if (better && to - from >= narrowest)
                memcpy(best, (double[]){value, from, to}, 3 * sizeof *best);
            from = to;
        }
        if (i < n) move(m, flips + i, nested, dice);
    }
}

/* Flips [n], sorted, from statistics [V, 2, C] at low: best[3] = mean score and ends of the best
 * interval that is at least `narrowest` wide, the wider one of equals; best[0] stays -1 if there is
 * none. rows, counted, weight, outer [V, C], share [O]: mean_t. Scratch: score [V, C], sums [3, O],
 * members [2, O]. */
EXPORT void contested_scan(const flip_t *flips, int64_t n, int64_t cases, int64_t classes,
                           int64_t outers, const int64_t *rows, const uint8_t *counted,
                           const double *weight, const int64_t *outer, const double *share,
                           int64_t dice, int64_t *statistics, double low, double high,
                           double narrowest, double *cell_scores, double *sums, int64_t *members,
                           double *best) {
    mean_t m = {.rows = rows, .outer = outer, .counted = counted, .weight = weight, .share = share};
    m.classes = classes, m.statistics = statistics, m.score = cell_scores;
    m.members = members, m.present = members + outers;
    m.sum = sums, m.weights = sums + outers, m.mean = sums + 2 * outers;
    memset(cell_scores, 0, (size_t)(cases * classes) * sizeof *cell_scores);
    memset(sums, 0, 3 * (size_t)outers * sizeof *sums);
    memset(members, 0, 2 * (size_t)outers * sizeof *members);
    for (int64_t cell = 0; cell < cases * classes; cell++) {
        const int64_t *right = statistics + cell / classes * 2 * classes + cell % classes;
        if (member(&m, cell, right + classes)) join(&m, cell, 1);
        score(&m, cell, right[0], right[classes], dice != 0);
    }
    for (int64_t g = 0; g < outers; g++) settle(&m, g);
    memcpy(best, (double[]){-1, low, low}, 3 * sizeof *best);
    if (outers > 1) scan(&m, flips, n, low, high, narrowest, best, 1, dice != 0);
    else if (dice) scan(&m, flips, n, low, high, narrowest, best, 0, 1);
    else scan(&m, flips, n, low, high, narrowest, best, 0, 0);
}

/* ---- bounds over a simplex ---- */

/* runs [count]. ids [n]: undecided pixels of the parent, run << 32 | pixel; -1 is returned where
 * one is no pixel of the runs. Those still undecided over the simplex with these corners [G, G] are
 * written to `open`, their number is returned. Scores are linear in w, so "i beats j everywhere" is
 * checked at the corners, with `slack` for rounding. right, wrong [C] += decided pixels by
 * predicted class; gain [C] += undecided pixels that may become right. scratch [largest width, G].
 */
EXPORT int64_t contested_bound(const run_t *runs, int64_t count, const int64_t *ids, int64_t n,
                               const double *corners, int64_t groups, double slack, int64_t *open,
                               int64_t *right, int64_t *wrong, int64_t *gain, double *scratch) {
    int64_t left = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t place = ids[i] >> 32, pixel = ids[i] & 0xffffffff;
        if (place < 0 || place >= count || pixel >= runs[place].pixels) return -1;
        const run_t *run = runs + place;
        int64_t possible = 0, last = 0, hopeful = 0, target = run->targets[pixel];
        const float *means = means_of(run, pixel, groups);
        for (int64_t j = 0; j < run->width; j++)
            for (int64_t v = 0; v < groups; v++) {
                double sum = 0;
                for (int64_t g = 0; g < groups; g++)
                    sum += corners[v * groups + g] * means[(j * groups + g) * LANES];
                scratch[j * groups + v] = sum;
            }
        for (int64_t j = 0; j < run->width; j++) {
            const double *mine = scratch + j * groups;
            int beaten = 0;
            for (int64_t k = 0; k < run->width && !beaten; k++) {
                const double *theirs = scratch + k * groups;
                beaten = k != j;
                for (int64_t v = 0; v < groups && beaten; v++)
                    beaten = theirs[v] * (1 - slack) > mine[v] * (1 + slack) + 1e-30;
            }
            if (beaten) continue;
            possible++;
            last = class_of(run, pixel, j);
            hopeful |= last == target;
        }
        if (possible == 1) {
            (last == target ? right : wrong)[last]++;
        } else {
            open[left++] = ids[i];
            gain[target] += hopeful;
        }
    }
    return left;
}
