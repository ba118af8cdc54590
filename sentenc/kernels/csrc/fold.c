/* Folds UTF-8 by a table from code points to bytes (see sentenc.tokenization.unicode_fold). */
#include <stdlib.h>

#include "internal.h"

typedef struct {
    const sentenc_fold_table *table;
    int32_t allows_special;
    uint8_t *out;
    int64_t n, size; /* bytes so far, and the room in `out`; more are counted, but not written */
    int64_t missing;
} folding;

/* Reads one code point of at least one byte before `end`. Surrogates are accepted; Python may pass them. */
static const uint8_t *next_point(const uint8_t *p, const uint8_t *end, uint32_t *point) {
    uint32_t first = *p;
    int length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    if (length > 1 && end - p >= length) {
        uint32_t value = first & (0xFFu >> (length + 1));
        int i = 1;
        for (; i < length && (p[i] & 0xC0) == 0x80; i++) value = value << 6 | (p[i] & 0x3Fu);
        int is_short = (length == 3 && value < 0x800) || (length == 4 && (value < 0x10000 || value > 0x10FFFF));
        if (i == length && !is_short) {
            *point = value;
            return p + length;
        }
    }
    *point = length == 1 ? first : 0xFFFD;
    return p + 1;
}

static int32_t fold_point(folding *f, uint32_t point) {
    const sentenc_fold_table *table = f->table;
    int64_t page = table->page_of[point >> 8];
    if (page < 0 || page >= table->n_pages) {
        f->missing = point >> 8;
        return SENTENC_FOLD_MISSING;
    }
    int64_t entry = page * 256 + (point & 255), length = table->lengths[entry], start = table->starts[entry];
    if (length < 0) {
        if (!f->allows_special) return SENTENC_FOLD_SPECIAL;
        length = -length;
    }
    if (start < 0 || start > table->pool_size - length) return SENTENC_BAD_ARGUMENT;
    if (f->n <= f->size - length)
        for (int64_t i = 0; i < length; i++) f->out[f->n + i] = table->pool[start + i];
    f->n += length;
    return SENTENC_OK;
}

/* Copies the ASCII bytes at the start, which keep their values, and returns where they end. */
static const uint8_t *fold_ascii(folding *f, const uint8_t *p, const uint8_t *end) {
    const uint8_t *start = p;
    for (; end - p >= 8; p += 8) {
        uint64_t eight;
        memcpy(&eight, p, 8);
        if (eight & 0x8080808080808080u) break;
    }
    while (p < end && *p < 0x80) p++;
    int64_t length = p - start;
    if (f->n <= f->size - length && length > 0) memcpy(f->out + f->n, start, (size_t)length);
    f->n += length;
    return p;
}

static int32_t fold_text(folding *f, const uint8_t *p, const uint8_t *end) {
    while (p < end) {
        p = fold_ascii(f, p, end);
        while (p < end && *p >= 0x80) {
            uint32_t point;
            p = next_point(p, end, &point);
            int32_t status = fold_point(f, point);
            if (status != SENTENC_OK) return status;
        }
    }
    return SENTENC_OK;
}

static int is_valid(const sentenc_fold_table *table) {
    return table && table->page_of && table->n_pages >= 0 && table->pool_size >= 0 &&
           (table->n_pages == 0 || (table->starts && table->lengths)) && (table->pool_size == 0 || table->pool);
}

SENTENC_EXPORT int32_t sentenc_fold(const sentenc_fold_table *table, const uint8_t *text, int64_t text_size,
                                    const int64_t *offsets, int64_t n_texts, int32_t allows_special,
                                    uint8_t *out, int64_t out_size, int64_t *ends, int64_t *needed) {
    if (!is_valid(table) || !ends || !needed || out_size < 0 || !out) return SENTENC_BAD_ARGUMENT;
    int64_t *own;
    int32_t status = sentenc_copy_offsets(text, text_size, offsets, n_texts, &own);
    if (status != SENTENC_OK) return status;
    folding f = {table, allows_special, out, 0, out_size, 0};
    ends[0] = 0;
    for (int64_t i = 0; i < n_texts && status == SENTENC_OK; i++) {
        status = fold_text(&f, text + own[i], text + own[i + 1]);
        ends[i + 1] = f.n;
    }
    free(own);
    *needed = status == SENTENC_OK ? f.n : f.missing;
    return status == SENTENC_OK && f.n > out_size ? SENTENC_TOO_SMALL : status;
}
