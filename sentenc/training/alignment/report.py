"""The report of an alignment, on texts that were kept out of training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Below this share of common neighbors, a user should know what raises it.
_POOR_OVERLAP = 0.5
# A learning curve is still steep with fewer texts.
_ENOUGH_TEXTS = 100_000
_VECTORS_ALONE = (
    "the model was fitted to whole documents, and the quality on queries is unknown: it depends on how much they "
    "differ from the documents. Judgments (--data) measure it. Queries that the teacher encodes (TEACHER and "
    "--queries) raise it"
)


@dataclass(frozen=True, kw_only=True)
class AlignmentReport:
    """The measurements of an alignment.

    Attributes:
        dim: The number of components of a vector.
        n_queries: The number of queries in the training texts.
        n_sentences: The number of sentences of the collection in the training texts.
        n_vectors: The number of training texts that came with their vectors, without a teacher.
        n_held_out: The number of texts kept out of training.
        n_documents: The number of documents that neighbors are compared on.
        cosine: The mean cosine between the vectors of the model and those of the teacher, of the texts kept
            out. For vectors alone, these are whole documents.
        overlap: The mean share of the teacher's ten nearest documents that are among the model's ten, of the
            texts kept out. None without documents.
        alpha: The weight of the vectors in hybrid search that the report recommends; with judgments the one
            that is best on them. None without documents.
        judged: nDCG@10 in points on the given judgments: of the teacher's queries (``"teacher"``), the
            model's (``"aligned"``), BM25 (``"lexical"``) and both at ``alpha`` (``"hybrid"``). ``alpha`` is
            chosen on the same judgments, so ``"hybrid"`` is slightly optimistic. None without judgments.
        tokenizer: The origin of the tokenizer: ``"teacher"``, or the name of a model.
        seconds: The time that the fit took, without the teacher's vectors.
    """

    dim: int
    n_queries: int
    n_sentences: int
    n_vectors: int
    n_held_out: int
    n_documents: int
    cosine: float
    overlap: float | None
    alpha: float | None
    judged: Mapping[str, float] | None
    tokenizer: str
    seconds: float

    @property
    def n_texts(self) -> int:
        """The number of training texts."""
        return self.n_queries + self.n_sentences + self.n_vectors

    @property
    def warnings(self) -> list[str]:
        """The weaknesses that a user should know, each with its remedy."""
        if self.n_vectors:
            return [_VECTORS_ALONE]
        remarks = []
        if self.overlap is not None and self.overlap < _POOR_OVERLAP:
            remarks.append(
                f"of the teacher's ten nearest documents, the model finds {self.overlap:.0%}: {self._remedy}"
            )
        if self.n_queries == 0:
            remarks.append(
                "there were no queries, so sentences of the collection took their place: the quality on real "
                "queries is unknown; it depends on how much they differ from the documents"
            )
        return remarks

    @property
    def _remedy(self) -> str:
        if self.n_queries == 0:
            return "queries of your users (--queries) would raise it"
        if self.n_sentences == 0:
            return "the documents of the collection (--corpus) would raise it"
        if self.n_texts < _ENOUGH_TEXTS:
            return f"more queries would raise it: {self.n_texts:,} texts are few, expected 100,000 or more"
        return "search with both vectors and words (mode hybrid), or rerank with the teacher"

    def to_dict(self) -> dict[str, Any]:
        """Returns the measurements as JSON values."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }

    def lines(self) -> list[tuple[str, str]]:
        """Returns the names and values of the measurements, formatted."""
        kinds = (
            f"{self.n_vectors:,} documents with their vectors"
            if self.n_vectors
            else f"{self.n_texts:,} ({self.n_queries:,} queries, {self.n_sentences:,} sentences)"
        )
        rows = [
            ("training texts", kinds),
            ("texts kept out", f"{self.n_held_out:,}"),
            ("mean cosine to the teacher", f"{self.cosine:.3f}"),
        ]
        if self.overlap is not None:
            rows.append((f"common in the ten best of {self.n_documents:,} documents", f"{self.overlap:.1%}"))
        for name, value in (self.judged or {}).items():
            rows.append((f"nDCG@10, {_JUDGED[name]}", f"{value:.1f}"))
        if self.alpha is not None:
            rows.append(("weight of the vectors in hybrid search", f"{self.alpha:.1f}"))
        return [*rows, ("seconds of fitting", f"{self.seconds:.0f}")]

    def to_text(self) -> str:
        """Formats the report for a terminal."""
        rows = self.lines()
        width = max(len(name) for name, _ in rows)
        table = [f"{name:<{width}}  {value}" for name, value in rows]
        return "\n".join([*table, *(f"warning: {remark}" for remark in self.warnings)])


_JUDGED = {
    "teacher": "queries by the teacher",
    "aligned": "queries by the model",
    "lexical": "BM25",
    "hybrid": "BM25 and the model (weight chosen on these judgments)",
}
