/* Encodes arbitrary bytes with a random model.
 *
 * A text alone has the same vector, bit by bit. The instruction sets agree within rounding errors. */
#include "model.h"

typedef struct {
    int32_t status;
    float *out;
    int64_t *counts;
} result;

static result run(const sentenc_vocabulary *v, const model *m, const texts *t, int64_t max_tokens, int64_t dim) {
    result r = {0, allocate((size_t)(t->n * dim) * sizeof *r.out), allocate((size_t)t->n * sizeof *r.counts)};
    memset(r.out, 0xFF, (size_t)(t->n * dim) * sizeof *r.out); /* NaN, which must be overwritten */
    r.status = sentenc_encode(v, &m->cse, t->text, t->size, t->offsets, t->n, max_tokens, r.out, dim, r.counts);
    return r;
}

static void free_result(result *r) {
    free(r->out);
    free(r->counts);
}

static void check_alone(const sentenc_vocabulary *v, const model *m, const texts *t, int64_t max_tokens,
                        const result *all) {
    for (int64_t i = 0; i < t->n; i++) {
        int64_t offsets[2] = {0, t->offsets[i + 1] - t->offsets[i]};
        uint8_t *text = allocate((size_t)offsets[1]);
        memcpy(text, t->text + t->offsets[i], (size_t)offsets[1]);
        texts one = {text, offsets[1], 1, offsets, 1};
        result r = run(v, m, &one, max_tokens, m->dim);
        CHECK(r.status == SENTENC_OK && r.counts[0] == all->counts[i]);
        CHECK(memcmp(r.out, all->out + i * m->dim, (size_t)m->dim * sizeof *r.out) == 0);
        free_result(&r);
        free(text);
    }
}

/* The size of the terms of each number, to which rounding errors are relative. Errors of equal terms add up, so that
 * it grows with the number of tokens. Pooled sums may cancel, so that their number of windows is added. */
static float *terms_of(const sentenc_vocabulary *v, const model *m, const texts *t, int64_t max_tokens) {
    model plain = *m;
    const float *weights = m->cse.projection;
    int64_t word_dim = m->cse.word_dim + m->cse.average_dim;
    plain.cse.projection = NULL;
    plain.cse.appends_features = 1;
    plain.dim = word_dim + m->features;
    result r = run(v, &plain, t, max_tokens, plain.dim);
    CHECK(r.status == SENTENC_OK);
    float *terms = allocate((size_t)(t->n * m->dim) * sizeof *terms);
    for (int64_t i = 0; i < t->n; i++) {
        float *own = terms + i * m->dim, *words = r.out + i * plain.dim, *features = words + word_dim;
        float growth = 1 + (float)r.counts[i] / 64;
        for (int64_t f = 0; f < m->features; f++)
            features[f] = growth * (fabsf(features[f]) + (m->cse.pooling == SENTENC_SUM ? (float)r.counts[i] + 1 : 1));
        for (int64_t d = 0; d < word_dim; d++) own[d] = growth * (fabsf(words[d]) + 1);
        for (int64_t f = 0; weights && f < m->features; f++)
            for (int64_t d = 0; d < m->cse.word_dim; d++)
                own[d] += features[f] * fabsf(weights[f * m->cse.word_dim + d]);
        for (int64_t d = word_dim; d < m->dim; d++) own[d] = features[d - word_dim];
    }
    free_result(&r);
    return terms;
}

static void check_levels(const sentenc_vocabulary *v, const model *m, const texts *t, int64_t max_tokens,
                         const result *expected, const float *terms) {
    int32_t level = sentenc_simd();
    for (int32_t other = 0; other <= SENTENC_NEON; other++) {
        if (other == level || sentenc_set_simd(other) != SENTENC_OK) continue;
        result r = run(v, m, t, max_tokens, m->dim);
        CHECK(r.status == SENTENC_OK && memcmp(r.counts, expected->counts, (size_t)t->n * sizeof *r.counts) == 0);
        for (int64_t d = 0; d < t->n * m->dim; d++) CHECK(fabsf(r.out[d] - expected->out[d]) <= 2e-6f * terms[d]);
        free_result(&r);
    }
    sentenc_set_simd(level);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint64_t state = take_seed(&in);
    int64_t max_tokens = take_byte(&in) < 64 ? take_number(&in, 0, 80) : INT64_MAX, n_tokens;
    texts t = take_texts(&in);
    sentenc_vocabulary *v = random_vocabulary(&state, &t, &n_tokens);
    if (v) {
        model m = random_model(&state, n_tokens);
        int64_t wrong = random_below(&state, 64) == 0;
        fuzz_allocations_left = random_below(&state, 64) == 0 ? random_below(&state, 5) : -1;
        int fails = fuzz_allocations_left >= 0;
        if (fails) fuzz_allocations_left += 2; /* those of this file */
        result r = run(v, &m, &t, max_tokens, m.dim + wrong);
        fuzz_allocations_left = -1;
        CHECK(r.status != SENTENC_OK || (t.is_valid && !wrong));
        /* A size that is out of range does no harm if it is not used. */
        CHECK(r.status == SENTENC_OK || !t.is_valid || wrong || m.is_damaged || fails);
        for (int64_t d = 0; r.status == SENTENC_OK && d < t.n * m.dim; d++) CHECK(isfinite(r.out[d]));
        if (r.status == SENTENC_OK && !fails) {
            float *terms = terms_of(v, &m, &t, max_tokens);
            check_levels(v, &m, &t, max_tokens, &r, terms);
            check_alone(v, &m, &t, max_tokens, &r);
            for (int64_t d = 0; fuzz_report && d < t.n * m.dim; d++)
                fprintf(fuzz_report, "%.9g~%.3g ", r.out[d], terms[d]);
            free(terms);
        }
        if (fuzz_report) fprintf(fuzz_report, "status %d\n", (int)r.status);
        free_result(&r);
        free_model(&m);
    }
    sentenc_vocabulary_free(v);
    free_texts(&t);
    return 0;
}
