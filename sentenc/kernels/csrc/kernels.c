/* Compiled once for each instruction set, with its flags and with -DSENTENC_ISA=<name>. */
#include "dot.h"
#include "encode.h"
#include "select.h"
#include "tables.h"

#define JOIN_NAMES(a, b) a##b
#define TABLE_OF(name) JOIN_NAMES(sentenc_kernels_, name)

const sentenc_kernels TABLE_OF(SENTENC_ISA) = {
    tokenize, encode, add_scores, dot_rows, CHUNK_ROWS, PANEL, multiply_matrix, quantize_rows};
