"""The command ``sentenc search``: searches an index once, line by line, or at a prompt."""

import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentenc.cli.model_options import model_options, optional_model
from sentenc.texts import replace_lone_surrogates

if TYPE_CHECKING:
    from sentenc.retrieval import Hit, Index
    from sentenc.retrieval.index_encoders import Speed

# Control characters of a foreign text could change the state of the terminal.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_PROMPT = "> "
Filter = dict[str, Any] | None
Search = Callable[..., Any]


@click.command("search")
@click.argument("index", type=click.Path(file_okay=False, path_type=Path))
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option(
    "-k", default=10, show_default=True, type=click.IntRange(min=1), help="Number of items per query."
)
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "vector", "lexical"]),
    help="Search by vectors and words, or by one of them; by default hybrid if the index has words.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1),
    help="Weight of the vectors in hybrid search, 0 to 1; by default that of the model.",
)
@click.option(
    "--queries",
    "speed",
    type=click.Choice(["fast", "exact"]),
    help="Encode queries with the encoder of queries, that of a pair or of `sentenc index set-query-encoder`, or with "
    "the encoder of the items; by default fast if possible.",
)
@click.option(
    "--rerank",
    metavar="MODEL",
    help="Reorder the best candidates by the vectors of another model, such as tinybert4-en.",
)
@click.option(
    "--candidates",
    default=100,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of items that --rerank orders.",
)
@click.option(
    "--where",
    "expressions",
    multiple=True,
    metavar="FILTER",
    help="Filter on payloads: country=France, 'year>=2000' or JSON; all of several must hold.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per query, one per line.")
@click.option("-m", "--model", help="Encoder of the queries; by default the one that built the index.")
@model_options
@click.option("--force", is_flag=True, help="Accept another encoder than the one that built the index.")
def search_command(
    index: Path,
    queries: tuple[str, ...],
    k: int,
    mode: str | None,
    alpha: float | None,
    speed: "Speed | None",
    rerank: str | None,
    candidates: int,
    expressions: tuple[str, ...],
    as_json: bool,
    model: str | None,
    pooling: str | None,
    query_prompt: str | None,
    force: bool,
) -> None:
    """Print rank, score, id, text and payload of the best items in INDEX for each QUERY.

    Of a text that was divided into passages, the best passage is printed.

    Without a query, open a prompt, or read one query per line from a pipe.

    A FILTER is a field, an operator (=, !=, >, >=, <, <=) and a value, or a filter in JSON. A list in JSON equals
    any of its elements: --where 'country=["France", "Spain"]'. A field of a field is named with a dot:
    author.name=Anne.
    """
    from sentenc.retrieval import Index

    where = _filter(expressions)
    opened = Index.open(index, optional_model(model, pooling, query_prompt), force=force)
    if mode != "lexical" and not opened.query_speeds and opened.info()["fingerprint"] is not None:
        raise click.ClickException(
            f"{index} was built by an encoder without a name: pass the encoder with --model, or search by words "
            "alone with --mode lexical"
        )
    options: dict[str, Any] = {
        "mode": mode, "alpha": alpha, "queries": speed, "rerank": rerank, "candidates": candidates,
    }  # fmt: skip
    search: Search = partial(opened.search, **options)
    if not queries and sys.stdin.isatty():
        _prompt(opened, search, k, where, as_json)
        return
    heading = len(queries) != 1
    for query in queries or _piped():
        _answer(search, query, k, where, as_json, heading)
    if where is not None:
        _explain(opened, where)


def _filter(expressions: Sequence[str]) -> Filter:
    from sentenc.retrieval.filter_expressions import parse_filter

    try:
        return parse_filter(expressions) if expressions else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--where") from error


def _explain(index: "Index", where: dict[str, Any]) -> None:
    """Reports a filter that no item meets, and the likely reason."""
    from sentenc.retrieval.filter_expressions import why_nothing_matches

    described = index.describe_filter(where)
    if described["items"] == 0:
        click.echo(
            "\n".join(["no item meets the filter:", *why_nothing_matches(described["fields"])]), err=True
        )


def _piped() -> Iterator[str]:
    from sentenc.io.text import open_text

    with open_text("-") as lines:
        for line in lines:
            if line.strip():
                yield line


def _prompt(index: "Index", search: Search, k: int, where: Filter, as_json: bool) -> None:
    """Answers queries until an empty line or the end of input; ``:k`` and ``:where`` change the settings."""
    with suppress(ImportError):
        import readline  # noqa: F401  (adds history and editing to input())
    click.echo(
        f"{len(index):,} items. Type :k 20 to show 20 per query, :where country=France to filter, :where to "
        "stop filtering, or an empty line to quit.",
        err=True,
    )
    while True:
        try:
            line = input(_PROMPT).strip()
        except EOFError:
            click.echo()
            return
        if not line:
            return
        if line.split()[0] == ":k":
            number = line[2:].strip()
            if number.isdecimal() and int(number) > 0:
                k = int(number)
            else:
                click.echo(f"k is {number!r}, expected a number of at least 1: :k 20", err=True)
            continue
        if line.split()[0] == ":where":
            expression = line.removeprefix(":where").strip()
            try:
                where = _filter([expression] if expression else [])
            except click.BadParameter as error:
                click.echo(error.message, err=True)
            continue
        started = time.perf_counter()
        _answer(search, line, k, where, as_json, heading=False)
        click.secho(f"{(time.perf_counter() - started) * 1000:.1f} ms", dim=True, err=True)
        if where is not None:
            _explain(index, where)


def _answer(search: Search, query: str, k: int, where: Filter, as_json: bool, heading: bool) -> None:
    query = replace_lone_surrogates(query)
    hits: list[Hit] = search(query, k, where=where)
    if as_json:
        answer = {"query": query, "results": [hit.to_dict() for hit in hits]}
        click.echo(replace_lone_surrogates(json.dumps(answer, ensure_ascii=False)))
        return
    if heading:
        click.secho(_one_line(query), bold=True)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in _lines(hits, width):
        click.echo(line)
    if heading:
        click.echo()


def _lines(hits: list["Hit"], width: int | None) -> Iterator[str]:
    """Yields one line of at most ``width`` columns per hit, with a dim payload if there is room."""
    names = [_one_line(str(hit.id)) for hit in hits]
    scores = [f"{hit.score:.4f}" for hit in hits]
    columns, digits = (max(map(_columns, part), default=0) for part in (names, scores))
    for rank, (hit, name, score) in enumerate(zip(hits, names, scores, strict=True), 1):
        name += " " * (columns - _columns(name))
        head = f"{rank:>{len(str(len(hits)))}}  {score:>{digits}}  {name}  "
        text = _one_line(hit.passage or "")
        payload = "" if hit.payload is None else _one_line(json.dumps(hit.payload, ensure_ascii=False))
        if width is not None:
            text = _cut(text, max(width - _columns(head), 0))
            room = width - _columns(head) - _columns(text) - 2
            # Fewer than eight characters of a payload are not informative.
            payload = _cut(payload, room) if room >= min(8, _columns(payload)) else ""
        if payload:
            text += ("  " if text else "") + click.style(payload, dim=True)
        yield (head + text).rstrip()


def _one_line(text: str) -> str:
    return replace_lone_surrogates(" ".join(text.split()).translate(_CONTROLS))


def _cut(text: str, width: int) -> str:
    """Returns as much of a text as fits into ``width`` columns, with "…" at the end if it is cut."""
    if _columns(text) <= width:
        return text
    if width < 1:
        return ""
    head, used = [], 1
    for char in text:
        used += _columns(char)
        if used > width:
            break
        head.append(char)
    return "".join(head).rstrip() + "…"


def _columns(text: str) -> int:
    """Returns the width of a text in a terminal: two for East Asian wide characters, none for accents."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(char) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )
