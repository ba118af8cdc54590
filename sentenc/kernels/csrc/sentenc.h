/* The interface of the native library. Python calls it with ctypes, so every argument is a plain C type.
 *
 * Each function checks the sizes that it is given and returns a SENTENC_* status. No function keeps a
 * pointer to its arguments, apart from sentenc_vocabulary_new, which copies them. All functions may be called
 * from several threads at a time, and none of them calls Python or starts a thread. */
#ifndef SENTENC_H
#define SENTENC_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SENTENC_EXPORT __declspec(dllexport)
#else
#define SENTENC_EXPORT __attribute__((visibility("default")))
#endif

/* Raised with every change of a function's arguments. The Python side refuses another version. */
#define SENTENC_ABI_VERSION 3

enum {
    SENTENC_OK = 0,
    SENTENC_NO_MEMORY = -1,
    SENTENC_BAD_ARGUMENT = -2, /* a size is negative, a pointer is missing, or a number is out of range */
    SENTENC_BAD_OFFSETS = -3,  /* offsets fall, or lie outside the text */
    SENTENC_TOO_SMALL = -4     /* an output buffer is too small */
};

/* Classes of a byte. Bytes of 128 and above are words, because sentenc_fold has folded the others. */
enum { SENTENC_WORD = 0, SENTENC_SPACE = 1, SENTENC_PUNCTUATION = 2, SENTENC_REMOVED = 3 };
enum { SENTENC_IDENTITY = 0, SENTENC_TANH = 1, SENTENC_RELU = 2, SENTENC_GELU = 3 };
enum { SENTENC_MEAN = 0, SENTENC_SUM = 1, SENTENC_MAX = 2 };

/* The instruction sets, from the slowest to the fastest of each architecture. */
enum { SENTENC_BASELINE = 0, SENTENC_AVX2 = 1, SENTENC_AVX512 = 2, SENTENC_NEON = 3 };

typedef struct sentenc_vocabulary sentenc_vocabulary;

/* The tables of a CSE (see sentenc.encoders.cse.tables). A row of a table starts every `stride` bytes. */
typedef struct {
    int64_t vocab_size;
    int64_t is_int8; /* whether both tables are int8; otherwise both are float32 */
    /* The word path and the plain average: row i times its scales is [a_i x_i P; y_i]. */
    const void *word_rows;
    int64_t word_stride;
    int64_t word_dim;           /* D */
    int64_t average_dim;        /* A */
    const float *word_scales;    /* (V,) a_i times the quantization step of x_i P */
    const float *average_scales; /* (V,) the quantization step of y_i */
    const float *word_weights;   /* (V,) a_i */
    /* The n-gram path: a row has the parts T_{h,j} of a token, k numbers for every width h and tap j. */
    const void *ngram_rows;
    int64_t ngram_stride;
    const float *filter_scales; /* (K,) K = n_widths * k */
    const float *filter_biases; /* (K,) */
    const int16_t *bias_steps;  /* (K,) biases in whole quantization steps, or NULL for sums in float32 */
    const int64_t *widths;      /* (n_widths,) */
    int64_t n_widths;
    int64_t filters; /* k */
    int64_t phi;
    int64_t pooling;
    int64_t is_padded;
    const float *projection; /* (K, D), or NULL if the features are only appended */
    int64_t appends_features; /* whether the vector ends with the K features */
} sentenc_cse;

SENTENC_EXPORT int32_t sentenc_abi_version(void);

/* The instruction set in use, the fastest one of this processor, and a choice of one. The choice is for the
 * whole process; it fails with SENTENC_BAD_ARGUMENT if the processor or the library lacks the set. */
SENTENC_EXPORT int32_t sentenc_simd(void);
SENTENC_EXPORT int32_t sentenc_simd_is_available(int32_t level);
SENTENC_EXPORT int32_t sentenc_set_simd(int32_t level);

/* Builds the hash table of the tokens pool[starts[i]:starts[i + 1]], i < n_tokens. Returns a status.
 * is_continuation: (n_tokens,); classes and lower: (256,), where lower keeps the class of every byte that is not
 * removed. A word of more than max_chars characters is unknown. Unknown words become the token `unknown`, or
 * nothing if that is -1. */
SENTENC_EXPORT int32_t sentenc_vocabulary_new(const uint8_t *pool, int64_t pool_size, const int64_t *starts,
                                              int64_t n_tokens, const uint8_t *is_continuation,
                                              const uint8_t *classes, const uint8_t *lower, int64_t max_chars,
                                              int32_t splits_words, int32_t unknown,
                                              sentenc_vocabulary **vocabulary);
SENTENC_EXPORT void sentenc_vocabulary_free(sentenc_vocabulary *vocabulary);

/* Writes the ids of text i, text[offsets[i]:offsets[i + 1]], to ids[ends[i - 1]:ends[i]]. counts[i] is its
 * number of tokens before the cut to max_tokens. One id per byte of text is always enough room. */
SENTENC_EXPORT int32_t sentenc_tokenize(const sentenc_vocabulary *vocabulary, const uint8_t *text,
                                        int64_t text_size, const int64_t *offsets, int64_t n_texts,
                                        int64_t max_tokens, int32_t *ids, int64_t ids_size, int64_t *ends,
                                        int64_t *counts);

/* Writes the vector of text i to out[i * dim:(i + 1) * dim], and its number of tokens before the cut to
 * max_tokens to counts[i]. */
SENTENC_EXPORT int32_t sentenc_encode(const sentenc_vocabulary *vocabulary, const sentenc_cse *model,
                                      const uint8_t *text, int64_t text_size, const int64_t *offsets,
                                      int64_t n_texts, int64_t max_tokens, float *out, int64_t dim,
                                      int64_t *counts);

/* The table of sentenc_fold. Code point c belongs to entry page_of[c >> 8] * 256 + (c & 255), whose bytes are
 * pool[starts[entry]:starts[entry] + abs(lengths[entry])]. A negative length marks a code point that may move
 * among its neighbors when a text is decomposed. */
typedef struct {
    const int32_t *page_of; /* (0x1100,) -1 for a page that is missing */
    const int64_t *starts;  /* (256 n_pages,) */
    const int8_t *lengths;  /* (256 n_pages,) */
    const uint8_t *pool;
    int64_t n_pages;
    int64_t pool_size;
} sentenc_fold_table;

/* Folds UTF-8 texts to the bytes that sentenc_tokenize reads. ends: (n_texts + 1,). A byte that is no UTF-8
 * counts as U+FFFD. `needed` is the number of a missing page (SENTENC_FOLD_MISSING), or the room that `out`
 * needs (SENTENC_TOO_SMALL). */
enum { SENTENC_FOLD_MISSING = 1, SENTENC_FOLD_SPECIAL = 2 };
SENTENC_EXPORT int32_t sentenc_fold(const sentenc_fold_table *table, const uint8_t *text, int64_t text_size,
                                    const int64_t *offsets, int64_t n_texts, int32_t allows_special,
                                    uint8_t *out, int64_t out_size, int64_t *ends, int64_t *needed);

/* Adds the scores of rows first_row, first_row + 1, ... to the heap of each query. Blocks must come in rising
 * order. scores: (n_queries, n_rows); is_left_out: (n_rows,); best_scores and best_rows: (n_queries, k);
 * counts: (n_queries,) the number of scores in each heap. Equal scores are ranked by row, and NaN
 * is below every number. */
SENTENC_EXPORT int32_t sentenc_select(const float *scores, int64_t n_queries, int64_t n_rows, int64_t first_row,
                                      const uint8_t *is_left_out, float *best_scores, int64_t *best_rows,
                                      int64_t k, int64_t *counts);

/* Writes the inner product of each row with the query. Row i has `dim` numbers from rows[i * stride] on. The
 * numbers of the query must be small enough that no sum exceeds 31 bits: dim * 128 * max |query| < 2**31. */
SENTENC_EXPORT int32_t sentenc_dot_int8(const int8_t *rows, int64_t stride, int64_t n_rows, int64_t dim,
                                        const int16_t *query, int32_t *products);

/* Writes the products of rows (n_rows, dim) with a matrix (dim, columns), and the largest size of a product of each
 * column, (columns,). Rows are float32; or int8, if there are scales (n_rows,), by which they are multiplied. */
SENTENC_EXPORT int32_t sentenc_multiply(const void *rows, const float *scales, int64_t n_rows, int64_t dim,
                                        const float *matrix, int64_t columns, float *products, float *largest);

/* Writes values (n_rows, columns) in whole steps, (columns,), to rows. Row i begins at rows[i * stride]. Halves are
 * rounded to the even number, and numbers outside of int8 to the nearest one inside. */
SENTENC_EXPORT int32_t sentenc_quantize(const float *values, int64_t n_rows, int64_t columns, const float *steps,
                                        int8_t *rows, int64_t stride);

#endif
