/* Explicit vectors: the same few operations in each instruction set.
 *
 * floats: FLOATS numbers of float32; shorts: SHORTS = 2 FLOATS numbers of int16; ints: FLOATS numbers of int32.
 * multiply_pairs adds the 32-bit products of two neighbors, in an order that only sum_ints undoes.
 * store_rounded rounds to the nearest int8, halves to the even one; NaN becomes -128. */
#ifndef SENTENC_SIMD_H
#define SENTENC_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512BW__) && defined(__AVX512VBMI__)
#define SENTENC_HAS_AVX512
#elif defined(__AVX2__) && defined(__FMA__)
#define SENTENC_HAS_AVX2
#endif

#if defined(SENTENC_HAS_AVX512)
#include <immintrin.h>
#define FLOATS 16
typedef __m512 floats;
typedef __m512i shorts;
static inline floats zero_floats(void) { return _mm512_setzero_ps(); }
static inline floats load_floats(const float *p) { return _mm512_loadu_ps(p); }
static inline void store_floats(float *p, floats x) { _mm512_storeu_ps(p, x); }
static inline floats all_floats(float x) { return _mm512_set1_ps(x); }
static inline floats multiply_add(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
static inline floats multiply(floats a, floats b) { return _mm512_mul_ps(a, b); }
static inline floats divide(floats a, floats b) { return _mm512_div_ps(a, b); }
static inline void store_rounded(int8_t *p, floats x) {
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-128)), _mm512_set1_ps(127));
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}
static inline floats bytes_to_floats(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline shorts zero_shorts(void) { return _mm512_setzero_si512(); }
static inline shorts load_shorts(const int16_t *p) { return _mm512_loadu_si512(p); }
static inline shorts bytes_to_shorts(const int8_t *p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}
static inline shorts add_shorts(shorts a, shorts b) { return _mm512_add_epi16(a, b); }
static inline shorts max_shorts(shorts a, shorts b) { return _mm512_max_epi16(a, b); }
static inline shorts all_shorts(int16_t x) { return _mm512_set1_epi16(x); }
static inline floats low_floats(shorts x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(x)));
}
static inline floats high_floats(shorts x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(x, 1)));
}
typedef __m512i ints;
static inline ints zero_ints(void) { return _mm512_setzero_si512(); }
static inline ints multiply_pairs(shorts a, shorts b, ints sum) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
}
static inline int32_t sum_ints(ints x) { return _mm512_reduce_add_epi32(x); }

#elif defined(SENTENC_HAS_AVX2)
#include <immintrin.h>
#define FLOATS 8
typedef __m256 floats;
typedef __m256i shorts;
static inline floats zero_floats(void) { return _mm256_setzero_ps(); }
static inline floats load_floats(const float *p) { return _mm256_loadu_ps(p); }
static inline void store_floats(float *p, floats x) { _mm256_storeu_ps(p, x); }
static inline floats all_floats(float x) { return _mm256_set1_ps(x); }
static inline floats multiply_add(floats a, floats b, floats c) { return _mm256_fmadd_ps(a, b, c); }
static inline floats multiply(floats a, floats b) { return _mm256_mul_ps(a, b); }
static inline floats divide(floats a, floats b) { return _mm256_div_ps(a, b); }
static inline void store_rounded(int8_t *p, floats x) {
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-128)), _mm256_set1_ps(127));
    __m256i whole = _mm256_cvtps_epi32(x);
    __m128i eight = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(eight, eight));
}
static inline floats bytes_to_floats(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline shorts zero_shorts(void) { return _mm256_setzero_si256(); }
static inline shorts load_shorts(const int16_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline shorts bytes_to_shorts(const int8_t *p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}
static inline shorts add_shorts(shorts a, shorts b) { return _mm256_add_epi16(a, b); }
static inline shorts max_shorts(shorts a, shorts b) { return _mm256_max_epi16(a, b); }
static inline shorts all_shorts(int16_t x) { return _mm256_set1_epi16(x); }
static inline floats low_floats(shorts x) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(x)));
}
static inline floats high_floats(shorts x) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(x, 1)));
}
typedef __m256i ints;
static inline ints zero_ints(void) { return _mm256_setzero_si256(); }
static inline ints multiply_pairs(shorts a, shorts b, ints sum) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
static inline int32_t sum_ints(ints x) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
}

#elif defined(__aarch64__)
#include <arm_neon.h>
#define FLOATS 4
typedef float32x4_t floats;
typedef int16x8_t shorts;
static inline floats zero_floats(void) { return vdupq_n_f32(0); }
static inline floats load_floats(const float *p) { return vld1q_f32(p); }
static inline void store_floats(float *p, floats x) { vst1q_f32(p, x); }
static inline floats all_floats(float x) { return vdupq_n_f32(x); }
static inline floats multiply_add(floats a, floats b, floats c) { return vfmaq_f32(c, a, b); }
static inline floats multiply(floats a, floats b) { return vmulq_f32(a, b); }
static inline floats divide(floats a, floats b) { return vdivq_f32(a, b); }
static inline void store_rounded(int8_t *p, floats x) {
    x = vminnmq_f32(vmaxnmq_f32(x, vdupq_n_f32(-128)), vdupq_n_f32(127));
    int16x4_t four = vmovn_s32(vcvtnq_s32_f32(x));
    int32_t bytes = vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(four, four))), 0);
    memcpy(p, &bytes, 4);
}
static inline floats bytes_to_floats(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, 4);
    int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}
static inline shorts zero_shorts(void) { return vdupq_n_s16(0); }
static inline shorts load_shorts(const int16_t *p) { return vld1q_s16(p); }
static inline shorts bytes_to_shorts(const int8_t *p) { return vmovl_s8(vld1_s8(p)); }
static inline shorts add_shorts(shorts a, shorts b) { return vaddq_s16(a, b); }
static inline shorts max_shorts(shorts a, shorts b) { return vmaxq_s16(a, b); }
static inline shorts all_shorts(int16_t x) { return vdupq_n_s16(x); }
static inline floats low_floats(shorts x) { return vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))); }
static inline floats high_floats(shorts x) { return vcvtq_f32_s32(vmovl_s16(vget_high_s16(x))); }
typedef int32x4_t ints;
static inline ints zero_ints(void) { return vdupq_n_s32(0); }
static inline ints multiply_pairs(shorts a, shorts b, ints sum) {
    return vmlal_s16(vmlal_s16(sum, vget_low_s16(a), vget_low_s16(b)), vget_high_s16(a), vget_high_s16(b));
}
static inline int32_t sum_ints(ints x) { return vaddvq_s32(x); }

#elif defined(__x86_64__) || defined(_M_X64)
#include <emmintrin.h>
#define FLOATS 4
typedef __m128 floats;
typedef __m128i shorts;
static inline floats zero_floats(void) { return _mm_setzero_ps(); }
static inline floats load_floats(const float *p) { return _mm_loadu_ps(p); }
static inline void store_floats(float *p, floats x) { _mm_storeu_ps(p, x); }
static inline floats all_floats(float x) { return _mm_set1_ps(x); }
static inline floats multiply_add(floats a, floats b, floats c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
static inline floats multiply(floats a, floats b) { return _mm_mul_ps(a, b); }
static inline floats divide(floats a, floats b) { return _mm_div_ps(a, b); }
static inline void store_rounded(int8_t *p, floats x) {
    x = _mm_min_ps(_mm_max_ps(x, _mm_set1_ps(-128)), _mm_set1_ps(127));
    __m128i four = _mm_cvtps_epi32(x);
    four = _mm_packs_epi32(four, four);
    int32_t bytes = _mm_cvtsi128_si32(_mm_packs_epi16(four, four));
    memcpy(p, &bytes, 4);
}
/* Without SSE4.1, a number is widened by a copy above itself and an arithmetic shift. */
static inline floats bytes_to_floats(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, 4);
    __m128i x = _mm_cvtsi32_si128(four);
    x = _mm_unpacklo_epi8(x, x);
    return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(x, x), 24));
}
static inline shorts zero_shorts(void) { return _mm_setzero_si128(); }
static inline shorts load_shorts(const int16_t *p) { return _mm_loadu_si128((const __m128i *)p); }
static inline shorts bytes_to_shorts(const int8_t *p) {
    __m128i x = _mm_loadl_epi64((const __m128i *)p);
    return _mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8);
}
static inline shorts add_shorts(shorts a, shorts b) { return _mm_add_epi16(a, b); }
static inline shorts max_shorts(shorts a, shorts b) { return _mm_max_epi16(a, b); }
static inline shorts all_shorts(int16_t x) { return _mm_set1_epi16(x); }
static inline floats low_floats(shorts x) {
    return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(x, x), 16));
}
static inline floats high_floats(shorts x) {
    return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpackhi_epi16(x, x), 16));
}
typedef __m128i ints;
static inline ints zero_ints(void) { return _mm_setzero_si128(); }
static inline ints multiply_pairs(shorts a, shorts b, ints sum) {
    return _mm_add_epi32(sum, _mm_madd_epi16(a, b));
}
static inline int32_t sum_ints(ints x) {
    __m128i two = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
}

#else /* any other architecture: "vectors" that a compiler can vectorize */
#define FLOATS 1
typedef float floats;
typedef struct { int16_t x[2]; } shorts;
static inline floats zero_floats(void) { return 0; }
static inline floats load_floats(const float *p) { return *p; }
static inline void store_floats(float *p, floats x) { *p = x; }
static inline floats all_floats(float x) { return x; }
static inline floats multiply_add(floats a, floats b, floats c) { return a * b + c; }
static inline floats multiply(floats a, floats b) { return a * b; }
static inline floats divide(floats a, floats b) { return a / b; }
static inline void store_rounded(int8_t *p, floats x) {
    x = x > -128 ? x : -128;
    *p = (int8_t)rintf(x < 127 ? x : 127);
}
static inline floats bytes_to_floats(const int8_t *p) { return *p; }
static inline shorts zero_shorts(void) { return (shorts){{0, 0}}; }
static inline shorts load_shorts(const int16_t *p) { return (shorts){{p[0], p[1]}}; }
static inline shorts bytes_to_shorts(const int8_t *p) { return (shorts){{p[0], p[1]}}; }
static inline shorts add_shorts(shorts a, shorts b) {
    return (shorts){{(int16_t)(a.x[0] + b.x[0]), (int16_t)(a.x[1] + b.x[1])}};
}
static inline shorts max_shorts(shorts a, shorts b) {
    return (shorts){{a.x[0] > b.x[0] ? a.x[0] : b.x[0], a.x[1] > b.x[1] ? a.x[1] : b.x[1]}};
}
static inline shorts all_shorts(int16_t x) { return (shorts){{x, x}}; }
static inline floats low_floats(shorts x) { return x.x[0]; }
static inline floats high_floats(shorts x) { return x.x[1]; }
typedef int32_t ints;
static inline ints zero_ints(void) { return 0; }
static inline ints multiply_pairs(shorts a, shorts b, ints sum) { return sum + a.x[0] * b.x[0] + a.x[1] * b.x[1]; }
static inline int32_t sum_ints(ints x) { return x; }
#endif

#define SHORTS (2 * FLOATS)

#endif
