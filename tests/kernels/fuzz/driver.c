/* Runs a target without libFuzzer: random and mutated inputs, from a seed.
 *
 *   target -seconds 10 [-seed 1] [-last FILE] [FILE...]
 *                                            runs mutations of the files, and random inputs; the file after -last
 *                                            has the input that is running
 *   target -report 500 [-seed 1] [-simd 0]   prints the results of the first random inputs
 *   target FILE...                           runs each file once */
#define _POSIX_C_SOURCE 200809L
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define MAX_INPUT 4096
#define POOL 256

static struct {
    uint8_t bytes[MAX_INPUT];
    size_t n;
} pool[POOL];
static size_t n_pool;

static void read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file && n_pool < POOL);
    pool[n_pool].n = fread(pool[n_pool].bytes, 1, MAX_INPUT, file);
    fclose(file);
    n_pool++;
}

/* Words with boundaries at all places, and characters of one to four bytes, whole or cut. */
static size_t random_input(uint64_t *state, uint8_t *bytes) {
    static const char *const parts[] = {" ", "a", "Ab", "the", "\xC3\xA9", "\xE6\x9D\xB1", "\xF0\x9F\x91\xA9", ".", "-",
                                        "ing", "\t", "\xE6\x9D", "antidisestablish", "\x01", "\xCC\x81", "\xED\xA0\x80"};
    static const int64_t limits[] = {8, 64, 200, 1000, MAX_INPUT - 32};
    size_t n = 0, size = 40 + (size_t)random_below(state, limits[random_below(state, 5)]);
    int kind = (int)random_below(state, 4);
    if (size > MAX_INPUT) size = MAX_INPUT;
    while (n < size) {
        const char *part = parts[random_below(state, kind == 1 ? 4 : 16)];
        size_t length = strlen(part);
        if (n < 40 || kind == 0 || n + length > size)
            bytes[n++] = (uint8_t)random_bits(state);
        else
            for (size_t i = 0; i < length; i++) bytes[n++] = (uint8_t)part[i];
    }
    return n;
}

static size_t mutated(uint64_t *state, uint8_t *bytes) {
    size_t from = (size_t)random_below(state, (int64_t)n_pool), n = pool[from].n;
    memcpy(bytes, pool[from].bytes, n);
    for (int64_t changes = 1 + random_below(state, 8); n > 0 && changes > 0; changes--) {
        size_t at = (size_t)random_below(state, (int64_t)n), length = (size_t)random_below(state, 20);
        switch (random_below(state, 4)) {
            case 0: bytes[at] ^= (uint8_t)(1 << random_below(state, 8)); break;
            case 1: bytes[at] = (uint8_t)random_bits(state); break;
            case 2: /* cut */
                if (at + length > n) length = n - at;
                memmove(bytes + at, bytes + at + length, n - at - length);
                n -= length;
                break;
            default: /* repeat */
                if (at + length > n) length = n - at;
                if (n + length > MAX_INPUT) break;
                memmove(bytes + at + length, bytes + at, n - at);
                n += length;
        }
    }
    return n;
}

static FILE *last = NULL;

static void run(const uint8_t *bytes, size_t n) {
    if (last) {
        rewind(last);
        CHECK(fwrite(bytes, 1, n, last) == n && fflush(last) == 0 && ftruncate(fileno(last), (off_t)n) == 0);
    }
    uint8_t *exact = allocate(n);
    memcpy(exact, bytes, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

int main(int argc, char **argv) {
    static uint8_t bytes[MAX_INPUT];
    double seconds = 0;
    long long reports = 0, runs = 0;
    uint64_t state = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-seconds") == 0 && i + 1 < argc) seconds = atof(argv[++i]);
        else if (strcmp(argv[i], "-report") == 0 && i + 1 < argc) reports = atoll(argv[++i]);
        else if (strcmp(argv[i], "-seed") == 0 && i + 1 < argc) state = (uint64_t)atoll(argv[++i]);
        else if (strcmp(argv[i], "-last") == 0 && i + 1 < argc) CHECK((last = fopen(argv[++i], "wb")) != NULL);
        else if (strcmp(argv[i], "-simd") == 0 && i + 1 < argc) CHECK(sentenc_set_simd(atoi(argv[++i])) == SENTENC_OK);
        else read_file(argv[i]);
    }
    state = state * 0x9E3779B97F4A7C15u + 1;
    if (reports > 0) fuzz_report = stdout;
    for (; runs < reports; runs++) run(bytes, random_input(&state, bytes));
    for (size_t i = 0; i < n_pool && !reports; i++, runs++) run(pool[i].bytes, pool[i].n);
    time_t end = time(NULL) + (time_t)seconds;
    for (; seconds > 0 && time(NULL) < end; runs++)
        run(bytes, n_pool && random_below(&state, 2) ? mutated(&state, bytes) : random_input(&state, bytes));
    fprintf(stderr, "%lld executions, instruction set %d\n", runs, (int)sentenc_simd());
    return 0;
}
