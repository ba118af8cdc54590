#ifndef MODEL_H
#define MODEL_H

#include "fuzz.h"

typedef struct {
    sentenc_cse cse;
    int64_t dim, features;
    int is_damaged; /* a size is out of range */
} model;

model random_model(uint64_t *state, int64_t n_tokens);
void free_model(model *r);

#endif
