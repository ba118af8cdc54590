"""Statistics of a corpus: one pass over its first epoch, cached in a folder."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sentenc.errors import CacheError
from sentenc.io.atomic import replacing_folder
from sentenc.io.progress import progress_bar
from sentenc.training.data.corpus import Corpus, SourceReport
from sentenc.training.data.examples import ExampleFilter

_EXAMPLES_PER_BLOCK = 4096
_STATISTICS, _TEXTS = "statistics.json", "texts.jsonl"


@dataclass(frozen=True, kw_only=True)
class StatisticsRequest:
    """The statistics that a run needs. The pass over the corpus ends as soon as it has all of them.

    Attributes:
        n_texts: Number of texts in the sample :meth:`CorpusStatistics.texts`.
        n_used_texts: Least number of texts in the sample :attr:`CorpusStatistics.used_texts`.
        count: Whether to count the examples, which takes a pass over the whole epoch.
    """

    n_texts: int
    n_used_texts: int = 0
    count: bool = False


@dataclass(frozen=True)
class CorpusStatistics:
    """Statistics of the first epoch of a corpus.

    Attributes:
        folder: The folder that they are cached in.
        n_used: Number of examples in the epoch that are used; None if they were not counted.
        used_texts: Texts of column 0 of the first examples that are used.
        reports: Counts of what each source contained, up to the end of the pass.
        n_read: Number of examples of the pass.
        n_selected: Number of these that are used.
    """

    folder: Path
    n_used: int | None
    used_texts: list[str]
    reports: tuple[SourceReport, ...]
    n_read: int = 0
    n_selected: int = 0

    def texts(self, n: int | None = None) -> Iterator[str]:
        """Yields the first texts of the epoch, all columns of its examples in turn, used or not.

        Args:
            n: The number of texts; by default all texts of the sample.
        """
        # The sample is on disk because a million texts would take over 100 MB of memory.
        with open(self.folder / _TEXTS, encoding="utf-8") as lines:
            yield from map(json.loads, islice(lines, n))


def corpus_statistics(
    corpus: Corpus,
    seed: int,
    folder: Path,
    request: StatisticsRequest,
    *,
    example_filter: ExampleFilter | None = None,
    filter_identity: str = "",
    show_progress_bar: bool = False,
) -> CorpusStatistics:
    """Reads the statistics of a corpus from their folder; computes and stores them if they are not there.

    Args:
        corpus: The corpus.
        seed: The seed of its order.
        folder: The folder of the cache. Other statistics in it are replaced.
        request: The statistics to compute.
        example_filter: Selects the examples that are used; None uses all.
        filter_identity: Identifies what the filter depends on.
        show_progress_bar: Draw a bar on standard error.

    Raises:
        CorpusError: The corpus cannot be read, see :meth:`Corpus.epoch`.
        CacheError: The folder contains other files, or its statistics are damaged.
    """
    identity = {"corpus": corpus.fingerprint(), "seed": seed, "filter": filter_identity} | asdict(request)
    path = folder / _STATISTICS
    if path.exists():
        stored = _read(path)
        if stored["identity"] == identity:
            return CorpusStatistics(folder, **{key: stored[key] for key in stored if key != "identity"})
    with replacing_folder(folder, _STATISTICS, CacheError, "a folder of corpus statistics") as staging:
        n_read, n_selected, used_texts = _write_sample(
            corpus, seed, staging / _TEXTS, request, example_filter, show_progress_bar
        )
        n_used = n_selected if request.count else None
        statistics = CorpusStatistics(folder, n_used, used_texts, corpus.report(), n_read, n_selected)
        content = {"identity": identity} | asdict(statistics)
        del content["folder"]
        (staging / _STATISTICS).write_text(json.dumps(content), encoding="utf-8")
    return statistics


def _write_sample(
    corpus: Corpus,
    seed: int,
    path: Path,
    request: StatisticsRequest,
    example_filter: ExampleFilter | None,
    show_progress_bar: bool,
) -> tuple[int, int, list[str]]:
    # Writes the sample to the path; returns the numbers of all and of used examples, and texts of the used ones.
    n_texts = n_read = n_selected = 0
    used_texts: list[str] = []
    examples = corpus.epoch(seed, 0)
    total = corpus.estimate() if request.count else None
    with (
        open(path, "w", encoding="utf-8") as file,
        progress_bar(total, "reading the corpus", show_progress_bar) as bar,
    ):
        while block := list(islice(examples, _EXAMPLES_PER_BLOCK)):
            texts = [text for example in block for text in example][: request.n_texts - n_texts]
            file.writelines(f"{json.dumps(text)}\n" for text in texts)
            n_texts += len(texts)
            n_read += len(block)
            if example_filter is not None:
                block = [block[i] for i in np.flatnonzero(example_filter(block))]
            n_selected += len(block)
            if len(used_texts) < request.n_used_texts:
                used_texts += [example[0] for example in block]
            bar.update(len(block))
            samples_are_full = n_texts == request.n_texts and len(used_texts) >= request.n_used_texts
            if samples_are_full and not request.count:
                break
    return n_read, n_selected, used_texts


def _read(path: Path) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = stored["identity"], stored["n_used"], stored["used_texts"]
        stored["reports"] = tuple(SourceReport(**report) for report in stored["reports"])
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{path} is damaged ({error!r}): delete {path.parent}") from error
    return stored
