"""``python -m sentenc.training``: distil a CSE model from any sentence-transformers teacher."""

import csv
from pathlib import Path
from typing import Any

import click
import numpy as np

from sentenc.encoders.cse import CSE
from sentenc.encoders.cse_config import CSEConfig
from sentenc.encoders.external import ExternalEncoder
from sentenc.tokenization import Tokenizer
from sentenc.training import teacher_vectors as cache
from sentenc.training.cse_distillation import (
    Distillation,
    DistillationConfig,
    Sentences,
    initial_embeddings,
)


@click.command()
@click.argument("teacher", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument(
    "corpus", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Where the model goes.")
@click.option(
    "--work", required=True, type=click.Path(path_type=Path), help="Teacher vectors, state and log."
)
@click.option("--sentences", type=int, help="Take so many sentences at random; all by default.")
@click.option(
    "--dev",
    type=click.Path(exists=True, path_type=Path),
    help="TSV of score, text, text: logged as Spearman.",
)
@click.option("--embedding-dim", default=256, show_default=True)
@click.option("--num-filters", default=64, show_default=True)
@click.option("--epochs", default=10.0, show_default=True)
@click.option("--word-epochs", default=5.0, show_default=True, help="First so many without n-grams.")
@click.option("--max-minutes", type=float, help="End the training within this time.")
@click.option("--seed", default=1, show_default=True)
def main(
    teacher: Path, corpus: tuple[Path, ...], output: Path, work: Path, sentences: int | None, dev: Path | None,
    embedding_dim: int, num_filters: int, epochs: float, word_epochs: float, max_minutes: float | None, seed: int,
) -> None:  # fmt: skip
    """Distil TEACHER, a sentence-transformers folder, on the sentences of CORPUS files (.txt, .gz, .xz).

    Stop it at any time; the same command goes on where it was.
    """
    tokenizer = Tokenizer((teacher / "tokenizer.json").read_text(encoding="utf-8"))
    external = ExternalEncoder(teacher)
    texts = cache.shuffled(cache.read_sentences(list(corpus)), sentences, seed)
    encode = cache.teacher_function(external)
    cache.cache_vectors(encode, texts, work / "vectors")
    vocabulary = sorted(tokenizer.vocabulary.items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary]
    cache.cache_vectors(lambda items: token_vectors(external, items), tokens, work / "tokens")
    ids, ends, _ = tokenizer.encode(texts)
    start = initial_embeddings(
        cache.load_vectors(work / "tokens", len(tokens)).astype(np.float32),
        np.bincount(ids, minlength=tokenizer.vocab_size),
        embedding_dim,
    )
    config = CSEConfig(vocab_size=tokenizer.vocab_size, embedding_dim=embedding_dim, num_filters=num_filters)
    plan = DistillationConfig(epochs=epochs, word_epochs=word_epochs, max_minutes=max_minutes, seed=seed)
    data = Sentences(ids, ends, cache.load_vectors(work / "vectors", len(texts)))
    run = Distillation(config, plan, data, start, work / "run")
    run.run(None if dev is None else dev_score(config, tokenizer, dev))
    CSE(config, run.weights(), tokenizer).compressed().save(output)
    click.echo(f"{len(texts)} sentences, {run.step} steps, {run.seconds / 60:.1f} minutes: {output}")


def token_vectors(teacher: ExternalEncoder, tokens: list[str]) -> Any:
    """The teacher's vectors of single tokens, between its special tokens: (n, t)."""
    import torch

    tokenizer, model = teacher.model.tokenizer, teacher.model
    ids = torch.tensor(
        [[tokenizer.cls_token_id, i, tokenizer.sep_token_id] for i in tokenizer.convert_tokens_to_ids(tokens)]
    )
    rows = []
    with torch.no_grad():
        for block in torch.split(ids, 256):
            features = {"input_ids": block, "attention_mask": torch.ones_like(block)}
            rows.append(
                model({k: v.to(model.device) for k, v in features.items()})["sentence_embedding"]
                .cpu()
                .numpy()
            )
    return np.concatenate(rows)


def dev_score(config: CSEConfig, tokenizer: Tokenizer, path: Path) -> Any:
    """A function from weights to Spearman's rho x 100 on a file of scored pairs."""
    from scipy.stats import spearmanr

    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    gold = [float(row[0]) for row in rows]

    def score(weights: dict[str, Any]) -> float:
        encoder = CSE(config, weights, tokenizer)
        a, b = (encoder.encode([row[i] for row in rows], normalize_embeddings=True) for i in (1, 2))
        return float(spearmanr((a * b).sum(1), gold).statistic * 100)

    return score


if __name__ == "__main__":
    main()
