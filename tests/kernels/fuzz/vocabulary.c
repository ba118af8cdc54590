/* A vocabulary of random tokens, most of which are parts of the text. */
#include "fuzz.h"

static void set_rules(uint64_t *state, uint8_t *classes, uint8_t *lower) {
    int64_t kind = random_below(state, 4);
    for (int byte = 0; byte < 256; byte++) {
        int is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9');
        int is_space = byte == ' ' || (byte >= '\t' && byte <= '\r');
        int class = byte >= 128 || is_letter ? SENTENC_WORD : is_space ? SENTENC_SPACE : SENTENC_PUNCTUATION;
        if (byte < 32 && !is_space) class = SENTENC_REMOVED;
        if (kind == 3 && byte < 128) class = (int)random_below(state, 4);
        classes[byte] = (uint8_t)class;
        lower[byte] = (uint8_t)(kind != 1 && byte >= 'A' && byte <= 'Z' ? byte + 32 : byte);
    }
    for (int byte = 0; byte < 256; byte++) {
        if (kind >= 2) lower[byte] = (uint8_t)random_below(state, 256);
        /* The library refuses tables that change the class of a byte. A few are left as they are. */
        int changes = classes[byte] != SENTENC_REMOVED && classes[lower[byte]] != classes[byte];
        if (changes && random_below(state, 4096) > 0) lower[byte] = (uint8_t)byte;
    }
}

static int64_t token_size(uint64_t *state) {
    static const int64_t limits[] = {1, 2, 4, 8, 16, 17, 31, 32, 40, 70};
    return random_below(state, 1 + limits[random_below(state, sizeof limits / sizeof *limits)] + 1);
}

sentenc_vocabulary *random_vocabulary(uint64_t *state, const texts *t, int64_t *n_tokens) {
    int64_t n = *n_tokens = 1 + random_below(state, random_below(state, 4) ? 40 : 1200);
    int64_t *starts = allocate((size_t)(n + 1) * sizeof *starts), size = 0;
    uint8_t *continues = allocate((size_t)n), *pool = allocate((size_t)n * 80);
    uint8_t *classes = allocate(256), *lower = allocate(256);
    set_rules(state, classes, lower);
    for (int64_t i = 0; i < n; i++) {
        int64_t length = token_size(state);
        int is_part = t->size > length && random_below(state, 8) > 0;
        int64_t from = is_part ? random_below(state, t->size - length + 1) : 0;
        starts[i] = size;
        continues[i] = (uint8_t)random_below(state, 2);
        for (int64_t j = 0; j < length; j++)
            pool[size++] = is_part ? lower[t->text[from + j]] : (uint8_t)random_below(state, 256);
    }
    starts[n] = size;
    uint8_t *exact = allocate((size_t)size);
    memcpy(exact, pool, (size_t)size);
    if (random_below(state, 512) == 0) starts[random_below(state, n + 1)] = (int64_t)random_bits(state);
    int64_t max_chars = random_below(state, 4) ? 1 + random_below(state, 120) : INT64_MAX;
    int32_t unknown = (int32_t)random_below(state, n + 2) - 1; /* n is refused */
    sentenc_vocabulary *vocabulary = NULL;
    fuzz_allocations_left = random_below(state, 64) == 0 ? random_below(state, 4) : -1;
    int fails = fuzz_allocations_left >= 0;
    int32_t status = sentenc_vocabulary_new(exact, size, starts, n, continues, classes, lower, max_chars,
                                            (int32_t)random_below(state, 4) > 0, unknown, &vocabulary);
    fuzz_allocations_left = -1;
    CHECK((status == SENTENC_OK) == (vocabulary != NULL));
    CHECK(status != SENTENC_NO_MEMORY || fails);
    free(starts);
    free(continues);
    free(pool);
    free(exact);
    free(classes);
    free(lower);
    return vocabulary;
}
