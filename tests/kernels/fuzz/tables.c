/* Products of arbitrary rows with a matrix, which are compared with double precision, and quantization, which is exact. */
#include "fuzz.h"

#define ROWS 70
#define MOST 101

static void check_products(input *in, uint64_t *state) {
    int64_t n = take_number(in, 0, ROWS), dim = take_number(in, 0, 12), columns = take_number(in, 0, MOST);
    int is_int8 = take_byte(in) & 1;
    float *floats = allocate((size_t)(n * dim) * sizeof *floats), *scales = allocate((size_t)n * sizeof *scales);
    int8_t *bytes = allocate((size_t)(n * dim));
    float *matrix = allocate((size_t)(dim * columns) * sizeof *matrix);
    float *products = allocate((size_t)(n * columns) * sizeof *products);
    float *largest = allocate((size_t)columns * sizeof *largest);
    for (int64_t i = 0; i < n * dim; i++) bytes[i] = (int8_t)(in->n ? take_byte(in) : random_bits(state));
    for (int64_t i = 0; i < n; i++) scales[i] = random_float(state);
    for (int64_t i = 0; i < n * dim; i++) floats[i] = is_int8 ? (float)bytes[i] * scales[i / dim] : random_float(state);
    for (int64_t i = 0; i < dim * columns; i++) matrix[i] = random_float(state);
    int64_t allocations = random_below(state, 8) ? -1 : random_below(state, 2); /* of two */
    int32_t level = sentenc_simd();
    for (int32_t other = 0; other <= SENTENC_NEON; other++) {
        if (sentenc_set_simd(other) != SENTENC_OK) continue;
        fuzz_allocations_left = allocations;
        int32_t status = sentenc_multiply(is_int8 ? (void *)bytes : floats, is_int8 ? scales : NULL, n, dim, matrix,
                                          columns, products, largest);
        fuzz_allocations_left = -1;
        CHECK(status == (allocations < 0 ? SENTENC_OK : SENTENC_NO_MEMORY));
        for (int64_t c = 0; status == SENTENC_OK && c < columns; c++) {
            float peak = 0;
            for (int64_t r = 0; r < n; r++) {
                double expected = 0, terms = 1e-30;
                for (int64_t d = 0; d < dim; d++) {
                    double term = (double)floats[r * dim + d] * matrix[d * columns + c];
                    expected += term;
                    terms += fabs(term);
                }
                float got = products[r * columns + c];
                CHECK(fabs(got - expected) <= 1e-5 * terms);
                if (fabsf(got) > peak) peak = fabsf(got);
                if (fuzz_report && other == level) fprintf(fuzz_report, "%.9g~%.3g ", got, terms);
            }
            CHECK(largest[c] == peak);
        }
    }
    sentenc_set_simd(level);
    free(floats);
    free(scales);
    free(bytes);
    free(matrix);
    free(products);
    free(largest);
}

static void check_quantization(input *in, uint64_t *state) {
    static const float special[] = {NAN, INFINITY, -INFINITY, 0.5f, -1.5f, 2.5f, 127.5f, -128.5f, 1e30f, -0.0f};
    int64_t n = take_number(in, 0, 9), columns = take_number(in, 0, MOST), gap = take_byte(in) % 5;
    int64_t size = n > 0 ? (n - 1) * (columns + gap) + columns : 0;
    float *values = allocate((size_t)(n * columns) * sizeof *values);
    float *steps = allocate((size_t)columns * sizeof *steps);
    int8_t *rows = allocate((size_t)size);
    for (int64_t i = 0; i < n * columns; i++)
        values[i] = random_below(state, 8) ? 200 * random_float(state) : special[random_below(state, 10)];
    for (int64_t c = 0; c < columns; c++) steps[c] = random_below(state, 2) ? 1 : 1e-3f + fabsf(random_float(state));
    int32_t level = sentenc_simd();
    for (int32_t other = 0; other <= SENTENC_NEON; other++) {
        if (sentenc_set_simd(other) != SENTENC_OK) continue;
        for (int64_t i = 0; i < size; i++) rows[i] = 77;
        CHECK(sentenc_quantize(values, n, columns, steps, rows, columns + gap) == SENTENC_OK);
        for (int64_t i = 0; i < size; i++) {
            int64_t r = i / (columns + gap), c = i % (columns + gap);
            if (c >= columns) {
                CHECK(rows[i] == 77);
                continue;
            }
            float x = values[r * columns + c] / steps[c];
            CHECK(rows[i] == (x != x || x < -128 ? -128 : x > 127 ? 127 : (int)rintf(x)));
            if (fuzz_report && other == level) fprintf(fuzz_report, "%d ", rows[i]);
        }
    }
    sentenc_set_simd(level);
    free(values);
    free(steps);
    free(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint64_t state = take_seed(&in);
    check_quantization(&in, &state);
    check_products(&in, &state);
    if (fuzz_report) fprintf(fuzz_report, "end\n");
    float x = 1;
    int8_t byte;
    CHECK(sentenc_multiply(&x, NULL, -1, 1, &x, 1, &x, &x) == SENTENC_BAD_ARGUMENT);
    CHECK(sentenc_multiply(&x, NULL, INT64_MAX, 1, &x, 1, &x, &x) == SENTENC_BAD_ARGUMENT);
    CHECK(sentenc_multiply(NULL, NULL, 1, 1, &x, 1, &x, &x) == SENTENC_BAD_ARGUMENT);
    CHECK(sentenc_quantize(&x, 1, 2, &x, &byte, 1) == SENTENC_BAD_ARGUMENT);
    CHECK(sentenc_quantize(&x, INT64_MAX, 1, &x, &byte, 2) == SENTENC_BAD_ARGUMENT);
    return 0;
}
