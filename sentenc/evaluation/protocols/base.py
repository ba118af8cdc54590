"""The interface of evaluation protocols, their configuration, and the data they exchange."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.roles import Role
from sentenc.evaluation.probes.base import Probe
from sentenc.evaluation.readers import Examples
from sentenc.retrieval.words import word_settings
from sentenc.validation import check_choice, check_integer, check_number

Aggregation = Literal["all", "mean", "wmean"]
AGGREGATIONS: tuple[Aggregation, ...] = ("all", "mean", "wmean")
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """Everything that decides a score besides the encoder and the data.

    Attributes:
        probe: The classifier that is trained on the vectors, in protocols that train one.
        seed: Seed of the folds, and of probes that draw random numbers.
        folds: Number of cross-validation folds.
        aggregation: How the sets of an STS year are combined into one correlation.
        raw: True for raw text, False for SentEval's tokenized text, None for the protocol's default.
        words: The settings of lexical and hybrid search, as an index stores them: ``language``, ``stemmer``
            and ``alpha``.
    """

    probe: Probe
    seed: int = 1111
    folds: int = 10
    aggregation: Aggregation = "all"
    raw: bool | None = None
    words: Mapping[str, Any] = field(default_factory=lambda: word_settings(None, None))

    def __post_init__(self) -> None:
        check_choice("aggregation", self.aggregation, AGGREGATIONS)
        check_integer("seed", self.seed, at_least=0)
        check_integer("folds", self.folds, at_least=2)
        check_number("alpha", self.words["alpha"], at_least=0, at_most=1)


@dataclass(frozen=True)
class Outcome:
    """The measurements of a protocol.

    Attributes:
        metrics: Metrics in points, among them the protocol's main metric.
        details: Metrics by fold, set, run or search mode, and the chosen regularization.
    """

    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class EncodedPart:
    """A part of a task together with the vectors of its texts.

    Attributes:
        examples: The n examples of the part.
        vectors: Shape (n, dim): vectors of the texts, or of the first text of each pair.
        partner_vectors: Shape (n, dim): vectors of the second text of each pair; None for single texts.
    """

    examples: Examples
    vectors: Vectors
    partner_vectors: Vectors | None

    def features(self) -> Vectors:
        """Returns the inputs of a probe: the vectors (n, dim), or of pairs their features (n, 2 * dim)."""
        if self.partner_vectors is None:
            return self.vectors
        return pair_features(self.vectors, self.partner_vectors)


class EvaluationProtocol(ABC):
    """A procedure that turns the vectors of a task's parts into scores.

    Attributes:
        name: The name under which scores store the protocol.
        metric: The name of its main metric.
        part_names: The parts that a task must have; None if any set of parts is scored.
        raw_by_default: Whether raw text is encoded unless the user chooses a text variant.
        compares_similarity: Whether only the columns are scored that :meth:`~sentenc.Encoder.similarity`
            compares. The other columns are features for classifiers.
        roles: The roles of the texts of parts, by the name of the part. Texts of other parts have no role.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    part_names: ClassVar[tuple[str, ...] | None] = None
    raw_by_default: ClassVar[bool] = False
    compares_similarity: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, Role]] = {}

    @abstractmethod
    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns the entries ``aggregation``, ``folds``, ``seed`` and ``probe`` of a score.

        An entry is None if the protocol does not depend on it.
        """

    @abstractmethod
    def score(
        self, parts: Mapping[str, EncodedPart], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """Scores the vectors of a task.

        Args:
            parts: The parts of the task by name.
            config: The configuration of all protocols.
            rng: Generator for initial weights and the order of mini-batches.
        """


def pair_features(left: Vectors, right: Vectors) -> Vectors:
    """Returns ``[|u - v| ; u * v]``, shape (n, 2 * dim), of two arrays of shape (n, dim)."""
    return np.concatenate([np.abs(left - right), left * right], axis=1)
