/* Splits the bytes of a text into words and the words into tokens.
 *
 * The common path of a word is one look-up: the boundaries of words come from bit masks of 64 bytes, and a word
 * of at most 16 bytes is a key by itself. */
#ifndef SENTENC_TOKENIZE_H
#define SENTENC_TOKENIZE_H

#include "internal.h"
#include "scan.h"

typedef struct {
    int32_t *ids;
    int64_t n, limit; /* all tokens so far, and the number that may be written */
} token_list;

static inline void append(token_list *list, int32_t id) {
    if (list->n < list->limit) list->ids[list->n] = id;
    list->n++;
}

static inline int32_t find_short(const sentenc_vocabulary *v, const uint8_t *bytes, uint64_t length, int continues) {
    uint64_t low, high;
    uint32_t kind = token_kind(length, continues);
    short_key(bytes, length, &low, &high);
    uint64_t slot = short_hash(low, high, kind) >> v->entry_shift;
    for (;; slot = (slot + 1) & v->entry_mask) {
        const short_entry *entry = &v->entries[slot];
        if (entry->low == low && entry->high == high && entry->kind == kind) return entry->id;
        if (entry->id < 0) return -1;
    }
}

static int32_t find_long(const sentenc_vocabulary *v, const uint8_t *bytes, uint64_t length, int continues) {
    uint32_t kind = token_kind(length, continues);
    uint64_t hash = long_hash(bytes, length, kind);
    for (uint64_t slot = hash & v->long_mask;; slot = (slot + 1) & v->long_mask) {
        const long_entry *entry = &v->long_entries[slot];
        if (entry->id < 0) return -1;
        /* Bytes are compared, so that equal hashes do no harm. */
        if (entry->hash == hash && entry->kind == kind && memcmp(v->pool + entry->start, bytes, length) == 0)
            return entry->id;
    }
}

/* Returns the id of the token, or -1. */
static inline int32_t find(const sentenc_vocabulary *v, const uint8_t *bytes, int64_t length, int continues) {
    if (length <= SHORT_TOKEN) return find_short(v, bytes, (uint64_t)length, continues);
    return length > v->longest ? -1 : find_long(v, bytes, (uint64_t)length, continues);
}

/* Returns the id of the longest token with which `bytes` begins, and its length. */
static int32_t find_longest(const sentenc_vocabulary *v, const uint8_t *bytes, int64_t length, int continues,
                            int64_t *id_length) {
    int64_t end = length < v->longest ? length : v->longest;
    uint32_t lengths = length > 1 ? v->lengths[continues][length_bucket(bytes)] : 0;
    for (; end > 1; end--) {
        if (!(lengths >> (end < 31 ? end : 31) & 1)) continue;
        /* A token never ends inside a character, where the next byte is a UTF-8 continuation byte. */
        if (end < length && (bytes[end] & 0xC0) == 0x80) continue;
        int32_t id = find(v, bytes, end, continues);
        if (id >= 0) {
            *id_length = end;
            return id;
        }
    }
    *id_length = 1;
    return length > 1 && (bytes[1] & 0xC0) == 0x80 ? -1 : v->single[continues][bytes[0]];
}

static int is_too_long(const sentenc_vocabulary *v, const uint8_t *word, int64_t length) {
    if (length <= v->max_chars) return 0;
    int64_t chars = 0;
    for (int64_t i = 0; i < length; i++) chars += (word[i] & 0xC0) != 0x80;
    return chars > v->max_chars;
}

/* WordPiece: greedy, the longest match first. If some part is unknown, the whole word is. */
static void split_word(const sentenc_vocabulary *v, const uint8_t *word, int64_t length, token_list *list) {
    int64_t first = list->n, start = 0;
    if (v->splits_words && !is_too_long(v, word, length)) {
        while (start < length) {
            int64_t id_length;
            int32_t id = find_longest(v, word + start, length - start, start > 0, &id_length);
            if (id < 0) break;
            append(list, id);
            start += id_length;
        }
    }
    if (start < length) {
        list->n = first;
        if (v->unknown >= 0) append(list, v->unknown);
    }
}

static inline void add_word(const sentenc_vocabulary *v, const uint8_t *word, int64_t length, token_list *list) {
    int32_t id = find(v, word, length, 0);
    if (id >= 0 && (length <= v->max_chars || !is_too_long(v, word, length)))
        append(list, id);
    else
        split_word(v, word, length, list);
}

static inline void add_punctuation(const sentenc_vocabulary *v, uint8_t byte, token_list *list) {
    int32_t id = v->single[0][byte] >= 0 ? v->single[0][byte] : v->unknown;
    if (id >= 0) append(list, id);
}

/* Writes the bytes that no rule removes, in lower case, and returns their number. */
static int64_t clean(const sentenc_vocabulary *v, const uint8_t *text, int64_t size, uint8_t *bytes) {
    int64_t n = 0;
    for (int64_t i = 0; i < size; i++)
        if (v->classes[text[i]] != SENTENC_REMOVED) bytes[n++] = v->lower[text[i]];
    return n;
}

static int has_removed(const sentenc_vocabulary *v, const uint8_t *text, int64_t size) {
    int64_t i = 0;
    for (; i + 64 <= size; i += 64)
        if (members(text + i, v->removed)) return 1;
    for (; i < size; i++)
        if (v->classes[text[i]] == SENTENC_REMOVED) return 1;
    return 0;
}

/* Returns the boundaries in one block of at most 64 bytes, and writes the block in lower case. */
static inline uint64_t next_block(const sentenc_vocabulary *v, const uint8_t *text, int64_t size, uint8_t *bytes) {
    uint8_t block[64];
    if (size < 64) {
        memset(block, ' ', 64);
        memcpy(block, text, (size_t)size);
        text = block;
    }
    uint64_t boundaries = members(text, v->outside_words);
    if (v->lowers_ascii == 1)
        lower_ascii(text, bytes);
    else if (text != bytes)
        memcpy(bytes, text, 64);
    return size < 64 ? boundaries & ((1ull << size) - 1) : boundaries;
}

static int64_t tokenize(const sentenc_vocabulary *v, const uint8_t *text, int64_t size, uint8_t *bytes,
                        int32_t *ids, int64_t limit) {
    token_list list = {ids, 0, limit};
    /* Classes are of bytes before lower case, so other rules than ASCII lower case are applied byte by byte. */
    if (has_removed(v, text, size) || v->lowers_ascii < 0) {
        size = clean(v, text, size, bytes);
        text = bytes;
    }
    int64_t word = 0; /* where the current word begins */
    for (int64_t start = 0; start < size; start += 64) {
        uint64_t boundaries = next_block(v, text + start, size - start < 64 ? size - start : 64, bytes + start);
        for (; boundaries; boundaries &= boundaries - 1) {
            int64_t end = start + __builtin_ctzll(boundaries);
            if (end > word) add_word(v, bytes + word, end - word, &list);
            if (v->classes[bytes[end]] == SENTENC_PUNCTUATION) add_punctuation(v, bytes[end], &list);
            word = end + 1;
        }
    }
    if (size > word) add_word(v, bytes + word, size - word, &list);
    return list.n;
}

#endif
