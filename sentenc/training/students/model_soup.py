"""Averages the weights of several fine-tuned models (a model soup: Wortsman et al., ICML 2022).

Models that were trained from the same weights with different seeds or settings lie in one basin of the loss,
and so does the mean of their weights. It is often better than each of them, at the cost of one. Finished
CSEs have axes of their own, so their outputs are rotated to common axes first.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.roles import stated_space
from sentenc.training.students.cse_rotation import map_output

Model = TypeVar("Model", CSE, BertEncoder)
# Largest relative difference between the token embeddings of two models. Models trained from the same weights
# differ by a few hundredths, unrelated models by about one.
_MAX_DIFFERENCE = 0.5


def average_models(
    models: Sequence[CSE], *, weights: Sequence[float] | None = None, card: str | None = None
) -> CSE:
    """Returns the mean of CSEs that were trained from the same weights, with int8 embeddings.

    The output of every model is rotated to the axes of the first one. The rotation aligns their embeddings
    (orthogonal Procrustes: Schönemann, 1966). A plain average of words is the first model's, because training
    does not change it.

    Args:
        models: At least two models of the same shape and tokenizer.
        weights: The weight of each model in the mean, positive; by default all are equal.
        card: The model card.

    Raises:
        ValueError: There are fewer than two models, their shapes or tokenizers differ, they only concatenate
            n-gram features, a model was not trained from the same weights as the first, or ``weights`` are not
            one positive number for each model.
    """
    shares = _shares(models, weights)
    first = models[0]
    if first.config.combine == "concat":
        raise ValueError(
            "combine is 'concat', expected 'residual' or 'both': n-gram features cannot be rotated"
        )
    aligned = [_aligned_weights(first, model, number) for number, model in enumerate(models)]
    mean = _weighted_mean(aligned, shares)
    if first.config.average_dim:
        mean["average"] = first.weight("average")
    metadata = _origin(models, shares)
    soup = CSE(first.config, mean, first.tokenizer, tables=first.tables, metadata=metadata, card=card)
    return soup.compressed()


def average_berts(
    models: Sequence[BertEncoder], *, weights: Sequence[float] | None = None, card: str | None = None
) -> BertEncoder:
    """Returns the mean of BERTs that were trained from the same weights, in the precision of the first one.

    Nothing is rotated, so models that were distilled into different spaces are refused. The mean is in the
    space and has the prompts of all.

    Args:
        models: At least two models of the same shape, tokenizer and prompts.
        weights: The weight of each model in the mean, positive; by default all are equal.
        card: The model card.

    Raises:
        ValueError: There are fewer than two models, their shapes, tokenizers, prompts or stated spaces differ, a
            model was not trained from the same weights as the first, or ``weights`` are not one positive number
            for each model.
    """
    shares = _shares(models, weights)
    first = models[0]
    for number, model in enumerate(models[1:], 1):
        if model.prompts != first.prompts:
            raise ValueError(
                f"model {number} has the prompts {model.prompts}, expected those of model 0: {first.prompts}"
            )
        space, expected = stated_space(model.metadata), stated_space(first.metadata)
        if space != expected:
            raise ValueError(
                f"model {number} has the space {space!r}, expected that of model 0, {expected!r}"
            )
        _check_related(_embeddings(first), _embeddings(model), number)
    mean = _weighted_mean([{name: m.weight(name) for name in m.config.shapes()} for m in models], shares)
    metadata = _origin(models, shares)
    if first.prompts:
        metadata["prompts"] = dict(first.prompts)
    if (space := stated_space(first.metadata)) is not None:
        metadata["space"] = space
    return BertEncoder(
        first.config, mean, first.tokenizer, compute=first.compute, metadata=metadata, card=card
    )


def _shares(models: Sequence[Model], weights: Sequence[float] | None) -> list[float]:
    # The weights of the models, with sum 1, after a check that the models can be averaged.
    if len(models) < 2:
        raise ValueError(f"got {len(models)} models, expected at least 2")
    first = models[0]
    for number, model in enumerate(models[1:], 1):
        if model.config != first.config or model.tokenizer.spec != first.tokenizer.spec:
            raise ValueError(f"model {number} has another shape or tokenizer than model 0")
    shares = [1.0] * len(models) if weights is None else list(weights)
    if len(shares) != len(models) or not all(0 < share < math.inf for share in shares):
        raise ValueError(f"weights is {shares}, expected {len(models)} positive numbers, one for each model")
    return [share / sum(shares) for share in shares]


def _origin(models: Sequence[Model], shares: list[float]) -> dict[str, Any]:
    names = [model.metadata.get("name") for model in models]
    return {"averaged": names, "shares": [round(share, 4) for share in shares]}


def _weighted_mean(
    weights: Sequence[dict[str, npt.NDArray[np.float32]]], shares: Sequence[float]
) -> dict[str, npt.NDArray[np.float32]]:
    return {
        name: np.asarray(np.average([own[name] for own in weights], axis=0, weights=shares), np.float32)
        for name in weights[0]
    }


def _aligned_weights(first: CSE, model: CSE, number: int) -> dict[str, npt.NDArray[np.float32]]:
    reference, own = _projected_embeddings(first), _projected_embeddings(model)
    left, _, right = np.linalg.svd(own.T @ reference)
    rotation = left @ right
    _check_related(reference, own @ rotation, number)
    weights = {name: model.weight(name) for name in model.config.shapes()}
    return map_output(model.config, weights, rotation)[1]


def _check_related(reference: npt.NDArray[np.float64], own: npt.NDArray[np.float64], number: int) -> None:
    difference = float(np.linalg.norm(own - reference) / np.linalg.norm(reference))
    if difference > _MAX_DIFFERENCE:
        raise ValueError(
            f"the embeddings of model {number} differ from those of model 0 by {difference:.2f} of their "
            f"norm, expected at most {_MAX_DIFFERENCE}: average models trained from the same weights"
        )


def _projected_embeddings(model: CSE) -> npt.NDArray[np.float64]:
    # The embeddings in the space of the output.
    embeddings = model.weight("embeddings").astype(np.float64)
    return embeddings @ model.weight("projection") if "projection" in model.config.shapes() else embeddings


def _embeddings(model: BertEncoder) -> npt.NDArray[np.float64]:
    return model.token_embeddings().astype(np.float64)
