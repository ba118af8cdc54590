"""Choice of the columns for ``sentenc fit`` and ``sentenc classify``: named by options, or guessed."""

from collections.abc import Iterable, Sequence

import click

from sentenc.io.columns import listed
from sentenc.io.labeled import Columns
from sentenc.io.records import TEXT_FIELDS

# Likely names of columns, the likeliest first.
PAIR_COLUMNS = (
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
)
TEXT_COLUMNS = (*TEXT_FIELDS, "message", "utterance", "review", "comment", "tweet", "description")
LABEL_COLUMNS = ("label", "labels", "category", "intent", "class", "target", "topic", "sentiment")
SCORE_COLUMNS = ("score", "similarity", "relatedness_score", "rating")


def choose_columns(
    path: str,
    names: Sequence[str],
    *,
    text: str | None = None,
    text2: str | None = None,
    label: str | None = None,
    score: str | None = None,
    needs_label: bool = True,
    pairs: bool | None = None,
) -> Columns:
    """Chooses the columns of a file: those that the user named, and the most likely ones for the rest.

    Args:
        path: The file, for messages.
        names: Its columns.
        text: Column of the text, or of the first text of a pair, if the user named it.
        text2: Column of the second text of a pair, if the user named it.
        label: Column of the label, if the user named it.
        score: Column of the score, if the user named it; a score is a label that is a number.
        needs_label: Whether there must be a label or a score.
        pairs: Whether the texts are pairs; by default they are if two columns have the names of a pair.

    Raises:
        click.UsageError: A named column is not in the file, or several columns could be meant.
    """
    for name in (text, text2, label, score):
        if name is not None and name not in names:
            raise click.UsageError(f"{path} has no column {name!r}, only {listed(names)}")
    if label is not None and score is not None:
        raise click.UsageError("--label-column and --score-column exclude each other")
    if text2 is not None and text is None:
        raise click.UsageError("--text2-column requires --text-column")
    if needs_label and label is None and score is None:
        label = _first(names, LABEL_COLUMNS)
        score = _first(names, SCORE_COLUMNS) if label is None else None
        if label is None and score is None:
            raise click.UsageError(
                f"{path}: which column is the label? It has {listed(names)}: name one (--label-column, "
                "--score-column)"
            )
    target = label if score is None else score
    if text is None and pairs is not False:
        text, text2 = _pair(names)
    if pairs and text2 is None:
        raise click.UsageError(
            f"{path}: which columns are the two texts? It has {listed(names)}: name them (--text-column, "
            "--text2-column)"
        )
    text = text or _likely_text(path, names, target)
    chosen = [name for name in (text, text2, target) if name is not None]
    if repeated := [name for name in chosen if chosen.count(name) > 1]:
        raise click.UsageError(f"column {repeated[0]!r} is named twice, expected different ones")
    return Columns(text, text2, target, score is not None)


def _likely_text(path: str, names: Sequence[str], target: str | None) -> str:
    # Files to classify often still have their labels.
    label = target or _first(names, LABEL_COLUMNS)
    others = [name for name in names if name != label]
    text = _first(others, TEXT_COLUMNS) or (others[0] if len(others) == 1 else None)
    if text is None:
        raise click.UsageError(
            f"{path}: which column is the text? It has {listed(names)}: name one (--text-column)"
        )
    return text


def _first(names: Iterable[str], likely: Iterable[str]) -> str | None:
    spellings = {name.lower(): name for name in reversed(list(names))}
    return next((spellings[name] for name in likely if name in spellings), None)


def _pair(names: Sequence[str]) -> tuple[str | None, str | None]:
    for first, second in PAIR_COLUMNS:
        pair = _first(names, [first]), _first(names, [second])
        if None not in pair:
            return pair
    return None, None
