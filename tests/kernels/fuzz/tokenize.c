/* Tokenizes arbitrary bytes. The ids are the same with every instruction set and for a text alone. */
#include "fuzz.h"

typedef struct {
    int32_t status;
    int32_t *ids;
    int64_t *ends, *counts;
} result;

static result run(const sentenc_vocabulary *v, const texts *t, int64_t max_tokens, int64_t room) {
    result r = {0, allocate((size_t)room * sizeof *r.ids), allocate((size_t)t->n * sizeof *r.ends),
                allocate((size_t)t->n * sizeof *r.counts)};
    r.status = sentenc_tokenize(v, t->text, t->size, t->offsets, t->n, max_tokens, r.ids, room, r.ends, r.counts);
    return r;
}

static void free_result(result *r) {
    free(r->ids);
    free(r->ends);
    free(r->counts);
}

static void check_alone(const sentenc_vocabulary *v, const texts *t, int64_t max_tokens, const result *all) {
    for (int64_t i = 0; i < t->n; i++) {
        int64_t offsets[2] = {0, t->offsets[i + 1] - t->offsets[i]}, start = i ? all->ends[i - 1] : 0;
        uint8_t *text = allocate((size_t)offsets[1]); /* with nothing after its end */
        memcpy(text, t->text + t->offsets[i], (size_t)offsets[1]);
        texts one = {text, offsets[1], 1, offsets, 1};
        result r = run(v, &one, max_tokens, offsets[1]);
        CHECK(r.status == SENTENC_OK && r.counts[0] == all->counts[i] && r.ends[0] == all->ends[i] - start);
        CHECK(memcmp(r.ids, all->ids + start, (size_t)r.ends[0] * sizeof *r.ids) == 0);
        free_result(&r);
        free(text);
    }
}

static void check_levels(const sentenc_vocabulary *v, const texts *t, int64_t max_tokens, const result *expected) {
    int32_t level = sentenc_simd();
    for (int32_t other = 0; other <= SENTENC_NEON; other++) {
        if (other == level || sentenc_set_simd(other) != SENTENC_OK) continue;
        result r = run(v, t, max_tokens, t->size);
        int64_t n_ids = t->n ? expected->ends[t->n - 1] : 0;
        CHECK(r.status == SENTENC_OK);
        CHECK(memcmp(r.counts, expected->counts, (size_t)t->n * sizeof *r.counts) == 0);
        CHECK(memcmp(r.ends, expected->ends, (size_t)t->n * sizeof *r.ends) == 0);
        CHECK(memcmp(r.ids, expected->ids, (size_t)n_ids * sizeof *r.ids) == 0);
        free_result(&r);
    }
    sentenc_set_simd(level);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint64_t state = take_seed(&in);
    int64_t max_tokens = take_byte(&in) < 64 ? take_number(&in, 0, 80) : INT64_MAX, n_tokens;
    int64_t missing = take_byte(&in) < 16 ? take_number(&in, 0, 40) : 0;
    texts t = take_texts(&in);
    sentenc_vocabulary *v = random_vocabulary(&state, &t, &n_tokens);
    if (v) {
        int64_t room = t.size > missing ? t.size - missing : 0;
        result r = run(v, &t, max_tokens, room);
        CHECK(r.status == (t.is_valid ? SENTENC_OK : SENTENC_BAD_OFFSETS) || r.status == SENTENC_TOO_SMALL);
        CHECK(r.status != SENTENC_TOO_SMALL || missing);
        if (r.status == SENTENC_OK) {
            int64_t n_ids = t.n ? r.ends[t.n - 1] : 0;
            for (int64_t i = 0; i < n_ids; i++) CHECK(r.ids[i] >= 0 && r.ids[i] < n_tokens);
            check_levels(v, &t, max_tokens, &r);
            check_alone(v, &t, max_tokens, &r);
            for (int64_t i = 0; fuzz_report && i < n_ids; i++) fprintf(fuzz_report, "%d ", (int)r.ids[i]);
        }
        if (fuzz_report) fprintf(fuzz_report, "status %d\n", (int)r.status);
        free_result(&r);
    }
    sentenc_vocabulary_free(v);
    free_texts(&t);
    return 0;
}
