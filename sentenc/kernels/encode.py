"""The compiled inner loop of CSE: from UTF-8 bytes to sentence vectors.

All functions that call each other are in this one file on purpose. Numba's cache on disk notices a change of
the file of a function, but not of the files that the function calls. No function here holds the GIL,
allocates memory per token or depends on other sentences, so vectors do not depend on the batch.

All integer arithmetic on hashes is in ``uint64``, because numba converts a mix with ``int64`` to ``float64``.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sentenc.kernels.compilation import compiled
from sentenc.kernels.prefetch import LINE, prefetch

# Classes of a byte for the normalizer and the pre-tokenizer. Bytes of 128 and above are WORD, because all
# other non-ASCII characters have been folded before.
WORD, SPACE, PUNCTUATION, REMOVED = 0, 1, 2, 3
# Codes of the activation and the pooling.
IDENTITY, TANH, RELU, GELU = 0, 1, 2, 3
MEAN, SUM, MAX = 0, 1, 2

# Sentences that are tokenized before their rows are read, so that prefetched rows have arrived by then. Their
# n-gram features are projected together, so that the projection is read once for all of them.
_TILE = 8
# Windows whose features are added in 16 bits before they are converted to float32.
_INT16_WINDOWS = 32

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SCATTER = np.uint64(0xD6E8FEB86659FD93)
_CONTINUATION = np.uint64(0xA5A3564E27F8862B)
_ONE = np.uint64(1)
_SQRT_HALF = np.float32(math.sqrt(0.5))


def _kernel(function: Callable[..., Any]) -> Any:
    # contract allows fused multiply-add, which rounds once instead of twice and is deterministic.
    return compiled(function, fastmath={"contract"}, error_model="numpy")


@_kernel
def hash_tokens(pool, starts, is_continuation, keys, slots):  # type: ignore[no-untyped-def]
    """Fills an open-addressing table of 2**m entries with the tokens ``pool[starts[i]:starts[i+1]]``."""
    for token in range(len(starts) - 1):
        if starts[token] == starts[token + 1]:
            continue
        key = np.uint64(0)
        for i in range(starts[token], starts[token + 1]):
            key = key * _MULTIPLIER + np.uint64(pool[i]) + _ONE
        if is_continuation[token]:
            key ^= _CONTINUATION
        mask = np.uint64(len(keys) - 1)
        slot = ((key * _SCATTER) >> np.uint64(32)) & mask
        while slots[slot] >= 0:
            slot = (slot + _ONE) & mask
        keys[slot] = key
        slots[slot] = token


@_kernel
def _find(key, is_continuation, word, start, end, table):  # type: ignore[no-untyped-def]
    # Returns the id of the token word[start:end], or -1. Bytes are compared, so hash collisions do no harm.
    keys, slots, pool, starts, continues = table
    mask = np.uint64(len(keys) - 1)
    slot = ((key * _SCATTER) >> np.uint64(32)) & mask
    while slots[slot] >= 0:
        if keys[slot] == key:
            token = slots[slot]
            first = starts[token]
            if starts[token + 1] - first == end - start and continues[token] == is_continuation:
                same = True
                for i in range(end - start):
                    if pool[first + i] != word[start + i]:
                        same = False
                        break
                if same:
                    return token
        slot = (slot + _ONE) & mask
    return np.int32(-1)


@_kernel
def _split(word, length, prefix, powers, longest, split_words, unknown, table, ids, n, limit):  # type: ignore[no-untyped-def]
    # WordPiece (greedy, longest match first) of word[:length]. Appends to ids and returns the new count.
    # prefix[i] is the hash of word[:i], so the hash of any part takes one multiplication.
    first = n
    start = 0
    # For whole words only, the only candidate is the word itself.
    shortest = 1 if split_words else length
    while start < length:
        end = min(length, start + longest)
        token = np.int32(-1)
        while end - start >= shortest:
            # A token never ends inside a character, where the next byte is a UTF-8 continuation byte.
            if end == length or (word[end] & 0xC0) != 0x80:
                key = prefix[end] - prefix[start] * powers[end - start]
                if start > 0:
                    key ^= _CONTINUATION
                token = _find(key, start > 0, word, start, end, table)
                if token >= 0:
                    break
            end -= 1
        if token < 0:
            break
        if n < limit:
            ids[n] = token
        n += 1
        start = end
    if start < length:  # some part is unknown, so the whole word is
        n = first
        if unknown >= 0:
            if n < limit:
                ids[n] = unknown
            n += 1
    return n


@_kernel
def _tokenize(text, start, end, rules, table, powers, word, prefix, ids):  # type: ignore[no-untyped-def]
    # Writes the token ids of text[start:end] into ids, as many as fit. Returns the number of all.
    classes, lower, longest, max_chars, split_words, unknown = rules
    limit = len(ids)
    capacity = len(word)
    n = 0
    position = start
    while position < end:
        # One word: bytes of class WORD, without removed bytes between them.
        length = 0
        chars = 0
        key = np.uint64(0)
        kind = WORD
        byte = np.uint8(0)
        while position < end:
            byte = text[position]
            position += 1
            kind = classes[byte]
            if kind == WORD:
                byte = lower[byte]
                chars += (byte & 0xC0) != 0x80
                # A word longer than the buffer is unknown in any case, so its bytes are only counted.
                if length < capacity:
                    key = key * _MULTIPLIER + np.uint64(byte) + _ONE
                    word[length] = byte
                    prefix[length + 1] = key
                length += 1
            elif kind != REMOVED:
                break
        if length > 0:
            if chars > max_chars or length > capacity:
                if unknown >= 0:
                    if n < limit:
                        ids[n] = unknown
                    n += 1
            else:
                token = _find(key, False, word, 0, length, table)
                if token >= 0:
                    if n < limit:
                        ids[n] = token
                    n += 1
                else:
                    n = _split(
                        word, length, prefix, powers, longest, split_words, unknown, table, ids, n, limit
                    )  # fmt: skip
        if kind == PUNCTUATION:
            word[0] = byte
            prefix[1] = np.uint64(byte) + _ONE
            n = _split(word, 1, prefix, powers, longest, split_words, unknown, table, ids, n, limit)
    return n


@_kernel
def tokenize(text, offsets, rules, table, powers, max_tokens, ids, ends, counts):  # type: ignore[no-untyped-def]
    """Writes the token ids of every text ``text[offsets[i]:offsets[i+1]]`` into ``ids``, one after another.

    ``ends[i]`` is the end of text i in ``ids``, and ``counts[i]`` its number of tokens before the cut to
    ``max_tokens``. ``ids`` needs room for one id per byte of text, which is the largest possible number.
    """
    word, prefix = np.empty(len(powers) - 1, np.uint8), np.zeros(len(powers), np.uint64)
    end = 0
    for i in range(len(offsets) - 1):
        counts[i] = _tokenize(
            text, offsets[i], offsets[i + 1], rules, table, powers, word, prefix, ids[end : end + max_tokens]
        )
        end += min(counts[i], max_tokens)
        ends[i] = end


@_kernel
def _pool_words(ids, n, rows, scales, average_scales, weights, dim, out):  # type: ignore[no-untyped-def]
    # Computes u = sum_i a_i x_i / sum_i a_i in the first `dim` columns, with scales = a_i times the
    # quantization step of row i, and mean_i y_i in the others. Two tokens are added at a time, so that the
    # sum is read and written half as often; the second of a last, single token has weight 0. Slices allow
    # vector instructions, here and below: the compiler must prove that reads and writes do not overlap.
    u, average = out[:dim], out[dim:]
    total = np.float32(0)
    for i in range(0, n, 2):
        first, second = ids[i], ids[min(i + 1, n - 1)]
        counts = np.float32(i + 1 < n)
        total += weights[first] + counts * weights[second]
        a, b = scales[first], counts * scales[second]
        x, y = rows[first, :dim], rows[second, :dim]
        for d in range(len(u)):
            u[d] += a * np.float32(x[d]) + b * np.float32(y[d])
        a, b = average_scales[first], counts * average_scales[second]
        x, y = rows[first, dim:], rows[second, dim:]
        for d in range(len(average)):
            average[d] += a * np.float32(x[d]) + b * np.float32(y[d])
    if dim > 0:
        u *= np.float32(1) / total
    average *= np.float32(1) / np.float32(n)


@_kernel
def _activate(z, phi):  # type: ignore[no-untyped-def]
    for f in range(len(z)):
        if phi == TANH:
            z[f] = np.tanh(z[f])
        elif phi == GELU:
            z[f] = np.float32(0.5) * z[f] * (np.float32(1) + np.float32(math.erf(z[f] * _SQRT_HALF)))


@_kernel
def _window(ids, i, taps, rows, column, k, scales, biases, feature, phi, z):  # type: ignore[no-untyped-def]
    # Computes z = phi(scale * (T_0[w_i] + T_1[w_{i+1}] + ...) + bias) for any number of taps.
    for f in range(k):
        z[f] = np.float32(rows[ids[i], column + f])
    for j in range(1, taps):
        token = ids[i + j]
        first = column + j * k
        for f in range(k):
            z[f] += np.float32(rows[token, first + f])
    for f in range(k):
        z[f] = z[f] * scales[feature + f] + biases[feature + f]
        if phi == RELU:
            z[f] = max(z[f], np.float32(0))
    if phi in (TANH, GELU):
        _activate(z, phi)


@_kernel
def _add_words_int16(ids, windows, rows, k, scales, biases, floor, total, out):  # type: ignore[no-untyped-def]
    # Adds all full windows in whole quantization steps, here of width 1. 16 bits put twice as many filters
    # into a vector instruction. As scales are positive, max(scale z + bias, 0) is
    # scale max(z + bias / scale, 0). Sums of _INT16_WINDOWS windows fit (see cse/tables.INT16_BIAS).
    for start in range(0, windows, _INT16_WINDOWS):
        total[:k] = 0
        for i in range(start, min(windows, start + _INT16_WINDOWS)):
            x = rows[ids[i], :k]
            for f in range(k):
                z = np.int16(np.int16(x[f]) + biases[f])
                total[f] = np.int16(total[f] + max(z, floor))
        for f in range(k):
            out[f] += scales[f] * np.float32(total[f])


@_kernel
def _add_pairs_int16(ids, windows, rows, k, scales, biases, floor, total, out):  # type: ignore[no-untyped-def]
    for start in range(0, windows, _INT16_WINDOWS):
        total[:k] = 0
        for i in range(start, min(windows, start + _INT16_WINDOWS)):
            x, y = rows[ids[i], :k], rows[ids[i + 1], k : 2 * k]
            for f in range(k):
                z = np.int16(np.int16(x[f]) + np.int16(y[f]) + biases[f])
                total[f] = np.int16(total[f] + max(z, floor))
        for f in range(k):
            out[f] += scales[f] * np.float32(total[f])


@_kernel
def _add_triples_int16(ids, windows, rows, k, scales, biases, floor, total, out):  # type: ignore[no-untyped-def]
    for start in range(0, windows, _INT16_WINDOWS):
        total[:k] = 0
        for i in range(start, min(windows, start + _INT16_WINDOWS)):
            x, y, w = rows[ids[i], :k], rows[ids[i + 1], k : 2 * k], rows[ids[i + 2], 2 * k : 3 * k]
            for f in range(k):
                z = np.int16(np.int16(x[f]) + np.int16(y[f]) + np.int16(w[f]) + biases[f])
                total[f] = np.int16(total[f] + max(z, floor))
        for f in range(k):
            out[f] += scales[f] * np.float32(total[f])


@_kernel
def _pool_ngrams(ids, n, rows, scales, biases, steps, widths, k, phi, pooling, padded, z, total, out):  # type: ignore[no-untyped-def]
    # Writes s_h of every width h into out, k values each. A row of `rows` contains T_{h,j}[token] for all h
    # and j, so a token's part in all n-grams is contiguous.
    column = 0
    floor = np.int16(0) if phi == RELU else np.int16(-32768)
    whole = len(steps) > 0 and pooling != MAX and phi in (RELU, IDENTITY)
    for w in range(len(widths)):
        width = widths[w]
        windows = n if padded else max(1, n - width + 1)
        feature = w * k
        done = 0
        if whole and width <= 3:
            done = max(0, n - width + 1)
            taps = rows[:, column : column + width * k]
            scale, step = scales[feature : feature + k], steps[feature : feature + k]
            part = out[feature : feature + k]
            if width == 1:
                _add_words_int16(ids, done, taps, k, scale, step, floor, total, part)
            elif width == 2:
                _add_pairs_int16(ids, done, taps, k, scale, step, floor, total, part)
            else:
                _add_triples_int16(ids, done, taps, k, scale, step, floor, total, part)
        for i in range(done, windows):
            _window(ids, i, min(width, n - i), rows, column, k, scales, biases, feature, phi, z)
            for f in range(k):
                if pooling != MAX:
                    out[feature + f] += z[f]
                else:
                    out[feature + f] = z[f] if i == 0 else max(out[feature + f], z[f])
        if pooling == MEAN:
            inverse = np.float32(1) / np.float32(windows)
            for f in range(k):
                out[feature + f] *= inverse
        column += width * k


@_kernel
def _project(tile, projection, out):  # type: ignore[no-untyped-def]
    # out += tile @ projection, four features at a time, so a row of out is read and written once for four.
    features = projection.shape[0]
    whole = features - features % 4
    for f in range(0, whole, 4):
        for i in range(len(out)):
            a, b, c, e = tile[i, f], tile[i, f + 1], tile[i, f + 2], tile[i, f + 3]
            for d in range(projection.shape[1]):
                out[i, d] += (a * projection[f, d] + b * projection[f + 1, d]) + (
                    c * projection[f + 2, d] + e * projection[f + 3, d]
                )
    for f in range(whole, features):
        for i in range(len(out)):
            for d in range(projection.shape[1]):
                out[i, d] += tile[i, f] * projection[f, d]


@_kernel
def _prefetch_rows(ids, words, ngrams):  # type: ignore[no-untyped-def]
    # The tables are larger than the cache of a core, and waiting for rows takes longer than adding them.
    for token in ids:
        for byte in range(0, words.shape[1] * words.itemsize, LINE):
            prefetch(words, token, byte)
        for byte in range(0, ngrams.shape[1] * ngrams.itemsize, LINE):
            prefetch(ngrams, token, byte)


@_kernel
def encode(text, offsets, rules, table, powers, words, ngrams, max_tokens, out, counts):  # type: ignore[no-untyped-def]
    """Writes the vectors of every text ``text[offsets[i]:offsets[i+1]]`` into ``out`` (n, dim).

    Args:
        text: UTF-8 bytes, folded (see :mod:`sentenc.tokenization.unicode_fold`), not yet lower-cased.
        offsets: (n + 1,), where each text begins and ends.
        rules: The rules of words and tokens, ``Tokenizer.rules``.
        table: The hash table of the vocabulary.
        powers: Powers of the hash multiplier.
        words: The word path and the plain average, a ``WordTable``.
        ngrams: The n-gram path, an ``NgramTable``. The columns of ``out`` after the first D + A are the
            features themselves.
        max_tokens: The number of tokens at which a text is cut.
        out: (n, dim) float32, overwritten.
        counts: (n,) int64, overwritten by the number of tokens of each text before the cut.
    """
    word_rows, word_scales, average_scales, word_weights, weighted_dim = words
    rows, scales, biases, steps, widths, k, phi, pooling, padded, projection = ngrams
    word_dim, features = word_rows.shape[1], len(widths) * k
    word, prefix = np.empty(len(powers) - 1, np.uint8), np.zeros(len(powers), np.uint64)
    tokens, ends = np.empty(_TILE * max_tokens, np.int32), np.zeros(_TILE + 1, np.int64)
    z, total = np.empty(max(1, k), np.float32), np.empty(max(1, k), np.int16)
    tile = np.zeros((_TILE, max(1, features)), np.float32)
    for first in range(0, len(offsets) - 1, _TILE):
        last = min(first + _TILE, len(offsets) - 1)
        out[first:last] = np.float32(0)
        tile[:] = np.float32(0)
        for i in range(first, last):
            ids = tokens[ends[i - first] : ends[i - first] + max_tokens]
            counts[i] = _tokenize(text, offsets[i], offsets[i + 1], rules, table, powers, word, prefix, ids)
            n = min(counts[i], max_tokens)
            ends[i - first + 1] = ends[i - first] + n
            _prefetch_rows(ids[:n], word_rows, rows)
        for i in range(first, last):
            ids = tokens[ends[i - first] : ends[i - first + 1]]
            n = len(ids)
            if n == 0:
                continue
            if word_dim > 0:
                found = out[i, :word_dim]
                _pool_words(ids, n, word_rows, word_scales, average_scales, word_weights, weighted_dim, found)
            if features > 0:
                found = tile[i - first]
                _pool_ngrams(
                    ids, n, rows, scales, biases, steps, widths, k, phi, pooling, padded, z, total, found
                )  # fmt: skip
        if projection.shape[0] > 0:
            _project(tile, projection, out[first:last])
        if out.shape[1] > word_dim:
            out[first:last, word_dim:] = tile[: last - first]
