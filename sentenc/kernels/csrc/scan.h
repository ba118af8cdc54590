/* Classifies 64 bytes at a time: one bit for each byte, and lower case. */
#ifndef SENTENC_SCAN_H
#define SENTENC_SCAN_H

#include "internal.h"
#include "simd.h"

/* Returns which of 64 bytes belong to a set of ASCII bytes. The low half of a byte selects an entry of the set,
 * and the high half a bit of the entry. A byte of 128 or above selects zero. */
#if defined(SENTENC_HAS_AVX512)
static inline uint64_t members(const uint8_t *bytes, const uint8_t set[16]) {
    __m512i x = _mm512_loadu_si512(bytes);
    __m512i entries = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)set));
    __m512i bits = _mm512_broadcast_i32x4(_mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15));
    __m512i entry = _mm512_shuffle_epi8(entries, _mm512_and_si512(x, _mm512_set1_epi8((char)0x8F)));
    return _mm512_test_epi8_mask(entry, _mm512_shuffle_epi8(bits, high));
}

static inline void lower_ascii(const uint8_t *bytes, uint8_t *out) {
    __m512i x = _mm512_loadu_si512(bytes);
    __mmask64 is_upper = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(x, _mm512_set1_epi8('A')), _mm512_set1_epi8(26));
    _mm512_storeu_si512(out, _mm512_mask_add_epi8(x, is_upper, x, _mm512_set1_epi8(32)));
}

#elif defined(SENTENC_HAS_AVX2)
static inline uint64_t members(const uint8_t *bytes, const uint8_t set[16]) {
    __m256i entries = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)set));
    __m256i bits = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
    uint32_t masks[2];
    for (int i = 0; i < 2; i++) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(bytes + 32 * i));
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(15));
        __m256i entry = _mm256_shuffle_epi8(entries, _mm256_and_si256(x, _mm256_set1_epi8((char)0x8F)));
        __m256i hit = _mm256_and_si256(entry, _mm256_shuffle_epi8(bits, high));
        masks[i] = ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(hit, _mm256_setzero_si256()));
    }
    return masks[0] | (uint64_t)masks[1] << 32;
}

static inline void lower_ascii(const uint8_t *bytes, uint8_t *out) {
    for (int i = 0; i < 64; i += 32) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(bytes + i));
        __m256i is_upper = _mm256_and_si256(_mm256_cmpgt_epi8(x, _mm256_set1_epi8('A' - 1)),
                                            _mm256_cmpgt_epi8(_mm256_set1_epi8('Z' + 1), x));
        x = _mm256_add_epi8(x, _mm256_and_si256(is_upper, _mm256_set1_epi8(32)));
        _mm256_storeu_si256((__m256i *)(out + i), x);
    }
}

#elif defined(__aarch64__)
static inline uint64_t members(const uint8_t *bytes, const uint8_t set[16]) {
    static const uint8_t powers[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    static const uint8_t high_bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0};
    uint8x16_t entries = vld1q_u8(set), bits = vld1q_u8(high_bits), weights = vld1q_u8(powers);
    uint64_t mask = 0;
    for (int i = 0; i < 4; i++) {
        uint8x16_t x = vld1q_u8(bytes + 16 * i);
        uint8x16_t entry = vqtbl1q_u8(entries, vandq_u8(x, vdupq_n_u8(15)));
        uint8x16_t hit = vandq_u8(vtstq_u8(entry, vqtbl1q_u8(bits, vshrq_n_u8(x, 4))), weights);
        uint64_t low = vaddv_u8(vget_low_u8(hit)), high = vaddv_u8(vget_high_u8(hit));
        mask |= (low | high << 8) << (16 * i);
    }
    return mask;
}

static inline void lower_ascii(const uint8_t *bytes, uint8_t *out) {
    for (int i = 0; i < 64; i += 16) {
        uint8x16_t x = vld1q_u8(bytes + i);
        uint8x16_t is_upper = vcltq_u8(vsubq_u8(x, vdupq_n_u8('A')), vdupq_n_u8(26));
        vst1q_u8(out + i, vaddq_u8(x, vandq_u8(is_upper, vdupq_n_u8(32))));
    }
}

#else
static inline uint64_t members(const uint8_t *bytes, const uint8_t set[16]) {
    uint64_t mask = 0;
    for (int i = 0; i < 64; i++) {
        uint8_t byte = bytes[i];
        uint64_t is_member = byte < 128 && (set[byte & 15] >> (byte >> 4) & 1);
        mask |= is_member << i;
    }
    return mask;
}

static inline void lower_ascii(const uint8_t *bytes, uint8_t *out) {
    for (int i = 0; i < 64; i++) out[i] = (uint8_t)(bytes[i] + ((uint8_t)(bytes[i] - 'A') < 26 ? 32 : 0));
}
#endif

#endif
