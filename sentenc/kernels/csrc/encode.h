/* From the bytes of texts to their vectors. */
#ifndef SENTENC_ENCODE_H
#define SENTENC_ENCODE_H

#include <stdlib.h>

#include "ngrams.h"
#include "project.h"
#include "tokenize.h"
#include "words.h"

/* Texts that are tokenized at a time. Their n-gram features are projected together, so that the projection is
 * read once for all of them. */
#define TILE 8
#define CACHE_LINE 64

typedef struct {
    const sentenc_vocabulary *vocabulary;
    const sentenc_cse *model;
    int64_t max_tokens; /* of a text */
    int64_t room;       /* for the ids of a text: at most one for each byte */
    int64_t n_features;
    float *out;
    int64_t dim;
    uint8_t *bytes;  /* the cleaned bytes of a text */
    int32_t *ids;    /* (TILE, room) */
    float *features; /* (TILE, n_features) */
} encoding;

static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

/* The tables are larger than the cache of a core, and waiting for rows takes longer than adding them. Always
 * inlined: GCC removes the calls of a function that does nothing but prefetch. */
__attribute__((always_inline)) static inline void prefetch_rows(const sentenc_cse *model, const int32_t *ids,
                                                                int64_t n) {
    int64_t size = model->is_int8 ? 1 : 4;
    int64_t word_bytes = (model->word_dim + model->average_dim) * size, ngram_bytes = 0;
    for (int64_t w = 0; w < model->n_widths; w++) ngram_bytes += model->widths[w] * model->filters * size;
    const char *words = model->word_rows, *ngrams = model->ngram_rows;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t b = 0; b < word_bytes; b += CACHE_LINE)
            __builtin_prefetch(words + ids[i] * model->word_stride + b);
        for (int64_t b = 0; b < ngram_bytes; b += CACHE_LINE)
            __builtin_prefetch(ngrams + ids[i] * model->ngram_stride + b);
    }
}

static void encode_tile(const encoding *e, const uint8_t *text, const int64_t *offsets, int64_t n_texts, float *out,
                        int64_t *counts) {
    const sentenc_cse *model = e->model;
    int64_t word_dim = model->word_dim + model->average_dim;
    memset(out, 0, (size_t)(n_texts * e->dim) * sizeof *out);
    memset(e->features, 0, (size_t)(n_texts * e->n_features) * sizeof *e->features);
    for (int64_t i = 0; i < n_texts; i++)
        counts[i] = tokenize(e->vocabulary, text + offsets[i], offsets[i + 1] - offsets[i], e->bytes,
                             e->ids + i * e->room, e->room);
    prefetch_rows(model, e->ids, min(counts[0], e->max_tokens));
    for (int64_t i = 0; i < n_texts; i++) {
        const int32_t *ids = e->ids + i * e->room;
        int64_t n = min(counts[i], e->max_tokens);
        /* The rows of the next text arrive while those of this one are added. Those of two texts fit into the
         * cache of the first level. */
        if (i + 1 < n_texts) prefetch_rows(model, ids + e->room, min(counts[i + 1], e->max_tokens));
        if (n == 0) continue;
        if (word_dim > 0) pool_words(model, ids, n, out + i * e->dim);
        if (e->n_features > 0) pool_ngrams(model, ids, n, e->features + i * e->n_features);
    }
    if (model->projection)
        project(e->features, n_texts, e->n_features, model->projection, model->word_dim, out, e->dim);
    if (model->appends_features)
        for (int64_t i = 0; i < n_texts; i++)
            memcpy(out + i * e->dim + word_dim, e->features + i * e->n_features,
                   (size_t)e->n_features * sizeof *out);
}

static int32_t encode(const sentenc_vocabulary *vocabulary, const sentenc_cse *model, const uint8_t *text,
                      const int64_t *offsets, int64_t n_texts, int64_t max_tokens, float *out, int64_t dim,
                      int64_t *counts) {
    int64_t longest = 0;
    for (int64_t i = 0; i < n_texts; i++)
        if (offsets[i + 1] - offsets[i] > longest) longest = offsets[i + 1] - offsets[i];
    encoding e = {vocabulary, model, max_tokens, min(longest, max_tokens),
                  model->n_widths * model->filters, out, dim, NULL, NULL, NULL};
    e.bytes = malloc((size_t)longest + PADDING);
    e.ids = malloc((size_t)(TILE * e.room + 1) * sizeof *e.ids);
    e.features = malloc((size_t)(TILE * e.n_features + 1) * sizeof *e.features);
    int32_t status = e.bytes && e.ids && e.features ? SENTENC_OK : SENTENC_NO_MEMORY;
    for (int64_t first = 0; first < n_texts && status == SENTENC_OK; first += TILE) {
        int64_t n = min(TILE, n_texts - first);
        encode_tile(&e, text, offsets + first, n, out + first * dim, counts + first);
    }
    free(e.bytes);
    free(e.ids);
    free(e.features);
    return status;
}

#endif
