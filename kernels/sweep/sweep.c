/* Weights that move: where labels flip along a segment of weights, the best interval between flips,
 * and bounds over a simplex of weights. Everything here is float64 and decides nothing by itself:
 * the caller evaluates what is found in float32, and bounds keep a slack for its rounding.
 * Contract: kernels/sweep/__init__.py; the same, slowly: naive.py. */
#include "envelope.h"
#include "kernels.h"

enum { NEVER = 0, ALWAYS = 1, WHEN_PREDICTED = 2 }; /* how a class counts in the mean */

static const float *means_of(const run_t *run, int64_t pixel, int64_t groups) {
    return run->means + pixel / LANES * run->width * groups * LANES + pixel % LANES;
}

static uint16_t class_of(const run_t *run, int64_t pixel, int64_t candidate) {
    return run->classes[(pixel / LANES * run->width + candidate) * LANES + pixel % LANES];
}

/* ---- flips along w(s) = start + s * step ---- */

/* height, slope [k, LANES] of all candidates of the bundle that begins with a pixel. */
static void lines_of(const run_t *run, int64_t pixel, int64_t groups, const double *restrict start,
                     const double *restrict step, double *restrict height, double *restrict slope) {
    const float *restrict means = means_of(run, pixel, groups);
    for (int64_t j = 0; j < run->width; j++) {
        double heights[LANES] = {0}, slopes[LANES] = {0};
        for (int64_t g = 0; g < groups; g++)
            for (int lane = 0; lane < LANES; lane++) {
                heights[lane] += start[g] * means[(j * groups + g) * LANES + lane];
                slopes[lane] += step[g] * means[(j * groups + g) * LANES + lane];
            }
        memcpy(height + j * LANES, heights, sizeof heights);
        memcpy(slope + j * LANES, slopes, sizeof slopes);
    }
}

/* Flips with low < s < high of all runs into flips[room] (further ones are only counted), their
 * number is returned. statistics [2, C] += intersections and predictions just right of low. scratch
 * [2, largest width, LANES]. */
int64_t contested_flips(const run_t *runs, int64_t count, const double *start, const double *step,
                        int64_t groups, int64_t classes, double low, double high, int64_t room,
                        flip_t *flips, int64_t *statistics, double *scratch) {
    int64_t found = 0;
    for (int64_t r = 0; r < count; r++) {
        const run_t *run = runs + r;
        double *height = scratch, *slope = scratch + run->width * LANES;
        for (int64_t pixel = 0; pixel < run->pixels; pixel++) {
            if (pixel % LANES == 0) lines_of(run, pixel, groups, start, step, height, slope);
            const double *heights = height + pixel % LANES, *slopes = slope + pixel % LANES;
            int64_t now = winner_at(heights, slopes, run->width, low);
            uint16_t target = run->targets[pixel], from = class_of(run, pixel, now);
            double s = low;
            statistics[classes + from]++;
            statistics[target] += from == target;
            while ((now = overtaker(heights, slopes, run->width, now, s, high, &s)) >= 0) {
                uint16_t to = class_of(run, pixel, now);
                if (found < room) flips[found] = (flip_t){s, target, from, to, 0};
                found++;
                from = to;
            }
        }
    }
    return found;
}

static double iou_of(const int64_t *rows, const int64_t *right, const int64_t *predicted,
                     int64_t c) {
    int64_t all = rows[c] + predicted[c] - right[c];
    return all > 0 ? (double)right[c] / (double)all : 0.0;
}

/* Whether a class is a member of the mean. */
static int member(const uint8_t *counted, const int64_t *predicted, int64_t c) {
    return counted[c] == ALWAYS || (counted[c] == WHEN_PREDICTED && predicted[c] > 0);
}

/* Flips [n], sorted, from statistics [2, C] at low: best[3] = mean score and ends of the best
 * interval that is at least `narrowest` wide, the wider one of equals. rows [C]; counted [C]:
 * NEVER, ALWAYS or WHEN_PREDICTED; iou [C] is scratch. best[0] stays -1 if there is none. */
void contested_scan(const flip_t *flips, int64_t n, const int64_t *rows, int64_t *statistics,
                    int64_t classes, const uint8_t *counted, double low, double high,
                    double narrowest, double *iou, double *best) {
    int64_t *right = statistics, *predicted = statistics + classes, members = 0;
    double sum = 0, from = low;
    best[0] = -1;
    best[1] = best[2] = low;
    for (int64_t c = 0; c < classes; c++) {
        iou[c] = iou_of(rows, right, predicted, c);
        if (counted[c] != NEVER) sum += iou[c];
        members += member(counted, predicted, c);
    }
    for (int64_t i = 0; i <= n; i++) {
        double to = i < n ? flips[i].at : high;
        if (to > from) { /* between flips; never inside a group of equal ones */
            double value = members ? sum / (double)members : 0.0, width = best[2] - best[1];
            int better = value > best[0] + 1e-12 || (value > best[0] - 1e-12 && to - from > width);
            if (better && to - from >= narrowest)
                memcpy(best, (double[]){value, from, to}, 3 * sizeof *best);
            from = to;
        }
        if (i == n) break;
        const flip_t *flip = flips + i;
        members -= member(counted, predicted, flip->from) + member(counted, predicted, flip->to);
        predicted[flip->from]--;
        predicted[flip->to]++;
        members += member(counted, predicted, flip->from) + member(counted, predicted, flip->to);
        right[flip->target] += (flip->to == flip->target) - (flip->from == flip->target);
        for (int side = 0; side < 2; side++) {
            int64_t c = side ? flip->to : flip->from;
            double fresh = iou_of(rows, right, predicted, c);
            if (counted[c] != NEVER) sum += fresh - iou[c];
            iou[c] = fresh;
        }
    }
}

/* ---- bounds over a simplex ---- */

/* runs [count]. ids [n]: undecided pixels of the parent, run << 32 | pixel; -1 is returned where
 * one is no pixel of the runs. Those still undecided over the simplex with these corners [G, G] are
 * written to `open`, their number is returned. Scores are linear in w, so "i beats j everywhere" is
 * checked at the corners, with `slack` for rounding. right, wrong [C] += decided pixels by
 * predicted class; gain [C] += undecided pixels that may become right. scratch [largest width, G].
 */
int64_t contested_bound(const run_t *runs, int64_t count, const int64_t *ids, int64_t n,
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
