/* The n-gram path: phi of the sum of an n-gram's table entries, pooled over all n-grams of a sentence. */
#ifndef SENTENC_NGRAMS_H
#define SENTENC_NGRAMS_H

#include <math.h>

#include "internal.h"
#include "simd.h"

/* Sums of this many windows fit into 16 bits (see INT16_BIAS in sentenc.kernels.encode). */
#define WINDOWS_PER_FLUSH 32

/* Adds scales * (max(sum of taps + steps, floor) summed over the windows) to out[:BLOCK * SHORTS]. The sums
 * are in whole quantization steps. As scales are positive, max(scale z + bias, 0) is
 * scale max(z + bias / scale, 0). */
#define DEFINE_ADD_WINDOWS(TAPS, BLOCK)                                                                         \
    static inline void add_windows_##TAPS##_##BLOCK(const int8_t *rows, int64_t stride, int64_t k,             \
                                                    const int32_t *ids, int64_t windows, const float *scales,  \
                                                    const int16_t *steps, int16_t floor, float *out) {         \
        shorts step[BLOCK], lowest = all_shorts(floor);                                                         \
        for (int b = 0; b < BLOCK; b++) step[b] = load_shorts(steps + b * SHORTS);                              \
        for (int64_t start = 0; start < windows; start += WINDOWS_PER_FLUSH) {                                  \
            int64_t end = windows < start + WINDOWS_PER_FLUSH ? windows : start + WINDOWS_PER_FLUSH;            \
            shorts total[BLOCK];                                                                                \
            for (int b = 0; b < BLOCK; b++) total[b] = zero_shorts();                                           \
            for (int64_t i = start; i < end; i++) {                                                             \
                const int8_t *first = rows + ids[i] * stride;                                                   \
                const int8_t *second = TAPS > 1 ? rows + ids[i + (TAPS > 1)] * stride + k : first;              \
                const int8_t *third = TAPS > 2 ? rows + ids[i + 2 * (TAPS > 2)] * stride + 2 * k : first;       \
                for (int b = 0; b < BLOCK; b++) {                                                               \
                    shorts z = add_shorts(bytes_to_shorts(first + b * SHORTS), step[b]);                        \
                    if (TAPS > 1) z = add_shorts(z, bytes_to_shorts(second + b * SHORTS));                      \
                    if (TAPS > 2) z = add_shorts(z, bytes_to_shorts(third + b * SHORTS));                       \
                    total[b] = add_shorts(total[b], max_shorts(z, lowest));                                     \
                }                                                                                               \
            }                                                                                                   \
            for (int b = 0; b < BLOCK; b++) {                                                                   \
                float *low = out + b * SHORTS, *high = low + FLOATS;                                            \
                const float *scale = scales + b * SHORTS;                                                       \
                store_floats(low, multiply_add(load_floats(scale), low_floats(total[b]), load_floats(low)));    \
                store_floats(high, multiply_add(load_floats(scale + FLOATS), high_floats(total[b]),             \
                                                load_floats(high)));                                            \
            }                                                                                                   \
        }                                                                                                       \
    }
DEFINE_ADD_WINDOWS(1, 4)
DEFINE_ADD_WINDOWS(2, 4)
DEFINE_ADD_WINDOWS(3, 4)
DEFINE_ADD_WINDOWS(1, 2)
DEFINE_ADD_WINDOWS(2, 2)
DEFINE_ADD_WINDOWS(3, 2)
DEFINE_ADD_WINDOWS(1, 1)
DEFINE_ADD_WINDOWS(2, 1)
DEFINE_ADD_WINDOWS(3, 1)

#define ADD_WINDOWS(BLOCK)                                                                                     \
    do {                                                                                                       \
        if (taps == 1)                                                                                         \
            add_windows_1_##BLOCK(rows + f, stride, k, ids, windows, scales + f, steps + f, floor, out + f);   \
        else if (taps == 2)                                                                                    \
            add_windows_2_##BLOCK(rows + f, stride, k, ids, windows, scales + f, steps + f, floor, out + f);   \
        else                                                                                                   \
            add_windows_3_##BLOCK(rows + f, stride, k, ids, windows, scales + f, steps + f, floor, out + f);   \
    } while (0)

/* Adds all full windows of one width of at most 3. Filters that do not fill a vector are added one by one. */
static void add_short_windows(const int8_t *rows, int64_t stride, int64_t k, int64_t taps, const int32_t *ids,
                              int64_t windows, const float *scales, const int16_t *steps, int16_t floor, float *out) {
    int64_t f = 0;
    for (; f + 4 * SHORTS <= k; f += 4 * SHORTS) ADD_WINDOWS(4);
    for (; f + 2 * SHORTS <= k; f += 2 * SHORTS) ADD_WINDOWS(2);
    for (; f + SHORTS <= k; f += SHORTS) ADD_WINDOWS(1);
    for (; f < k; f++) {
        int64_t total = 0;
        for (int64_t i = 0; i < windows; i++) {
            int z = steps[f];
            for (int64_t j = 0; j < taps; j++) z += rows[ids[i + j] * stride + j * k + f];
            total += z > floor ? z : floor;
        }
        out[f] += scales[f] * (float)total;
    }
}

static float activate(float z, int64_t phi) {
    if (phi == SENTENC_RELU) return z > 0 ? z : 0;
    if (phi == SENTENC_TANH) return tanhf(z);
    if (phi == SENTENC_GELU) return 0.5f * z * (1 + erff(z * 0.70710678118654752f));
    return z;
}

/* Pools the windows from `first` on, with any activation and any number of taps, which a window at the end of
 * the sentence has fewer of. `column` is where the filters of this width begin in a row. */
static void add_float_windows(const sentenc_cse *model, int64_t column, int64_t width, const int32_t *ids, int64_t n,
                              int64_t first, int64_t windows, int64_t feature, float *out) {
    int64_t k = model->filters, stride = model->ngram_stride;
    const char *table = model->ngram_rows;
    for (int64_t i = first; i < windows; i++) {
        int64_t taps = width < n - i ? width : n - i;
        for (int64_t f = 0; f < k; f++) {
            float z = 0;
            for (int64_t j = 0; j < taps; j++) {
                const char *row = table + ids[i + j] * stride;
                int64_t at = column + j * k + f;
                z += model->is_int8 ? (float)((const int8_t *)row)[at] : ((const float *)row)[at];
            }
            z = activate(z * model->filter_scales[feature + f] + model->filter_biases[feature + f], model->phi);
            if (model->pooling == SENTENC_MAX)
                out[f] = i == 0 || z > out[f] ? z : out[f];
            else
                out[f] += z;
        }
    }
}

/* Writes s_h of every width h to out, k values each, for n of at least 1. */
static void pool_ngrams(const sentenc_cse *model, const int32_t *ids, int64_t n, float *out) {
    int64_t k = model->filters, column = 0;
    int is_linear = model->phi == SENTENC_RELU || model->phi == SENTENC_IDENTITY;
    int is_whole = model->is_int8 && model->bias_steps && model->pooling != SENTENC_MAX && is_linear;
    int16_t floor = model->phi == SENTENC_RELU ? 0 : INT16_MIN;
    memset(out, 0, (size_t)(model->n_widths * k) * sizeof *out);
    for (int64_t w = 0; w < model->n_widths; w++, out += k) {
        int64_t width = model->widths[w], feature = w * k, done = 0;
        int64_t full = n - width + 1 > 0 ? n - width + 1 : 0;
        int64_t windows = model->is_padded ? n : full > 0 ? full : 1;
        if (is_whole && width <= 3) {
            const int8_t *rows = (const int8_t *)model->ngram_rows + column;
            add_short_windows(rows, model->ngram_stride, k, width, ids, full, model->filter_scales + feature,
                              model->bias_steps + feature, floor, out);
            done = full;
        }
        add_float_windows(model, column, width, ids, n, done, windows, feature, out);
        if (model->pooling == SENTENC_MEAN)
            for (int64_t f = 0; f < k; f++) out[f] *= 1 / (float)windows;
        column += width * k;
    }
}

#endif
