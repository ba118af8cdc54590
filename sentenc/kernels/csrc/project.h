/* Adds the projected features of several sentences to their vectors: out += features @ projection. */
#ifndef SENTENC_PROJECT_H
#define SENTENC_PROJECT_H

#include "internal.h"
#include "simd.h"

/* Projects ROWS sentences to the BLOCK * FLOATS columns from `d` on. Each number is a sum in the order of the
 * features, whatever ROWS and BLOCK are, so that a vector does not depend on its neighbors. */
#define DEFINE_PROJECT(ROWS, BLOCK)                                                                             \
    static inline void project_##ROWS##_##BLOCK(const float *features, int64_t n_features,                     \
                                                const float *projection, int64_t dim, int64_t d, float *out,   \
                                                int64_t out_dim) {                                              \
        floats sums[ROWS][BLOCK];                                                                               \
        for (int r = 0; r < ROWS; r++)                                                                          \
            for (int b = 0; b < BLOCK; b++) sums[r][b] = load_floats(out + r * out_dim + d + b * FLOATS);       \
        for (int64_t f = 0; f < n_features; f++) {                                                              \
            const float *row = projection + f * dim + d;                                                        \
            for (int r = 0; r < ROWS; r++) {                                                                    \
                floats feature = all_floats(features[r * n_features + f]);                                      \
                for (int b = 0; b < BLOCK; b++)                                                                 \
                    sums[r][b] = multiply_add(feature, load_floats(row + b * FLOATS), sums[r][b]);              \
            }                                                                                                   \
        }                                                                                                       \
        for (int r = 0; r < ROWS; r++)                                                                          \
            for (int b = 0; b < BLOCK; b++) store_floats(out + r * out_dim + d + b * FLOATS, sums[r][b]);       \
    }
DEFINE_PROJECT(4, 2)
DEFINE_PROJECT(1, 8)
DEFINE_PROJECT(1, 2)
DEFINE_PROJECT(1, 1)

static void project_rest(const float *features, int64_t n_features, const float *projection, int64_t dim, int64_t d,
                         float *out) {
    for (; d + FLOATS <= dim; d += FLOATS) project_1_1(features, n_features, projection, dim, d, out, dim);
    for (; d < dim; d++) {
        floats sum = zero_floats();
        float padded[FLOATS] = {out[d]};
        sum = load_floats(padded);
        for (int64_t f = 0; f < n_features; f++) {
            padded[0] = projection[f * dim + d];
            sum = multiply_add(all_floats(features[f]), load_floats(padded), sum);
        }
        store_floats(padded, sum);
        out[d] = padded[0];
    }
}

static void project(const float *features, int64_t n_rows, int64_t n_features, const float *projection, int64_t dim,
                    float *out, int64_t out_dim) {
    int64_t r = 0;
    for (; r < n_rows; r += r + 4 <= n_rows ? 4 : 1) {
        const float *first = features + r * n_features;
        float *target = out + r * out_dim;
        int64_t d = 0;
        if (r + 4 <= n_rows)
            for (; d + 2 * FLOATS <= dim; d += 2 * FLOATS)
                project_4_2(first, n_features, projection, dim, d, target, out_dim);
        else
            for (; d + 8 * FLOATS <= dim; d += 8 * FLOATS)
                project_1_8(first, n_features, projection, dim, d, target, out_dim);
        int64_t rows = r + 4 <= n_rows ? 4 : 1;
        for (int64_t i = 0; i < rows; i++)
            project_rest(first + i * n_features, n_features, projection, dim, d, target + i * out_dim);
    }
}

#endif
