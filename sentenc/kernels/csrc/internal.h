/* The structures that the files of the library share. */
#ifndef SENTENC_INTERNAL_H
#define SENTENC_INTERNAL_H

#include <string.h>

#include "sentenc.h"

/* A token of at most 16 bytes is a key by itself: two numbers, compared at once. */
#define SHORT_TOKEN 16
/* Bytes that may be read after the end of the cleaned bytes of a text, without use. */
#define PADDING 96
#define LENGTH_BUCKETS 4096

typedef struct {
    uint64_t low, high; /* the bytes, followed by zeros */
    uint32_t kind;      /* the length, and whether the token continues a word */
    int32_t id;         /* -1 if the slot is free */
    uint64_t unused;    /* two entries fill a cache line */
} short_entry;

typedef struct {
    uint64_t hash;
    int64_t start;
    uint32_t kind;
    int32_t id;
} long_entry;

struct sentenc_vocabulary {
    short_entry *entries;
    uint64_t entry_mask;
    int32_t entry_shift;
    long_entry *long_entries;
    uint64_t long_mask;
    uint8_t *pool;
    int64_t longest; /* bytes of the longest token */
    int64_t max_chars;
    int64_t n_tokens;
    int32_t splits_words;
    int32_t unknown;
    int32_t single[2][256]; /* the ids of tokens of one byte, at the start and inside of a word */
    /* Bit n is set if a token of n bytes begins with two bytes of this bucket (bit 31: of 31 or more). */
    uint32_t lengths[2][LENGTH_BUCKETS];
    uint8_t classes[256];
    uint8_t lower[256];
    int32_t lowers_ascii; /* lower is ASCII lower case (1), the identity (0) or anything else (-1) */
    /* Sets of ASCII bytes for vector look-ups: bit h of entry l represents the byte 16 h + l. */
    uint8_t outside_words[16], removed[16];
};

static inline uint32_t token_kind(uint64_t length, int continues) {
    return (uint32_t)length << 1 | (uint32_t)continues;
}

static inline uint64_t short_hash(uint64_t low, uint64_t high, uint32_t kind) {
    uint64_t hash = low * 0x9E3779B97F4A7C15u + high * 0xC2B2AE3D27D4EB4Fu + kind * 0x165667B19E3779F9u;
    hash ^= hash >> 32;
    return hash * 0xD6E8FEB86659FD93u;
}

static inline uint64_t long_hash(const uint8_t *bytes, uint64_t length, uint32_t kind) {
    uint64_t hash = kind * 0x9E3779B97F4A7C15u;
    for (uint64_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return hash ^ hash >> 29;
}

static inline uint32_t length_bucket(const uint8_t *bytes) {
    return ((uint32_t)bytes[0] << 4 ^ (uint32_t)bytes[1] * 37u) & (LENGTH_BUCKETS - 1);
}

/* Reads the first `length` bytes, at most 16, into two numbers. Reads 16 bytes in any case. */
static inline void short_key(const uint8_t *bytes, uint64_t length, uint64_t *low, uint64_t *high) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    *low = *high = 0;
    memcpy(low, bytes, length < 8 ? length : 8);
    if (length > 8) memcpy(high, bytes + 8, length - 8);
#else
    static const uint64_t masks[25] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFF, 0xFFFFFFFFFFFF,
        0xFFFFFFFFFFFFFF, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull};
    memcpy(low, bytes, 8);
    memcpy(high, bytes + 8, 8);
    *low &= masks[8 + length];
    *high &= masks[length];
#endif
}

/* Returns SENTENC_OK and a copy of the offsets, which the caller frees, if every text lies inside of the bytes.
 * Nobody else can change the copy after this check: the caller's array may share memory with an output array. */
int32_t sentenc_copy_offsets(const uint8_t *text, int64_t text_size, const int64_t *offsets, int64_t n_texts,
                             int64_t **copy);

/* One set of functions for each instruction set (see kernels.c). */
typedef struct {
    /* Writes at most `limit` ids of a text and returns the number of all of its tokens. `bytes` has room for
     * the text and PADDING. */
    int64_t (*tokenize)(const sentenc_vocabulary *vocabulary, const uint8_t *text, int64_t size, uint8_t *bytes,
                        int32_t *ids, int64_t limit);
    int32_t (*encode)(const sentenc_vocabulary *vocabulary, const sentenc_cse *model, const uint8_t *text,
                      const int64_t *offsets, int64_t n_texts, int64_t max_tokens, float *out, int64_t dim,
                      int64_t *counts);
    void (*select)(const float *scores, int64_t n_rows, int64_t first_row, const uint8_t *is_left_out,
                   float *best_scores, int64_t *best_rows, int64_t k, int64_t *count);
    void (*dot)(const int8_t *rows, int64_t stride, int64_t n_rows, int64_t dim, const int16_t *query,
                int32_t *products);
    /* `panels` has room for dim * columns numbers, where columns is rounded up to panel_columns. `chunk` has
     * room for chunk_rows * dim. */
    int64_t chunk_rows, panel_columns;
    void (*multiply)(const void *rows, const float *scales, int64_t n_rows, int64_t dim, const float *matrix,
                     int64_t columns, float *products, float *largest, float *panels, float *chunk);
    void (*quantize)(const float *values, int64_t n_rows, int64_t columns, const float *steps, int8_t *rows,
                     int64_t stride);
} sentenc_kernels;

/* The baseline of x86-64 is SSE2, and that of aarch64 is NEON. */
extern const sentenc_kernels sentenc_kernels_baseline;
#if defined(__x86_64__) || defined(_M_X64)
extern const sentenc_kernels sentenc_kernels_avx2;
extern const sentenc_kernels sentenc_kernels_avx512;
#endif

#endif
