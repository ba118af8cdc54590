"""Compares static models of other libraries in their own library and in sentenc, in one run, on one thread.

    python benchmarks/static_models.py [--model2vec FOLDER] [--texts FILE --source NAME]

Without --model2vec, all-MiniLM-L6-v2 is distilled with its own vocabulary, which takes minutes. Both libraries load
the same files. They take turns for several rounds, and medians of CPU time are reported, with the largest difference
between a component of their vectors.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Read by the libraries when they are imported.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}

import machine
import numpy as np
from encode_speed import natural_sentences

ROUNDS = 7
BATCHES = {"1": 1, "all": None}
# Texts that are encoded one by one.
ONE_BY_ONE = 1000
Encode = Callable[[list[str]], np.ndarray]


class Model(NamedTuple):
    """A model with the functions that encode a list of texts."""

    name: str
    tokenizer: str
    library: str
    theirs: Encode
    ours: Encode


def distilled(work: Path) -> Path:
    """Distils all-MiniLM-L6-v2 on the vocabulary of its tokenizer: 30,000 rows of 256 components."""
    from model2vec.distill import distill

    folder = work / "model2vec"
    distill(str(machine.minilm_folder()), pca_dims=256, device="cpu").save_pretrained(folder)
    return folder


def models(folder: Path, work: Path) -> list[Model]:
    """Returns all models; ``folder`` contains one of model2vec."""
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer

    made = []
    for kind in ("float32", "int8"):
        path = work / f"model2vec-{kind}"
        StaticModel.from_pretrained(folder, quantize_to=kind).save_pretrained(path)
        model = StaticModel.from_pretrained(path)
        made.append(Model(f"model2vec, {kind}", "WordPiece", "model2vec", _model2vec(model), _ours(path)))
    static = SentenceTransformer(str(work / "model2vec-float32"), device="cpu", local_files_only=True)
    path = work / "static-embedding"
    static.save(str(path))
    made.append(Model("StaticEmbedding", "WordPiece", "sentence-transformers", _stock(static), _ours(path)))
    return [*made, *_words(folder, work), *_wordllama()]


def _words(folder: Path, work: Path) -> list[Model]:
    # The whole words of the same model, as a file of word vectors.
    from gensim.models import KeyedVectors
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, WordEmbeddings
    from sentence_transformers.models.tokenizer import WhitespaceTokenizer

    model = StaticModel.from_pretrained(folder, quantize_to="float32")
    kept = [i for i, token in enumerate(model.tokens) if token.isalpha()]
    words, rows = [model.tokens[i] for i in kept], model.embedding[kept]
    keyed = KeyedVectors(rows.shape[1])
    keyed.add_vectors(words, rows)
    keyed.save_word2vec_format(str(work / "words.txt"))
    tokenizer = WhitespaceTokenizer(words, stop_words=(), do_lower_case=True)
    stock = SentenceTransformer(
        modules=[WordEmbeddings(tokenizer, rows), Pooling(rows.shape[1])], device="cpu"
    )
    stock.save(str(work / "word-embeddings"))
    return [
        Model("word2vec file", "words", "gensim", _gensim(keyed), _ours(work / "words.txt")),
        Model(
            "WordEmbeddings", "white space", "sentence-transformers", _stock(stock),
            _ours(work / "word-embeddings"),
        ),
    ]  # fmt: skip


def _wordllama() -> list[Model]:
    import wordllama

    folder = Path(wordllama.__file__).parent
    # The wheel contains the weights, but looks for the tokenizer under another name than it ships.
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    ours = _ours(folder / "weights" / "l2_supercat_256.safetensors")
    return [Model("wordllama, l2_supercat", "BPE", "wordllama", model.embed, ours)]


def _model2vec(model) -> Encode:
    return lambda texts: model.encode(texts, use_multiprocessing=False)


def _stock(model) -> Encode:
    return lambda texts: model.encode(texts, show_progress_bar=False, batch_size=1024)


def _gensim(keyed) -> Encode:
    import re

    split = re.compile(r"\w+|[^\w\s]").findall
    zero = np.zeros(keyed.vector_size, np.float32)

    def encode(texts: list[str]) -> np.ndarray:
        known = [[word for word in split(text.lower()) if word in keyed] for text in texts]
        return np.array([keyed.get_mean_vector(w, pre_normalize=False) if w else zero for w in known])

    return encode


def _ours(path: Path) -> Encode:
    import sentenc

    encoder = sentenc.load(path, threads=1)
    return lambda texts: encoder.encode(texts, on_overflow="ignore")


def seconds(encode: Encode, texts: list[str], size: int | None) -> float:
    """Returns the CPU seconds of encoding all texts in calls of ``size`` texts, or in one call."""
    start = time.process_time()
    for begin in range(0, len(texts), size or len(texts)):
        encode(texts[begin : begin + (size or len(texts))])
    return time.process_time() - start


def measure(model: Model, texts: list[str]) -> list[dict]:
    """Returns a row for each batch size."""
    difference = float(np.abs(model.theirs(texts) - model.ours(texts)).max())
    rows = []
    for batch, size in BATCHES.items():
        sample = texts[:ONE_BY_ONE] if size == 1 else texts
        times: dict[str, list[float]] = {"theirs": [], "ours": []}
        for number in range(ROUNDS):
            order = ["theirs", "ours"] if number % 2 else ["ours", "theirs"]
            for side in order:
                times[side].append(seconds(getattr(model, side), sample, size) / len(sample) * 1e6)
        theirs, ours = (statistics.median(times[side]) for side in ("theirs", "ours"))
        rows.append(
            {
                "model": model.name, "tokenizer": model.tokenizer, "library": model.library, "batch": batch,
                "theirs_us": theirs, "ours_us": ours, "ratio": theirs / ours, "difference": difference,
                "theirs_us_min_max": [min(times["theirs"]), max(times["theirs"])],
                "ours_us_min_max": [min(times["ours"]), max(times["ours"])],
            }
        )  # fmt: skip
    return rows


def table(content: dict) -> str:
    lines = [
        "| model | tokenizer | its own library | batch | its library, us/text | sentenc, us/text | ratio | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        lines.append(
            f"| {row['model']} | {row['tokenizer']} | {row['library']} | {row['batch']} | {row['theirs_us']:.1f} "
            f"| {row['ours_us']:.1f} | {row['ratio']:.1f} | {row['difference']:.0e} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model2vec", type=Path, help="folder of a distilled model; by default one is distilled"
    )
    parser.add_argument(
        "--texts", type=Path, help="text file with one sentence per line; default: the Lee corpus"
    )
    parser.add_argument("--source", default="Lee corpus (gensim)", help="name of the texts, for the result")
    options = parser.parse_args()
    texts = natural_sentences(options.texts)
    content = machine.circumstances()
    with tempfile.TemporaryDirectory() as work:
        folder = options.model2vec or distilled(Path(work))
        rows = [row for model in models(folder, Path(work)) for row in measure(model, texts)]
    content |= {"source": options.source, "sentences": len(texts), "rounds": ROUNDS, "rows": rows}
    path = machine.write("static_models", content)
    path.with_suffix(".md").write_text(table(content) + "\n")
    print(json.dumps(content, indent=1))
    print(table(content))


if __name__ == "__main__":
    main()
