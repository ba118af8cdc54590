/* Inner products of arbitrary rows and queries. They are exact with every instruction set. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint64_t state = take_seed(&in);
    int64_t n = take_byte(&in) % 9, dim = take_number(&in, 0, 300), gap = take_byte(&in) % 5;
    int64_t largest = random_below(&state, 8) ? 16384 / (dim / 512 + 1) : 32768;
    int16_t *query = allocate((size_t)dim * sizeof *query);
    int64_t bytes = n > 0 ? (n - 1) * (dim + gap) + dim : 0, sum = 0;
    int8_t *rows = allocate((size_t)bytes);
    int32_t *products = allocate((size_t)n * sizeof *products);
    for (int64_t d = 0; d < dim; d++) query[d] = (int16_t)(random_below(&state, 2 * largest) - largest);
    for (int64_t i = 0; i < bytes; i++) rows[i] = (int8_t)(in.n ? take_byte(&in) : random_bits(&state));
    for (int64_t d = 0; d < dim; d++) sum = llabs(query[d]) > sum ? llabs(query[d]) : sum;
    int fits = sum * dim * 128 <= INT32_MAX;
    int32_t level = sentenc_simd();
    for (int32_t other = 0; other <= SENTENC_NEON; other++) {
        if (sentenc_set_simd(other) != SENTENC_OK) continue;
        int32_t status = sentenc_dot_int8(rows, dim + gap, n, dim, query, products);
        CHECK(status == (fits || n == 0 ? SENTENC_OK : SENTENC_BAD_ARGUMENT));
        for (int64_t i = 0; status == SENTENC_OK && i < n; i++) {
            int64_t expected = 0;
            for (int64_t d = 0; d < dim; d++) expected += (int64_t)rows[i * (dim + gap) + d] * query[d];
            CHECK(products[i] == expected);
        }
    }
    sentenc_set_simd(level);
    if (fuzz_report) fprintf(fuzz_report, "products %lld\n", (long long)(fits && n ? products[n - 1] : 0));
    free(query);
    free(rows);
    free(products);
    return 0;
}
