/* Selects the best of random scores, in blocks of random sizes, and compares them with a sort. */
#include "fuzz.h"

typedef struct {
    float score;
    int64_t row;
} candidate;

static int compare(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    int x_nan = x->score != x->score, y_nan = y->score != y->score;
    if (x_nan || y_nan ? x_nan != y_nan : x->score != y->score)
        return x_nan || y_nan ? (x_nan ? 1 : -1) : x->score > y->score ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static float random_score(uint64_t *state) {
    static const float special[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f, 1.0f, 2.0f};
    return random_below(state, 4) ? random_float(state) : special[random_below(state, 8)];
}

static void add_block(uint64_t *state, candidate *all, int64_t *n, int64_t rows, float *best, int64_t *best_rows,
                      int64_t k, int64_t *count) {
    float *scores = allocate((size_t)rows * sizeof *scores);
    uint8_t *is_left_out = allocate((size_t)rows);
    int64_t first = *n;
    for (int64_t i = 0; i < rows; i++, (*n)++) {
        scores[i] = random_score(state);
        is_left_out[i] = random_below(state, 4) == 0;
        all[*n] = (candidate){is_left_out[i] ? NAN : scores[i], is_left_out[i] ? INT64_MAX : *n};
    }
    CHECK(sentenc_select(scores, 1, rows, first, is_left_out, best, best_rows, k, count) == SENTENC_OK);
    free(scores);
    free(is_left_out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint64_t state = take_seed(&in);
    int64_t k = take_number(&in, 0, 40), count = 0, n = 0, kept = 0;
    float *best = allocate((size_t)k * sizeof *best);
    int64_t *best_rows = allocate((size_t)k * sizeof *best_rows);
    candidate *all = allocate(16 * 256 * sizeof *all), *chosen = allocate((size_t)k * sizeof *chosen);
    for (int blocks = 0; in.n > 0 && blocks < 16; blocks++)
        add_block(&state, all, &n, take_byte(&in), best, best_rows, k, &count);
    qsort(all, (size_t)n, sizeof *all, compare);
    for (int64_t i = 0; i < n; i++) kept += all[i].row != INT64_MAX;
    CHECK(count == (kept < k ? kept : k));
    for (int64_t i = 0; i < count; i++) chosen[i] = (candidate){best[i], best_rows[i]};
    qsort(chosen, (size_t)count, sizeof *chosen, compare);
    for (int64_t i = 0; i < count; i++) CHECK(chosen[i].row == all[i].row);
    for (int64_t i = 0; fuzz_report && i < count; i++) fprintf(fuzz_report, "%lld ", (long long)chosen[i].row);
    if (fuzz_report) fprintf(fuzz_report, "count %lld\n", (long long)count);
    int64_t bad = k + 1;
    if (k > 0) CHECK(sentenc_select(best, 1, 1, 0, (uint8_t *)best, best, best_rows, k, &bad) == SENTENC_BAD_ARGUMENT);
    free(best);
    free(best_rows);
    free(all);
    free(chosen);
    return 0;
}
