/* Chooses the instruction set at run time, and checks the arguments of the exported functions. */
#include <stdlib.h>

#include "internal.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

/* Each set needs all extensions that build.py allows the compiler to use. */

/* Whether the operating system saves the registers of these bits of XCR0. */
static int saves(uint32_t bits) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0; /* OSXSAVE */
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & bits) == bits;
}

static int has_avx2(void) {
    uint32_t a, b, c, d;
    if (!saves(0x6) || !__get_cpuid(1, &a, &b, &c, &d)) return 0;
    uint32_t needed = 1u << 12 | 1u << 23 | 1u << 28 | 1u << 29; /* FMA, POPCNT, AVX, F16C */
    if ((c & needed) != needed) return 0;
    if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(c & 1u << 5)) return 0; /* LZCNT */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    needed = 1u << 3 | 1u << 5 | 1u << 8; /* BMI1, AVX2, BMI2 */
    return (b & needed) == needed;
}

static int has_avx512(void) {
    uint32_t a, b, c, d;
    if (!has_avx2() || !saves(0xE6) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    uint32_t needed = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    return (b & needed) == needed && (c & 1u << 1) && (c & 1u << 11); /* VBMI, VNNI */
}
#endif

static const sentenc_kernels *kernels_of(int32_t level) {
    if (level == SENTENC_BASELINE) return &sentenc_kernels_baseline;
#if defined(__x86_64__) || defined(_M_X64)
    if (level == SENTENC_AVX2 && has_avx2()) return &sentenc_kernels_avx2;
    if (level == SENTENC_AVX512 && has_avx512()) return &sentenc_kernels_avx512;
#elif defined(__aarch64__)
    if (level == SENTENC_NEON) return &sentenc_kernels_baseline;
#endif
    return NULL;
}

static int32_t fastest(void) {
    static const int32_t levels[] = {SENTENC_NEON, SENTENC_AVX512, SENTENC_AVX2};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (kernels_of(levels[i])) return levels[i];
    return SENTENC_BASELINE;
}

/* -1 until the first call. Threads that choose at the same time choose the same. */
static int32_t chosen = -1;

SENTENC_EXPORT int32_t sentenc_abi_version(void) { return SENTENC_ABI_VERSION; }

SENTENC_EXPORT int32_t sentenc_simd(void) {
    int32_t level = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (level < 0) {
        level = fastest();
        __atomic_store_n(&chosen, level, __ATOMIC_RELAXED);
    }
    return level;
}

SENTENC_EXPORT int32_t sentenc_simd_is_available(int32_t level) { return kernels_of(level) != NULL; }

SENTENC_EXPORT int32_t sentenc_set_simd(int32_t level) {
    if (!kernels_of(level)) return SENTENC_BAD_ARGUMENT;
    __atomic_store_n(&chosen, level, __ATOMIC_RELAXED);
    return SENTENC_OK;
}

static const sentenc_kernels *kernels(void) {
#if defined(__x86_64__) || defined(_M_X64)
    static const sentenc_kernels *const tables[] = {&sentenc_kernels_baseline, &sentenc_kernels_avx2,
                                                    &sentenc_kernels_avx512};
    return tables[sentenc_simd()];
#else
    return &sentenc_kernels_baseline;
#endif
}

int32_t sentenc_copy_offsets(const uint8_t *text, int64_t text_size, const int64_t *offsets, int64_t n_texts,
                             int64_t **copy) {
    const int64_t limit = INT64_MAX / 64; /* keeps products of sizes far from overflow */
    *copy = NULL;
    if (!text || !offsets || text_size < 0 || text_size > limit || n_texts < 0 || n_texts > limit)
        return SENTENC_BAD_ARGUMENT;
    int64_t *own = malloc((size_t)(n_texts + 1) * sizeof *own);
    if (!own) return SENTENC_NO_MEMORY;
    memcpy(own, offsets, (size_t)(n_texts + 1) * sizeof *own);
    int is_valid = own[0] >= 0 && own[n_texts] <= text_size;
    for (int64_t i = 0; i < n_texts; i++) is_valid &= own[i] <= own[i + 1];
    if (!is_valid) {
        free(own);
        return SENTENC_BAD_OFFSETS;
    }
    *copy = own;
    return SENTENC_OK;
}

static int32_t tokenize_texts(const sentenc_vocabulary *vocabulary, const uint8_t *text, const int64_t *offsets,
                              int64_t n_texts, int64_t max_tokens, int32_t *ids, int64_t ids_size, int64_t *ends,
                              int64_t *counts) {
    int64_t longest = 0, end = 0;
    for (int64_t i = 0; i < n_texts; i++)
        if (offsets[i + 1] - offsets[i] > longest) longest = offsets[i + 1] - offsets[i];
    uint8_t *bytes = malloc((size_t)longest + PADDING);
    if (!bytes) return SENTENC_NO_MEMORY;
    int32_t status = SENTENC_OK;
    for (int64_t i = 0; i < n_texts && status == SENTENC_OK; i++) {
        int64_t room = ids_size - end;
        int64_t count = kernels()->tokenize(vocabulary, text + offsets[i], offsets[i + 1] - offsets[i], bytes,
                                            ids + end, max_tokens < room ? max_tokens : room);
        int64_t kept = count < max_tokens ? count : max_tokens;
        if (kept > room) {
            status = SENTENC_TOO_SMALL;
            break;
        }
        end += kept;
        counts[i] = count;
        ends[i] = end;
    }
    free(bytes);
    return status;
}

SENTENC_EXPORT int32_t sentenc_tokenize(const sentenc_vocabulary *vocabulary, const uint8_t *text,
                                        int64_t text_size, const int64_t *offsets, int64_t n_texts,
                                        int64_t max_tokens, int32_t *ids, int64_t ids_size, int64_t *ends,
                                        int64_t *counts) {
    if (!vocabulary || max_tokens < 0 || ids_size < 0 || !ids) return SENTENC_BAD_ARGUMENT;
    if (n_texts > 0 && (!ends || !counts)) return SENTENC_BAD_ARGUMENT;
    int64_t *own;
    int32_t status = sentenc_copy_offsets(text, text_size, offsets, n_texts, &own);
    if (status != SENTENC_OK) return status;
    status = tokenize_texts(vocabulary, text, own, n_texts, max_tokens, ids, ids_size, ends, counts);
    free(own);
    return status;
}

static int has_words(const sentenc_cse *m) {
    if (m->word_dim == 0 && m->average_dim == 0) return 1;
    return m->word_rows && m->word_scales && m->average_scales && m->word_weights;
}

/* Whether every row has `size` bytes or more, the addresses of all rows fit, and numbers are aligned. */
static int has_rows(const sentenc_cse *m, const void *rows, int64_t stride, int64_t size) {
    if (stride < size || stride > INT64_MAX / m->vocab_size) return 0;
    return m->is_int8 || (stride % (int64_t)sizeof(float) == 0 && (uintptr_t)rows % sizeof(float) == 0);
}

static int is_valid(const sentenc_cse *m, const sentenc_vocabulary *vocabulary, int64_t dim) {
    const int64_t limit = 1 << 24; /* keeps products of sizes far from overflow */
    if (m->vocab_size < vocabulary->n_tokens || m->word_dim < 0 || m->word_dim > limit || m->average_dim < 0 ||
        m->average_dim > limit || m->filters < 0 || m->filters > limit || m->n_widths < 0 || m->n_widths > 1024)
        return 0;
    int64_t size = m->is_int8 ? 1 : 4, word_dim = m->word_dim + m->average_dim, columns = 0;
    if (m->n_widths > 0 && !m->widths) return 0;
    for (int64_t w = 0; w < m->n_widths; w++) {
        if (m->widths[w] < 1 || m->widths[w] > 1024) return 0;
        columns += m->widths[w] * m->filters;
    }
    int64_t features = m->n_widths * m->filters;
    if (word_dim > 0 && !has_rows(m, m->word_rows, m->word_stride, word_dim * size)) return 0;
    if (features > 0 && !has_rows(m, m->ngram_rows, m->ngram_stride, columns * size)) return 0;
    if (!has_words(m) || (features > 0 && !(m->ngram_rows && m->filter_scales && m->filter_biases))) return 0;
    if (m->phi < SENTENC_IDENTITY || m->phi > SENTENC_GELU || m->pooling < SENTENC_MEAN || m->pooling > SENTENC_MAX)
        return 0;
    return dim == word_dim + (m->appends_features ? features : 0);
}

SENTENC_EXPORT int32_t sentenc_encode(const sentenc_vocabulary *vocabulary, const sentenc_cse *model,
                                      const uint8_t *text, int64_t text_size, const int64_t *offsets,
                                      int64_t n_texts, int64_t max_tokens, float *out, int64_t dim,
                                      int64_t *counts) {
    if (!vocabulary || !model || max_tokens < 0 || !is_valid(model, vocabulary, dim)) return SENTENC_BAD_ARGUMENT;
    if (n_texts > 0 && (!counts || !out)) return SENTENC_BAD_ARGUMENT;
    int64_t *own;
    int32_t status = sentenc_copy_offsets(text, text_size, offsets, n_texts, &own);
    if (status != SENTENC_OK) return status;
    status = kernels()->encode(vocabulary, model, text, own, n_texts, max_tokens, out, dim, counts);
    free(own);
    return status;
}

SENTENC_EXPORT int32_t sentenc_select(const float *scores, int64_t n_queries, int64_t n_rows, int64_t first_row,
                                      const uint8_t *is_left_out, float *best_scores, int64_t *best_rows,
                                      int64_t k, int64_t *counts) {
    if (n_queries < 0 || n_rows < 0 || k < 0 || first_row < 0 || n_rows > INT64_MAX - first_row)
        return SENTENC_BAD_ARGUMENT;
    if (n_queries == 0 || n_rows == 0 || k == 0) return SENTENC_OK;
    if (!scores || !is_left_out || !best_scores || !best_rows || !counts) return SENTENC_BAD_ARGUMENT;
    for (int64_t q = 0; q < n_queries; q++) {
        /* The number is checked where it is used, in case that the heaps and the counts share memory. */
        int64_t count = counts[q];
        if (count < 0 || count > k) return SENTENC_BAD_ARGUMENT;
        kernels()->select(scores + q * n_rows, n_rows, first_row, is_left_out, best_scores + q * k,
                          best_rows + q * k, k, &count);
        counts[q] = count;
    }
    return SENTENC_OK;
}

SENTENC_EXPORT int32_t sentenc_dot_int8(const int8_t *rows, int64_t stride, int64_t n_rows, int64_t dim,
                                        const int16_t *query, int32_t *products) {
    if (n_rows < 0 || dim < 0 || stride < dim || dim > 1 << 24) return SENTENC_BAD_ARGUMENT;
    if (n_rows == 0) return SENTENC_OK;
    if (stride > INT64_MAX / n_rows) return SENTENC_BAD_ARGUMENT;
    if (!products || (dim > 0 && (!rows || !query))) return SENTENC_BAD_ARGUMENT;
    int64_t largest = 0;
    for (int64_t d = 0; d < dim; d++) {
        int64_t size = query[d] < 0 ? -(int64_t)query[d] : query[d];
        if (size > largest) largest = size;
    }
    if (dim * 128 * largest > INT32_MAX) return SENTENC_BAD_ARGUMENT;
    kernels()->dot(rows, stride, n_rows, dim, query, products);
    return SENTENC_OK;
}

SENTENC_EXPORT int32_t sentenc_multiply(const void *rows, const float *scales, int64_t n_rows, int64_t dim,
                                        const float *matrix, int64_t columns, float *products, float *largest) {
    const int64_t limit = 1 << 24;
    if (n_rows < 0 || dim < 0 || dim > limit || columns < 0 || columns > limit) return SENTENC_BAD_ARGUMENT;
    if (n_rows > INT64_MAX / (int64_t)sizeof(float) / (limit + 1)) return SENTENC_BAD_ARGUMENT;
    if ((columns > 0 && !largest) || (dim > 0 && columns > 0 && !matrix)) return SENTENC_BAD_ARGUMENT;
    if (n_rows > 0 && ((dim > 0 && !rows) || (columns > 0 && !products))) return SENTENC_BAD_ARGUMENT;
    const sentenc_kernels *k = kernels();
    uint64_t padded = (uint64_t)(columns + k->panel_columns - 1), d = (uint64_t)dim;
    padded -= padded % (uint64_t)k->panel_columns;
    if (d && (padded + (uint64_t)k->chunk_rows) > SIZE_MAX / sizeof(float) / d) return SENTENC_NO_MEMORY;
    float *panels = malloc((size_t)(padded * d + 1) * sizeof *panels);
    float *chunk = malloc((size_t)((uint64_t)k->chunk_rows * d + 1) * sizeof *chunk);
    int32_t status = panels && chunk ? SENTENC_OK : SENTENC_NO_MEMORY;
    if (status == SENTENC_OK)
        k->multiply(rows, scales, n_rows, dim, matrix, columns, products, largest, panels, chunk);
    free(panels);
    free(chunk);
    return status;
}

SENTENC_EXPORT int32_t sentenc_quantize(const float *values, int64_t n_rows, int64_t columns, const float *steps,
                                        int8_t *rows, int64_t stride) {
    if (n_rows < 0 || columns < 0 || columns > 1 << 24 || stride < columns) return SENTENC_BAD_ARGUMENT;
    if (n_rows == 0 || columns == 0) return SENTENC_OK;
    if (stride > INT64_MAX / n_rows || columns > INT64_MAX / (int64_t)sizeof(float) / n_rows)
        return SENTENC_BAD_ARGUMENT;
    if (!values || !steps || !rows) return SENTENC_BAD_ARGUMENT;
    kernels()->quantize(values, n_rows, columns, steps, rows, stride);
    return SENTENC_OK;
}
