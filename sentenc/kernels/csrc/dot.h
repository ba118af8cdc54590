/* Inner products of rows in int8 with a query in int16: the first pass of an exact search. */
#ifndef SENTENC_DOT_H
#define SENTENC_DOT_H

#include "internal.h"
#include "simd.h"

static void dot_rows(const int8_t *rows, int64_t stride, int64_t n_rows, int64_t dim, const int16_t *query,
                     int32_t *products) {
    for (int64_t i = 0; i < n_rows; i++) {
        const int8_t *row = rows + i * stride;
        ints sum = zero_ints();
        int64_t d = 0;
        for (; d + SHORTS <= dim; d += SHORTS)
            sum = multiply_pairs(bytes_to_shorts(row + d), load_shorts(query + d), sum);
        int32_t product = sum_ints(sum);
        for (; d < dim; d++) product += row[d] * query[d];
        products[i] = product;
    }
}

#endif
