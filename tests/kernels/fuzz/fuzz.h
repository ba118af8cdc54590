/* Turns the bytes of a fuzzer into arguments of the native library.
 *
 * Every array is allocated with its exact size, so that AddressSanitizer reports a read one byte beyond it. */
#ifndef FUZZ_H
#define FUZZ_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentenc.h"

#define MAX_TEXTS 12
#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition);    \
            abort();                                                                         \
        }                                                                                    \
    } while (0)

typedef struct {
    const uint8_t *bytes;
    size_t n;
} input;

typedef struct {
    uint8_t *text;
    int64_t size, n;
    int64_t *offsets; /* (n + 1,) */
    int is_valid;
} texts;

/* If not NULL, targets print their results, which can be compared between processors. */
extern FILE *fuzz_report;
/* The number of allocations that still succeed; negative if all do. Set it around a call of the library. */
extern int64_t fuzz_allocations_left;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline uint8_t take_byte(input *in) {
    if (in->n == 0) return 0;
    in->n--;
    return *in->bytes++;
}

static inline uint64_t take_bits(input *in) {
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits = bits << 8 | take_byte(in);
    return bits;
}

static inline int64_t take_number(input *in, int64_t low, int64_t high) {
    int64_t bits = take_byte(in) << 8;
    bits |= take_byte(in);
    return low + bits % (high - low + 1);
}

/* xorshift64* */
static inline uint64_t random_bits(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

static inline int64_t random_below(uint64_t *state, int64_t n) {
    return (int64_t)((random_bits(state) >> 33) % (uint64_t)n);
}

static inline float random_float(uint64_t *state) { return (float)(random_bits(state) >> 40) / (1 << 23) - 1; }

static inline uint64_t take_seed(input *in) {
    uint64_t bits = (uint64_t)take_byte(in) << 8;
    return (bits | take_byte(in)) * 0x9E3779B97F4A7C15u + 1;
}

static inline void *allocate(size_t bytes) {
    void *block = malloc(bytes);
    CHECK(block);
    return block;
}

static inline int compare_offsets(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Takes offsets, and all bytes that are left as text. One input of 16 has arbitrary offsets. */
static inline texts take_texts(input *in) {
    texts t = {0};
    t.n = take_byte(in) % (MAX_TEXTS + 1);
    t.offsets = allocate((size_t)(t.n + 1) * sizeof *t.offsets);
    int is_arbitrary = take_byte(in) >= 240;
    for (int64_t i = 0; i <= t.n; i++)
        t.offsets[i] = is_arbitrary ? (int64_t)take_bits(in) : take_number(in, 0, 65535);
    t.size = (int64_t)in->n;
    t.text = allocate(in->n);
    memcpy(t.text, in->bytes, in->n);
    if (!is_arbitrary) {
        for (int64_t i = 0; i <= t.n; i++) t.offsets[i] %= t.size + 1;
        qsort(t.offsets, (size_t)t.n + 1, sizeof *t.offsets, compare_offsets);
    }
    t.is_valid = t.offsets[0] >= 0 && t.offsets[t.n] <= t.size;
    for (int64_t i = 0; i < t.n; i++) t.is_valid &= t.offsets[i] <= t.offsets[i + 1];
    return t;
}

static inline void free_texts(texts *t) {
    free(t->text);
    free(t->offsets);
}

sentenc_vocabulary *random_vocabulary(uint64_t *state, const texts *t, int64_t *n_tokens);

#endif
