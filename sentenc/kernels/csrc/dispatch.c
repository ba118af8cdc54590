/* Chooses the instruction set at run time, and checks the arguments of the exported functions. */
#include <stdlib.h>

#include "internal.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

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
    if (!(c & 1u << 12) || !(c & 1u << 28)) return 0; /* FMA, AVX */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    return (b & 1u << 5) && (b & 1u << 3) && (b & 1u << 8); /* AVX2, BMI1, BMI2 */
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

int32_t sentenc_check_texts(const uint8_t *text, int64_t text_size, const int64_t *offsets, int64_t n_texts) {
    if (n_texts < 0 || text_size < 0 || !offsets || (text_size > 0 && !text)) return SENTENC_BAD_ARGUMENT;
    if (offsets[0] < 0 || offsets[n_texts] > text_size) return SENTENC_BAD_OFFSETS;
    for (int64_t i = 0; i < n_texts; i++)
        if (offsets[i] > offsets[i + 1]) return SENTENC_BAD_OFFSETS;
    return SENTENC_OK;
}

SENTENC_EXPORT int32_t sentenc_tokenize(const sentenc_vocabulary *vocabulary, const uint8_t *text,
                                        int64_t text_size, const int64_t *offsets, int64_t n_texts,
                                        int64_t max_tokens, int32_t *ids, int64_t ids_size, int64_t *ends,
                                        int64_t *counts) {
    int32_t status = sentenc_check_texts(text, text_size, offsets, n_texts);
    if (status != SENTENC_OK) return status;
    if (!vocabulary || max_tokens < 0 || ids_size < 0 || (ids_size > 0 && !ids)) return SENTENC_BAD_ARGUMENT;
    if (n_texts > 0 && (!ends || !counts)) return SENTENC_BAD_ARGUMENT;
    int64_t longest = 0, end = 0;
    for (int64_t i = 0; i < n_texts; i++)
        if (offsets[i + 1] - offsets[i] > longest) longest = offsets[i + 1] - offsets[i];
    uint8_t *bytes = malloc((size_t)longest + PADDING);
    if (!bytes) return SENTENC_NO_MEMORY;
    for (int64_t i = 0; i < n_texts && status == SENTENC_OK; i++) {
        int64_t room = ids_size - end;
        counts[i] = kernels()->tokenize(vocabulary, text + offsets[i], offsets[i + 1] - offsets[i], bytes,
                                        ids + end, max_tokens < room ? max_tokens : room);
        int64_t kept = counts[i] < max_tokens ? counts[i] : max_tokens;
        if (kept > room) status = SENTENC_TOO_SMALL;
        end += kept;
        ends[i] = end;
    }
    free(bytes);
    return status;
}

static int has_words(const sentenc_cse *m) {
    if (m->word_dim == 0 && m->average_dim == 0) return 1;
    return m->word_rows && m->word_scales && m->average_scales && m->word_weights;
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
    if (m->word_stride < word_dim * size || m->ngram_stride < columns * size || !has_words(m)) return 0;
    if (features > 0 && !(m->ngram_rows && m->filter_scales && m->filter_biases)) return 0;
    if (m->phi < SENTENC_IDENTITY || m->phi > SENTENC_GELU || m->pooling < SENTENC_MEAN || m->pooling > SENTENC_MAX)
        return 0;
    return dim == word_dim + (m->appends_features ? features : 0);
}

SENTENC_EXPORT int32_t sentenc_encode(const sentenc_vocabulary *vocabulary, const sentenc_cse *model,
                                      const uint8_t *text, int64_t text_size, const int64_t *offsets,
                                      int64_t n_texts, int64_t max_tokens, float *out, int64_t dim,
                                      int64_t *counts) {
    int32_t status = sentenc_check_texts(text, text_size, offsets, n_texts);
    if (status != SENTENC_OK) return status;
    if (!vocabulary || !model || max_tokens < 0 || !is_valid(model, vocabulary, dim)) return SENTENC_BAD_ARGUMENT;
    if (n_texts > 0 && (!counts || (dim > 0 && !out))) return SENTENC_BAD_ARGUMENT;
    return kernels()->encode(vocabulary, model, text, offsets, n_texts, max_tokens, out, dim, counts);
}

SENTENC_EXPORT int32_t sentenc_select(const float *scores, int64_t n_queries, int64_t n_rows, int64_t first_row,
                                      const uint8_t *is_left_out, float *best_scores, int64_t *best_rows,
                                      int64_t k, int64_t *counts) {
    if (n_queries < 0 || n_rows < 0 || k < 0 || first_row < 0) return SENTENC_BAD_ARGUMENT;
    if (n_queries == 0 || n_rows == 0 || k == 0) return SENTENC_OK;
    if (!scores || !is_left_out || !best_scores || !best_rows || !counts) return SENTENC_BAD_ARGUMENT;
    for (int64_t q = 0; q < n_queries; q++)
        if (counts[q] < 0 || counts[q] > k) return SENTENC_BAD_ARGUMENT;
    for (int64_t q = 0; q < n_queries; q++)
        kernels()->select(scores + q * n_rows, n_rows, first_row, is_left_out, best_scores + q * k,
                          best_rows + q * k, k, counts + q);
    return SENTENC_OK;
}
