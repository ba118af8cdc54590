"""The mean of several refinements of one model: often better than any of them, at the cost of one.

A "model soup" (Wortsman et al., ICML 2022): models that go on from the same weights with other seeds or settings
lie in one basin, and the mean of their weights does too. Finished models are turned onto axes of their own, so
they are brought back to common ones first.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.encoder import CSE
from sentenc.training.students.cse_rotation import turned

# Share of the embeddings that two models of one start may differ by. Refinements differ by some hundredths,
# models of different starts by about one.
_FAR = 0.5


def average(models: Sequence[CSE], *, card: str | None = None) -> CSE:
    """The mean of models that went on from the same one, with int8 rows as a finished model has.

    The embeddings say how each is to be turned (orthogonal Procrustes: Schönemann, 1966) to lie on the axes of
    the first. A plain average of words, where there is one, is the first model's: training does not change it.

    Args:
        models: Two or more, of the same shape and tokenizer.
        card: The model card.

    Raises:
        ValueError: There are fewer than two, their shapes or tokenizers differ, they concatenate n-gram features
            only, or one has not come from the same start.
    """
    if len(models) < 2:
        raise ValueError(f"models are {len(models)}, expected two or more")
    first = models[0]
    if first.config.combine == "concat":
        raise ValueError(
            "combine is 'concat', expected 'residual' or 'both': n-gram features cannot be turned"
        )
    for number, model in enumerate(models[1:], 1):
        if model.config != first.config or model.tokenizer.spec != first.tokenizer.spec:
            raise ValueError(f"model {number} has another shape or tokenizer than model 0, expected the same")
    parts = [_on_axes_of(first, model, number) for number, model in enumerate(models)]
    mean: dict[str, npt.NDArray[np.float32]] = {
        name: np.asarray(np.mean([part[name] for part in parts], axis=0), np.float32) for name in parts[0]
    }
    if first.config.average_dim:
        mean["average"] = first.weight("average")
    metadata = {"averaged": [model.metadata.get("name") for model in models]}
    found = CSE(first.config, mean, first.tokenizer, tables=first.tables, metadata=metadata, card=card)
    return found.compressed()


def _on_axes_of(first: CSE, model: CSE, number: int) -> dict[str, npt.NDArray[np.float32]]:
    reference, own = _tokens(first), _tokens(model)
    left, _, right = np.linalg.svd(own.T @ reference)
    turn = left @ right
    off = float(np.linalg.norm(own @ turn - reference) / np.linalg.norm(reference))
    if off > _FAR:
        raise ValueError(
            f"the embeddings of model {number} differ from those of model 0 by {off:.2f} of their length, expected at "
            f"most {_FAR}: models that went on from the same one"
        )
    return turned(model.config, {name: model.weight(name) for name in model.config.shapes()}, turn)[1]


def _tokens(model: CSE) -> npt.NDArray[np.float64]:
    # The tokens as they stand in the output.
    embeddings = model.weight("embeddings").astype(np.float64)
    return embeddings @ model.weight("projection") if "projection" in model.config.shapes() else embeddings
