/* Folds arbitrary bytes with arbitrary tables. A text alone, and a buffer of the exact size, change nothing. */
#include "fuzz.h"

#define N_PAGES 0x1100

typedef struct {
    sentenc_fold_table table;
    int32_t *page_of;
    int64_t *starts;
    int8_t *lengths;
    uint8_t *pool;
} table;

static table random_table(uint64_t *state) {
    table t = {0};
    int64_t n_pages = t.table.n_pages = random_below(state, 4);
    int64_t pool_size = t.table.pool_size = random_below(state, 400);
    int is_damaged = random_below(state, 16) == 0;
    t.table.page_of = t.page_of = allocate(N_PAGES * sizeof *t.page_of);
    t.table.starts = t.starts = allocate((size_t)n_pages * 256 * sizeof *t.starts);
    t.table.lengths = t.lengths = allocate((size_t)n_pages * 256);
    t.table.pool = t.pool = allocate((size_t)pool_size);
    for (int64_t i = 0; i < N_PAGES; i++) t.page_of[i] = n_pages ? (int32_t)random_below(state, n_pages) : -1;
    for (int64_t i = 0; i < 8; i++) t.page_of[random_below(state, N_PAGES)] = -1;
    for (int64_t i = 0; i < pool_size; i++) t.pool[i] = (uint8_t)random_bits(state);
    for (int64_t i = 0; i < n_pages * 256; i++) {
        int64_t length = random_below(state, pool_size < 128 ? pool_size + 1 : random_below(state, 16) ? 5 : 129);
        t.starts[i] = random_below(state, pool_size - length + 1);
        t.lengths[i] = (int8_t)(random_below(state, 64) && length < 128 ? length : -length);
    }
    for (int64_t i = 0; is_damaged && i < n_pages * 16; i++)
        t.starts[random_below(state, n_pages * 256)] = (int64_t)random_bits(state);
    if (is_damaged) t.page_of[random_below(state, N_PAGES)] = (int32_t)random_bits(state);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint64_t state = take_seed(&in);
    int32_t allows_special = take_byte(&in) & 1;
    int64_t room = take_number(&in, 0, 5000), needed = 0;
    texts t = take_texts(&in);
    table pages = random_table(&state);
    uint8_t *out = allocate((size_t)room);
    int64_t *ends = allocate((size_t)(t.n + 1) * sizeof *ends);
    int32_t status = sentenc_fold(&pages.table, t.text, t.size, t.offsets, t.n, allows_special, out, room, ends, &needed);
    CHECK(t.is_valid || status == SENTENC_BAD_OFFSETS);
    if (status == SENTENC_FOLD_MISSING) CHECK(needed >= 0 && needed < N_PAGES);
    if (status == SENTENC_TOO_SMALL) {
        free(out);
        CHECK(needed > room);
        room = needed;
        out = allocate((size_t)room);
        status = sentenc_fold(&pages.table, t.text, t.size, t.offsets, t.n, allows_special, out, room, ends, &needed);
        CHECK(status == SENTENC_OK && needed == room);
    }
    for (int64_t i = 0; status == SENTENC_OK && i < t.n; i++) {
        int64_t offsets[2] = {0, t.offsets[i + 1] - t.offsets[i]}, length = ends[i + 1] - ends[i], one_ends[2], n;
        uint8_t *text = allocate((size_t)offsets[1]), *one = allocate((size_t)length);
        memcpy(text, t.text + t.offsets[i], (size_t)offsets[1]);
        CHECK(sentenc_fold(&pages.table, text, offsets[1], offsets, 1, allows_special, one, length, one_ends, &n) ==
              SENTENC_OK);
        CHECK(n == length && one_ends[1] == length && memcmp(one, out + ends[i], (size_t)length) == 0);
        free(text);
        free(one);
    }
    if (fuzz_report) {
        fprintf(fuzz_report, "status %d needed %lld ", (int)status, (long long)needed);
        for (int64_t i = 0; status == SENTENC_OK && i < needed; i++) fprintf(fuzz_report, "%02x", out[i]);
        fprintf(fuzz_report, "\n");
    }
    free(out);
    free(ends);
    free(pages.page_of);
    free(pages.starts);
    free(pages.lengths);
    free(pages.pool);
    free_texts(&t);
    return 0;
}
