"""Averages the weights of several fine-tuned models (a model soup: Wortsman et al., ICML 2022).

Models that were trained from the same weights with different seeds or settings lie in one basin of the loss,
and so does the mean of their weights. It is often better than each of them, at the cost of one. Finished
models have axes of their own, so their outputs are rotated to common axes first.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.encoder import CSE
from sentenc.training.students.cse_rotation import map_output

# Largest relative difference between the embeddings of two models. Models trained from the same weights
# differ by a few hundredths, unrelated models by about one.
_MAX_DIFFERENCE = 0.5


def average_models(models: Sequence[CSE], *, card: str | None = None) -> CSE:
    """Returns the mean of models that were trained from the same weights, with int8 embeddings.

    The output of every model is rotated to the axes of the first one. The rotation aligns their embeddings
    (orthogonal Procrustes: Schönemann, 1966). A plain average of words is the first model's, because training
    does not change it.

    Args:
        models: At least two models of the same shape and tokenizer.
        card: The model card.

    Raises:
        ValueError: There are fewer than two models, their shapes or tokenizers differ, they only concatenate
            n-gram features, or a model was not trained from the same weights as the first.
    """
    if len(models) < 2:
        raise ValueError(f"got {len(models)} models, expected at least 2")
    first = models[0]
    if first.config.combine == "concat":
        raise ValueError(
            "combine is 'concat', expected 'residual' or 'both': n-gram features cannot be rotated"
        )
    for number, model in enumerate(models[1:], 1):
        if model.config != first.config or model.tokenizer.spec != first.tokenizer.spec:
            raise ValueError(f"model {number} has another shape or tokenizer than model 0")
    aligned = [_aligned_weights(first, model, number) for number, model in enumerate(models)]
    mean: dict[str, npt.NDArray[np.float32]] = {
        name: np.asarray(np.mean([weights[name] for weights in aligned], axis=0), np.float32)
        for name in aligned[0]
    }
    if first.config.average_dim:
        mean["average"] = first.weight("average")
    metadata = {"averaged": [model.metadata.get("name") for model in models]}
    soup = CSE(first.config, mean, first.tokenizer, tables=first.tables, metadata=metadata, card=card)
    return soup.compressed()


def _aligned_weights(first: CSE, model: CSE, number: int) -> dict[str, npt.NDArray[np.float32]]:
    reference, own = _projected_embeddings(first), _projected_embeddings(model)
    left, _, right = np.linalg.svd(own.T @ reference)
    rotation = left @ right
    difference = float(np.linalg.norm(own @ rotation - reference) / np.linalg.norm(reference))
    if difference > _MAX_DIFFERENCE:
        raise ValueError(
            f"the embeddings of model {number} differ from those of model 0 by {difference:.2f} of their "
            f"norm, expected at most {_MAX_DIFFERENCE}: average models trained from the same weights"
        )
    weights = {name: model.weight(name) for name in model.config.shapes()}
    return map_output(model.config, weights, rotation)[1]


def _projected_embeddings(model: CSE) -> npt.NDArray[np.float64]:
    # The embeddings in the space of the output.
    embeddings = model.weight("embeddings").astype(np.float64)
    return embeddings @ model.weight("projection") if "projection" in model.config.shapes() else embeddings
