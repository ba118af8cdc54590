"""The settings of an alignment."""

from dataclasses import dataclass, replace

from sentenc.validation import check_integer


@dataclass(frozen=True, kw_only=True)
class AlignmentSettings:
    """The settings of :func:`sentenc.align`.

    Attributes:
        rounds: The number of times that every text is used; by default 6, and 10 for vectors alone.
        batch_size: The number of texts of a step; by default 256, and 64 for vectors alone, whose texts are
            fewer and longer.
        learning_rate: The step size of Adam at the beginning. It falls to 0.
        max_texts: At most this number of texts is used; of more, a sample.
        max_sentences: If there are queries, at most this number of sentences of the collection is used as
            well. They leave at least half of ``max_texts`` to queries, if there are as many.
        max_documents: The number of documents of the collection that the report compares with; of more, a
            sample.
        held_out: The number of texts that are kept out of training for the report. It is at most a tenth of
            all.
        max_minutes: Time limit for the vectors of the teacher. Texts without a vector are left out. None
            computes all.
        seed: Seed of samples and of the order of texts.

    Raises:
        TypeError: A number is no integer.
        ValueError: A number is out of range.
    """

    rounds: int | None = None
    batch_size: int | None = None
    learning_rate: float = 5e-3
    max_texts: int = 300_000
    max_sentences: int = 20_000
    max_documents: int = 5_000
    held_out: int = 1_000
    max_minutes: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks every value."""
        for name in ("rounds", "batch_size", "max_texts", "max_documents", "held_out"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        check_integer("max_sentences", self.max_sentences, at_least=0)
        check_integer("seed", self.seed, at_least=0)
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}, expected a number between 0 and 1")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"max_minutes is {self.max_minutes}, expected a number above 0")

    def with_defaults(self, rounds: int, batch_size: int) -> "AlignmentSettings":
        """Returns the settings with a number of rounds and a batch size, where there is none."""
        return replace(self, rounds=self.rounds or rounds, batch_size=self.batch_size or batch_size)
