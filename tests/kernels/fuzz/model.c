/* A random CSE: any shape, with tables in float32 or int8. */
#include "model.h"

/* Numbers from -size to size, or from `low` on. */
static float *random_floats(uint64_t *state, int64_t n, float low, float size) {
    float *values = allocate((size_t)n * sizeof *values);
    for (int64_t i = 0; i < n; i++) {
        float value = random_float(state) * size;
        values[i] = low >= 0 ? fabsf(value) + low : value;
    }
    return values;
}

/* Rows of `columns` numbers, the last of which is the last number of its allocation. */
static void *random_rows(uint64_t *state, int is_int8, int64_t n, int64_t columns, int64_t *stride) {
    int64_t size = is_int8 ? 1 : 4, gap = random_below(state, 3);
    *stride = (columns + gap) * size;
    int64_t numbers = n * (columns + gap) - gap;
    if (!is_int8) return random_floats(state, numbers, -1, 1);
    int8_t *rows = allocate((size_t)numbers);
    for (int64_t i = 0; i < numbers; i++) rows[i] = (int8_t)random_bits(state);
    return rows;
}

static int64_t random_size(uint64_t *state) {
    static const int64_t limits[] = {3, 18, 40, 150};
    return random_below(state, limits[random_below(state, 4)]);
}

static void damage(uint64_t *state, sentenc_cse *m) {
    int64_t *numbers[] = {&m->vocab_size, &m->word_stride, &m->word_dim, &m->average_dim, &m->ngram_stride,
                          &m->n_widths, &m->filters, &m->phi, &m->pooling};
    *numbers[random_below(state, sizeof numbers / sizeof *numbers)] = -(int64_t)(random_bits(state) >> 1);
}

model random_model(uint64_t *state, int64_t n_tokens) {
    model r = {0};
    sentenc_cse *m = &r.cse;
    m->vocab_size = n_tokens + random_below(state, 3);
    m->is_int8 = random_below(state, 2);
    m->word_dim = random_below(state, 5) ? random_size(state) : 0;
    m->average_dim = random_below(state, 3) ? 0 : random_size(state);
    m->filters = random_below(state, 5) ? random_size(state) : 0;
    m->n_widths = random_below(state, 4);
    m->phi = random_below(state, 4);
    m->pooling = random_below(state, 3);
    m->is_padded = random_below(state, 2);
    float step = m->is_int8 ? 1.0f / 127 : 1;
    int64_t columns = 0, features = m->n_widths * m->filters, word_dim = m->word_dim + m->average_dim;
    int64_t *widths = allocate((size_t)m->n_widths * sizeof *widths);
    for (int64_t w = 0; w < m->n_widths; w++) {
        widths[w] = 1 + random_below(state, random_below(state, 4) ? 3 : 6);
        columns += widths[w] * m->filters;
    }
    if (word_dim > 0 || random_below(state, 2)) {
        m->word_rows = random_rows(state, (int)m->is_int8, m->vocab_size, word_dim, &m->word_stride);
        m->word_scales = random_floats(state, m->vocab_size, 0, step);
        m->average_scales = random_floats(state, m->vocab_size, 0, step);
        m->word_weights = random_floats(state, m->vocab_size, 0.01f, 1);
    }
    if (features > 0 || random_below(state, 2)) {
        m->ngram_rows = random_rows(state, (int)m->is_int8, m->vocab_size, columns, &m->ngram_stride);
        m->filter_scales = random_floats(state, features, 0.0001f, step);
        m->filter_biases = random_floats(state, features, -1, 1);
    }
    if (random_below(state, 2)) {
        int16_t *steps = allocate((size_t)features * sizeof *steps);
        for (int64_t f = 0; f < features; f++) steps[f] = (int16_t)(random_below(state, 1023) - 511);
        m->bias_steps = steps;
    }
    if (random_below(state, 2)) m->projection = random_floats(state, features * m->word_dim, -1, 1);
    m->appends_features = random_below(state, 2);
    m->widths = widths;
    r.dim = word_dim + (m->appends_features ? features : 0);
    r.features = features;
    r.is_damaged = random_below(state, 64) == 0;
    if (r.is_damaged) damage(state, m);
    return r;
}

void free_model(model *r) {
    const sentenc_cse *m = &r->cse;
    const void *arrays[] = {m->word_rows, m->word_scales, m->average_scales, m->word_weights, m->ngram_rows,
                            m->filter_scales, m->filter_biases, m->bias_steps, m->widths, m->projection};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free((void *)(uintptr_t)arrays[i]);
}
