"""Loads single files of static models: word vectors, and the weights of wordllama."""

import json
from pathlib import Path

from sentenc.encoders.static.config import StaticConfig
from sentenc.encoders.static.encoder import StaticEncoder
from sentenc.encoders.static.reading import token_ids_of
from sentenc.encoders.static.token_ids import NativeTokenIds
from sentenc.encoders.static.weights import read_rows, read_tensor_file
from sentenc.errors import CheckpointError
from sentenc.io.word_vectors import load_word_vectors
from sentenc.tokenization.words import splitter_spec

_UNKNOWN = "<unk>"


def load_static_file(path: Path, *, threads: int | None = None) -> StaticEncoder:
    """Loads a file of word vectors, or a ``.safetensors`` file of wordllama next to its tokenizer.

    Raises:
        TextFileError: The word vectors are damaged.
        CheckpointError: The weights are damaged, or there is no tokenizer.
        MissingExtraError: The file needs gensim, or its tokenizer the package ``tokenizers``, and it is not
            installed.
    """
    if path.suffix == ".safetensors":
        return _load_wordllama(path, threads)
    return _load_word_vectors(path, threads)


def _load_word_vectors(path: Path, threads: int | None) -> StaticEncoder:
    read = load_word_vectors(path)
    # Words are looked up in lower case if no word of the file has another case.
    lowercase = all(word == word.lower() for word in read.words)
    unknown = _UNKNOWN
    while unknown in read.words:
        unknown = f"<{unknown}>"
    vocabulary = {word: index for index, word in enumerate(read.words)}
    model = {"type": "WordLevel", "unk_token": unknown, "vocab": vocabulary}
    spec = {"version": "1.0", "added_tokens": [], **splitter_spec(lowercase), "model": model}
    config = StaticConfig(vocab_size=len(read.words), embedding_dim=read.vectors.shape[1])
    tokenizer = NativeTokenIds(json.dumps(spec, ensure_ascii=False))
    return StaticEncoder(config, {"embeddings": read.vectors}, tokenizer, threads=threads)


def _load_wordllama(path: Path, threads: int | None) -> StaticEncoder:
    weights = read_rows(read_tensor_file(path), path)
    tokenizer_path = _tokenizer_of(path)
    try:
        tokenizer = token_ids_of(tokenizer_path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{tokenizer_path} cannot be read: {error}") from error
    rows = weights["embeddings"]
    config = StaticConfig(
        vocab_size=len(rows), embedding_dim=rows.shape[1], unknown="row",
        splitting="native" if isinstance(tokenizer, NativeTokenIds) else "tokenizers",
    )  # fmt: skip
    return StaticEncoder(config, weights, tokenizer, threads=threads)


def _tokenizer_of(path: Path) -> Path:
    # wordllama writes weights/NAME_DIM.safetensors and tokenizers/NAME_tokenizer_config.json.
    name = path.stem.removesuffix("_binary").rpartition("_")[0] or path.stem
    wanted = f"{name}_tokenizer_config.json"
    places = [
        path.parent / "tokenizer.json",
        path.parent / wanted,
        path.parent.parent / "tokenizers" / wanted,
    ]
    for place in places:
        if place.is_file():
            return place
    raise CheckpointError(f"{path} has no tokenizer, expected one of {', '.join(map(str, places))}")
