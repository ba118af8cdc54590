/* Allocations that fail when a target asks for it. The linker's option --wrap sends all calls here. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

FILE *fuzz_report = NULL;
int64_t fuzz_allocations_left = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

static int fails(void) { return fuzz_allocations_left >= 0 && fuzz_allocations_left-- == 0; }

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }

void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
