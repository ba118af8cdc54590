/* Computes the tables of a CSE: products of all token embeddings with the filters, in whole quantization steps. */
#ifndef SENTENC_TABLES_H
#define SENTENC_TABLES_H

#include "internal.h"
#include "simd.h"

/* The sums of a block of rows and a panel of columns stay in registers: 24 of 32, or 12 of 16. */
#if defined(SENTENC_HAS_AVX512) || defined(__aarch64__)
#define BLOCK_ROWS 8
#else
#define BLOCK_ROWS 4
#endif
/* Rows that are multiplied with a panel while it stays in the cache. */
#define CHUNK_ROWS (8 * BLOCK_ROWS)
#define PANEL_VECTORS 3
#define PANEL (PANEL_VECTORS * FLOATS)

/* Writes the products of BLOCK_ROWS rows of `dim` numbers with a panel (dim, PANEL). */
static void multiply_block(const float *rows, int64_t dim, const float *panel, float *tile) {
    floats sums[BLOCK_ROWS][PANEL_VECTORS];
    for (int r = 0; r < BLOCK_ROWS; r++)
        for (int v = 0; v < PANEL_VECTORS; v++) sums[r][v] = zero_floats();
    for (int64_t d = 0; d < dim; d++) {
        floats columns[PANEL_VECTORS];
        for (int v = 0; v < PANEL_VECTORS; v++) columns[v] = load_floats(panel + d * PANEL + v * FLOATS);
        for (int r = 0; r < BLOCK_ROWS; r++) {
            floats x = all_floats(rows[r * dim + d]);
            for (int v = 0; v < PANEL_VECTORS; v++) sums[r][v] = multiply_add(x, columns[v], sums[r][v]);
        }
    }
    for (int r = 0; r < BLOCK_ROWS; r++)
        for (int v = 0; v < PANEL_VECTORS; v++) store_floats(tile + r * PANEL + v * FLOATS, sums[r][v]);
}

static void copy_rows(const void *rows, const float *scales, int64_t first, int64_t n, int64_t dim, float *chunk) {
    if (!scales) {
        memcpy(chunk, (const float *)rows + first * dim, (size_t)(n * dim) * sizeof *chunk);
        return;
    }
    for (int64_t r = 0; r < n; r++) {
        const int8_t *row = (const int8_t *)rows + (first + r) * dim;
        for (int64_t d = 0; d < dim; d++) chunk[r * dim + d] = (float)row[d] * scales[first + r];
    }
}

/* Copies a tile to its place, and raises the largest size of each column. */
static void store_tile(const float *tile, int64_t n_rows, int64_t n, float *products, int64_t columns,
                       float *largest) {
    for (int64_t r = 0; r < n_rows; r++) {
        const float *from = tile + r * PANEL;
        float *to = products + r * columns;
        for (int64_t c = 0; c < n; c++) {
            float size = from[c] < 0 ? -from[c] : from[c];
            largest[c] = size > largest[c] ? size : largest[c];
            to[c] = from[c];
        }
    }
}

static void multiply_matrix(const void *rows, const float *scales, int64_t n_rows, int64_t dim, const float *matrix,
                            int64_t columns, float *products, float *largest, float *panels, float *chunk) {
    float tile[BLOCK_ROWS * PANEL];
    memset(largest, 0, (size_t)columns * sizeof *largest);
    for (int64_t first = 0; first < columns; first += PANEL)
        for (int64_t d = 0; d < dim; d++)
            for (int64_t c = 0; c < PANEL; c++)
                panels[first * dim + d * PANEL + c] = first + c < columns ? matrix[d * columns + first + c] : 0;
    memset(chunk, 0, (size_t)(CHUNK_ROWS * dim) * sizeof *chunk);
    for (int64_t row = 0; row < n_rows; row += CHUNK_ROWS) {
        int64_t n = n_rows - row < CHUNK_ROWS ? n_rows - row : CHUNK_ROWS;
        copy_rows(rows, scales, row, n, dim, chunk);
        for (int64_t first = 0; first < columns; first += PANEL)
            for (int64_t r = 0; r < n; r += BLOCK_ROWS) {
                multiply_block(chunk + r * dim, dim, panels + first * dim, tile);
                store_tile(tile, n - r < BLOCK_ROWS ? n - r : BLOCK_ROWS,
                           columns - first < PANEL ? columns - first : PANEL,
                           products + (row + r) * columns + first, columns, largest + first);
            }
    }
}

static void quantize_rows(const float *values, int64_t n_rows, int64_t columns, const float *steps, int8_t *rows,
                          int64_t stride) {
    for (int64_t r = 0; r < n_rows; r++) {
        const float *from = values + r * columns;
        int8_t *to = rows + r * stride;
        int64_t c = 0;
        for (; c + FLOATS <= columns; c += FLOATS)
            store_rounded(to + c, divide(load_floats(from + c), load_floats(steps + c)));
        if (c == columns) continue;
        float last[FLOATS] = {0}, last_steps[FLOATS];
        int8_t rounded[FLOATS];
        for (int64_t i = 0; i < FLOATS; i++) last_steps[i] = c + i < columns ? steps[c + i] : 1;
        memcpy(last, from + c, (size_t)(columns - c) * sizeof *last);
        store_rounded(rounded, divide(load_floats(last), load_floats(last_steps)));
        memcpy(to + c, rounded, (size_t)(columns - c));
    }
}

#endif
