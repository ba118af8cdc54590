/* Keeps the k best of many scores in one heap for each query, with the worst score on top. */
#ifndef SENTENC_SELECT_H
#define SENTENC_SELECT_H

#include "internal.h"

/* NaN is worse than every number. */
static inline int is_worse(float score_a, int64_t row_a, float score_b, int64_t row_b) {
    if (score_a != score_a || score_b != score_b)
        return score_a != score_a && (score_b == score_b || row_a > row_b);
    return score_a < score_b || (score_a == score_b && row_a > row_b);
}

static inline void swap(float *scores, int64_t *rows, int64_t i, int64_t j) {
    float score = scores[i];
    int64_t row = rows[i];
    scores[i] = scores[j];
    rows[i] = rows[j];
    scores[j] = score;
    rows[j] = row;
}

static void sift_down(float *scores, int64_t *rows, int64_t count) {
    int64_t i = 0;
    for (int64_t child = 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count && is_worse(scores[child + 1], rows[child + 1], scores[child], rows[child])) child++;
        if (!is_worse(scores[child], rows[child], scores[i], rows[i])) return;
        swap(scores, rows, i, child);
        i = child;
    }
}

static void sift_up(float *scores, int64_t *rows, int64_t i) {
    while (i > 0) {
        int64_t parent = (i - 1) / 2;
        if (!is_worse(scores[i], rows[i], scores[parent], rows[parent])) return;
        swap(scores, rows, i, parent);
        i = parent;
    }
}

static void add_scores(const float *scores, int64_t n_rows, int64_t first_row, const uint8_t *is_left_out,
                       float *best_scores, int64_t *best_rows, int64_t k, int64_t *count) {
    for (int64_t j = 0; j < n_rows; j++) {
        if (*count == k) {
            /* Of equal scores, the older row stays. The first comparison decides nearly all rows. */
            if (scores[j] <= best_scores[0] || is_left_out[j]) continue;
            if (!is_worse(best_scores[0], best_rows[0], scores[j], first_row + j)) continue;
            best_scores[0] = scores[j];
            best_rows[0] = first_row + j;
            sift_down(best_scores, best_rows, k);
        } else if (!is_left_out[j]) {
            best_scores[*count] = scores[j];
            best_rows[*count] = first_row + j;
            sift_up(best_scores, best_rows, (*count)++);
        }
    }
}

#endif
