/* The word path and the plain average: sums of scaled rows. */
#ifndef SENTENC_WORDS_H
#define SENTENC_WORDS_H

#include <float.h>

#include "internal.h"
#include "simd.h"

/* out[:BLOCK * FLOATS] = factor * sum_i scales[ids[i]] * row_i. The sums stay in registers. */
#define DEFINE_SUM_ROWS(BLOCK)                                                                                  \
    static inline void sum_rows_##BLOCK(const int8_t *rows, int64_t stride, const float *scales,               \
                                        const int32_t *ids, int64_t n, float factor, float *out) {             \
        floats sums[BLOCK];                                                                                     \
        for (int b = 0; b < BLOCK; b++) sums[b] = zero_floats();                                                \
        for (int64_t i = 0; i < n; i++) {                                                                       \
            const int8_t *row = rows + ids[i] * stride;                                                         \
            floats scale = all_floats(scales[ids[i]]);                                                          \
            for (int b = 0; b < BLOCK; b++)                                                                     \
                sums[b] = multiply_add(scale, bytes_to_floats(row + b * FLOATS), sums[b]);                      \
        }                                                                                                       \
        for (int b = 0; b < BLOCK; b++) store_floats(out + b * FLOATS, multiply(all_floats(factor), sums[b]));  \
    }
DEFINE_SUM_ROWS(8)
DEFINE_SUM_ROWS(4)
DEFINE_SUM_ROWS(1)

static void sum_int8_rows(const int8_t *rows, int64_t stride, int64_t dim, const float *scales, const int32_t *ids,
                          int64_t n, float factor, float *out) {
    int64_t d = 0;
    for (; d + 8 * FLOATS <= dim; d += 8 * FLOATS) sum_rows_8(rows + d, stride, scales, ids, n, factor, out + d);
    for (; d + 4 * FLOATS <= dim; d += 4 * FLOATS) sum_rows_4(rows + d, stride, scales, ids, n, factor, out + d);
    for (; d + FLOATS <= dim; d += FLOATS) sum_rows_1(rows + d, stride, scales, ids, n, factor, out + d);
    for (; d < dim; d++) {
        float sum = 0;
        for (int64_t i = 0; i < n; i++) sum += scales[ids[i]] * rows[ids[i] * stride + d];
        out[d] = factor * sum;
    }
}

static void sum_float_rows(const float *rows, int64_t stride, int64_t dim, const float *scales, const int32_t *ids,
                           int64_t n, float factor, float *out) {
    memset(out, 0, (size_t)dim * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        const float *row = (const float *)((const char *)rows + ids[i] * stride);
        float scale = scales[ids[i]];
        for (int64_t d = 0; d < dim; d++) out[d] += scale * row[d];
    }
    for (int64_t d = 0; d < dim; d++) out[d] *= factor;
}

/* out[:D] = sum_i a_i x_i P / sum_i a_i and out[D:D + A] = mean_i y_i, for n of at least 1. */
static void pool_words(const sentenc_cse *model, const int32_t *ids, int64_t n, float *out) {
    int64_t dim = model->word_dim, average_dim = model->average_dim, stride = model->word_stride;
    float total = 0;
    if (dim > 0)
        for (int64_t i = 0; i < n; i++) total += model->word_weights[ids[i]];
    /* If all weights underflow, the result is zero and not NaN. */
    float factor = total >= FLT_MIN ? 1 / total : 0;
    if (model->is_int8) {
        const int8_t *rows = model->word_rows;
        sum_int8_rows(rows, stride, dim, model->word_scales, ids, n, factor, out);
        sum_int8_rows(rows + dim, stride, average_dim, model->average_scales, ids, n, 1 / (float)n, out + dim);
    } else {
        const float *rows = model->word_rows;
        sum_float_rows(rows, stride, dim, model->word_scales, ids, n, factor, out);
        sum_float_rows(rows + dim, stride, average_dim, model->average_scales, ids, n, 1 / (float)n, out + dim);
    }
}

#endif
