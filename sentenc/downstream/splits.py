"""Which examples are held out of a fit, to choose a setting or to know when to stop."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def strata(targets: npt.NDArray[np.floating]) -> Rows:
    """Groups (n,) of examples such that, while each keeps an example, every class does.

    Of examples of one class each, the groups are the classes. Of sets of labels or shares of steps, which may all
    differ, the groups are those of the rarest label; and one example of every label is a group of its own.

    Args:
        targets: (n, K); an example has the classes whose target is above 0.
    """
    n, k = targets.shape
    if n == 0 or k == 0:
        return np.zeros(n, np.int64)
    has = targets > 0
    counts = has.sum(axis=0)
    # k for examples without a label.
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


def held_out_rows(groups: Rows, fraction: float, rng: np.random.Generator) -> Rows:
    """Rows to hold out, at random, but never the last one of a group: shape (m,), ascending.

    Args:
        groups: (n,) the group of each example: its class.
        fraction: How many, as a share of n; fewer if the groups are too small.
        rng: Source of the choice.
    """
    wanted = round(fraction * len(groups))
    left = np.bincount(groups)
    found: list[int] = []
    for row in rng.permutation(len(groups)) if wanted else ():
        if len(found) == wanted:
            break
        if left[groups[row]] > 1:
            left[groups[row]] -= 1
            found.append(int(row))
    return np.sort(np.array(found, np.int64))


def folds(groups: Rows, k: int, rng: np.random.Generator) -> list[Rows]:
    """Rows to hold out in turn, every group spread over the folds; a group's only example is never held out.

    Args:
        groups: (n,) the group of each example: its class.
        k: Folds.
        rng: Source of the order.

    Returns:
        At most k arrays of rows, none empty.
    """
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    order = order[np.bincount(groups)[groups[order]] > 1]
    parts = (np.sort(order[first::k]) for first in range(k))
    return [part for part in parts if len(part)]
