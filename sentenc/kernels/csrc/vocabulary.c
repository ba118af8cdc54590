/* Builds the hash table of a vocabulary. Look-ups are in tokenize.h. */
#include <stdlib.h>

#include "internal.h"

static uint64_t table_size(uint64_t n) {
    uint64_t size = 1024;
    while (size < 2 * n) size *= 2;
    return size;
}

static void add_short(sentenc_vocabulary *v, const uint8_t *bytes, uint64_t length, int continues, int32_t id) {
    uint8_t key[SHORT_TOKEN] = {0};
    uint64_t low, high;
    memcpy(key, bytes, length);
    short_key(key, length, &low, &high);
    uint32_t kind = token_kind(length, continues);
    uint64_t slot = short_hash(low, high, kind) >> v->entry_shift;
    for (; v->entries[slot].id >= 0; slot = (slot + 1) & v->entry_mask) {
        const short_entry *entry = &v->entries[slot];
        if (entry->low == low && entry->high == high && entry->kind == kind) return;
    }
    v->entries[slot] = (short_entry){low, high, kind, id, 0};
}

static void add_long(sentenc_vocabulary *v, int64_t start, uint64_t length, int continues, int32_t id) {
    uint32_t kind = token_kind(length, continues);
    uint64_t hash = long_hash(v->pool + start, length, kind);
    uint64_t slot = hash & v->long_mask;
    while (v->long_entries[slot].id >= 0) slot = (slot + 1) & v->long_mask;
    v->long_entries[slot] = (long_entry){hash, start, kind, id};
}

static void add_token(sentenc_vocabulary *v, int64_t start, uint64_t length, int continues, int32_t id) {
    const uint8_t *bytes = v->pool + start;
    if (length <= SHORT_TOKEN)
        add_short(v, bytes, length, continues, id);
    else
        add_long(v, start, length, continues, id);
    if (length == 1) {
        if (v->single[continues][bytes[0]] < 0) v->single[continues][bytes[0]] = id;
    } else {
        v->lengths[continues][length_bucket(bytes)] |= 1u << (length < 31 ? length : 31);
    }
    if ((int64_t)length > v->longest) v->longest = (int64_t)length;
}

static void set_rules(sentenc_vocabulary *v, const uint8_t *classes, const uint8_t *lower) {
    memcpy(v->classes, classes, 256);
    memcpy(v->lower, lower, 256);
    int is_identity = 1, is_ascii = 1;
    for (int byte = 0; byte < 256; byte++) {
        /* The value of a space does not matter, as it is no part of a token. */
        if (classes[byte] == SENTENC_WORD || classes[byte] == SENTENC_PUNCTUATION) {
            is_identity &= lower[byte] == byte;
            is_ascii &= lower[byte] == (byte >= 'A' && byte <= 'Z' ? byte + 32 : byte);
        }
        if (byte >= 128) continue;
        uint8_t bit = (uint8_t)(1 << (byte >> 4));
        if (classes[byte] != SENTENC_WORD) v->outside_words[byte & 15] |= bit;
        if (classes[byte] == SENTENC_REMOVED) v->removed[byte & 15] |= bit;
    }
    v->lowers_ascii = is_identity ? 0 : is_ascii ? 1 : -1;
}

static int32_t check(const uint8_t *pool, int64_t pool_size, const int64_t *starts, int64_t n_tokens,
                     const uint8_t *is_continuation, const uint8_t *classes, const uint8_t *lower,
                     int64_t max_chars, int32_t unknown) {
    if (!pool || !starts || !is_continuation || !classes || !lower || pool_size < 0) return SENTENC_BAD_ARGUMENT;
    if (n_tokens < 1 || n_tokens > INT32_MAX || max_chars < 0 || unknown < -1 || unknown >= n_tokens)
        return SENTENC_BAD_ARGUMENT;
    for (int byte = 0; byte < 256; byte++)
        if (classes[byte] > SENTENC_REMOVED || (byte >= 128 && classes[byte] != SENTENC_WORD))
            return SENTENC_BAD_ARGUMENT;
    /* Lower case keeps the class, so that it does not matter which of both comes first. */
    for (int byte = 0; byte < 256; byte++)
        if (classes[byte] != SENTENC_REMOVED && classes[lower[byte]] != classes[byte]) return SENTENC_BAD_ARGUMENT;
    if (starts[0] < 0 || starts[n_tokens] > pool_size) return SENTENC_BAD_OFFSETS;
    for (int64_t i = 0; i < n_tokens; i++)
        if (starts[i] > starts[i + 1] || starts[i + 1] - starts[i] > (1 << 20)) return SENTENC_BAD_OFFSETS;
    return SENTENC_OK;
}

SENTENC_EXPORT int32_t sentenc_vocabulary_new(const uint8_t *pool, int64_t pool_size, const int64_t *starts,
                                              int64_t n_tokens, const uint8_t *is_continuation,
                                              const uint8_t *classes, const uint8_t *lower, int64_t max_chars,
                                              int32_t splits_words, int32_t unknown,
                                              sentenc_vocabulary **vocabulary) {
    int32_t status = check(pool, pool_size, starts, n_tokens, is_continuation, classes, lower, max_chars, unknown);
    if (status != SENTENC_OK) return status;
    if (!vocabulary) return SENTENC_BAD_ARGUMENT;
    uint64_t n_long = 0;
    for (int64_t i = 0; i < n_tokens; i++) n_long += starts[i + 1] - starts[i] > SHORT_TOKEN;
    uint64_t size = table_size((uint64_t)n_tokens), long_size = table_size(n_long);
    sentenc_vocabulary *v = calloc(1, sizeof *v);
    if (!v) return SENTENC_NO_MEMORY;
    v->entries = calloc(size, sizeof *v->entries);
    v->long_entries = calloc(long_size, sizeof *v->long_entries);
    v->pool = malloc((size_t)pool_size + 1);
    if (!v->entries || !v->long_entries || !v->pool) {
        sentenc_vocabulary_free(v);
        return SENTENC_NO_MEMORY;
    }
    memcpy(v->pool, pool, (size_t)pool_size);
    for (uint64_t i = 0; i < size; i++) v->entries[i].id = -1;
    for (uint64_t i = 0; i < long_size; i++) v->long_entries[i].id = -1;
    memset(v->single, 0xFF, sizeof v->single);
    v->entry_mask = size - 1;
    v->long_mask = long_size - 1;
    v->entry_shift = 64;
    for (uint64_t i = size; i > 1; i /= 2) v->entry_shift--;
    v->max_chars = max_chars;
    v->n_tokens = n_tokens;
    v->splits_words = splits_words != 0;
    v->unknown = unknown;
    set_rules(v, classes, lower);
    for (int64_t i = 0; i < n_tokens; i++)
        if (starts[i + 1] > starts[i])
            add_token(v, starts[i], (uint64_t)(starts[i + 1] - starts[i]), is_continuation[i] != 0, (int32_t)i);
    *vocabulary = v;
    return SENTENC_OK;
}

SENTENC_EXPORT void sentenc_vocabulary_free(sentenc_vocabulary *v) {
    if (!v) return;
    free(v->entries);
    free(v->long_entries);
    free(v->pool);
    free(v);
}
