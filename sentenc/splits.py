"""Splits examples into training, validation and test rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import MissingExtraError

Rows = npt.NDArray[np.int64]


def strata(targets: npt.NDArray[np.floating]) -> Rows:
    """Assigns each example to a group, such that all classes are present while every group has an example.

    If every example has exactly one class, the groups are the classes. Sets of labels and distributions over
    steps may all differ, so they are grouped by their rarest class. In addition, one example of every class
    becomes a group of its own.

    Args:
        targets: (n, K); an example has the classes whose target is above 0.

    Returns:
        (n,) the group of each example.
    """
    n, k = targets.shape
    if n == 0 or k == 0:
        return np.zeros(n, np.int64)
    has = targets > 0
    counts = has.sum(axis=0)
    # Examples without a class form group k.
    rarest = np.where(has.any(axis=1), np.where(has, counts, n + 1).argmin(axis=1), k)
    if (has.sum(axis=1) == 1).all():
        return np.asarray(rarest, np.int64)
    groups = np.asarray(rarest, np.int64)
    covered = counts == 0
    for label in np.argsort(counts, kind="stable"):
        if not covered[label]:
            row = int(has[:, label].argmax())
            covered |= has[row]
            groups[row] = k + 1 + label
    return groups


def validation_rows(groups: Rows, fraction: float, rng: np.random.Generator) -> Rows:
    """Draws validation rows at random, but never the last row of a group.

    Args:
        groups: (n,) the group of each example, from :func:`strata` or its class.
        fraction: Size of the validation split as a share of n. The split is smaller if the groups are too
            small.
        rng: Source of the choice.

    Returns:
        The rows in ascending order.
    """
    size = round(fraction * len(groups))
    left = np.bincount(groups)
    rows: list[int] = []
    for row in rng.permutation(len(groups)) if size else ():
        if len(rows) == size:
            break
        if left[groups[row]] > 1:
            left[groups[row]] -= 1
            rows.append(int(row))
    return np.sort(np.array(rows, np.int64))


def validation_folds(groups: Rows, k: int, rng: np.random.Generator) -> list[Rows]:
    """Divides rows into k validation folds, with every group spread over the folds.

    Unlike scikit-learn's folds, they leave out the only example of a group, which is needed for training.

    Args:
        groups: (n,) the group of each example, from :func:`strata` or its class.
        k: Number of folds.
        rng: Source of the order.

    Returns:
        At most k non-empty arrays of rows, each in ascending order.
    """
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    order = order[np.bincount(groups)[groups[order]] > 1]
    folds = (np.sort(order[first::k]) for first in range(k))
    return [fold for fold in folds if len(fold)]


def stratified_folds(labels: npt.NDArray[np.int64], k: int, seed: int) -> list[tuple[Rows, Rows]]:
    """Returns the folds of scikit-learn's shuffled ``StratifiedKFold``, which SentEval uses.

    Args:
        labels: (n,) classes, each with at least k examples.
        k: Number of folds.
        seed: Seed of the shuffling.

    Returns:
        For each fold, the training rows and the test rows.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.model_selection import StratifiedKFold
    except ImportError as error:
        raise MissingExtraError("eval", "scikit-learn", "cross-validation") from error
    splitter = StratifiedKFold(n_splits=k, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels))


def train_test_split(labels: Sequence[Any], test_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Splits rows into training and test rows, stratified by label or by score.

    Rows are sorted by label (scores by value), shuffled within a label, and taken for the test at even
    distances. Labels with two or three examples are therefore tested about as often as others, and the total
    size is right. The only example of a label always stays in the training rows. With several labels per row,
    rows of the same set are sorted together, and a row stays in the training rows if one of its labels would
    otherwise have no training example.

    Args:
        labels: One label, list of labels, or score (float) per row.
        test_fraction: Share of the test rows, from 0 to below 1.
        seed: Seed of the shuffling.

    Returns:
        Training rows and test rows, each in ascending order.
    """
    rng = np.random.default_rng(seed)
    keys = [_stratum(label) for label in labels]
    position = {key: i for i, key in enumerate(sorted(set(keys)))}
    order = np.lexsort((rng.random(len(keys)), np.array([position[key] for key in keys], int)))
    marks = np.floor(np.arange(len(keys) + 1) * test_fraction + rng.random())
    is_test = np.zeros(len(keys), bool)
    is_test[order] = np.diff(marks) > 0
    if all(isinstance(label, list) for label in labels):
        _keep_every_label(is_test, labels)
    else:
        in_training = {key for key, tested in zip(keys, is_test, strict=True) if not tested}
        is_test[[key not in in_training and not isinstance(key, float) for key in keys]] = False
    return np.nonzero(~is_test)[0].tolist(), np.nonzero(is_test)[0].tolist()


def _stratum(label: Any) -> float | str:
    # The order of several labels has no meaning.
    if isinstance(label, list):
        return repr(sorted(map(repr, label)))
    return label if isinstance(label, float) else repr(label)


def _keep_every_label(is_test: npt.NDArray[np.bool_], labels: Sequence[list[Any]]) -> None:
    """Moves test rows to the training rows until every label has a training example."""
    in_training = {label for row, tested in zip(labels, is_test, strict=True) if not tested for label in row}
    for row in np.flatnonzero(is_test).tolist():
        if not in_training.issuperset(labels[row]):
            in_training.update(labels[row])
            is_test[row] = False
