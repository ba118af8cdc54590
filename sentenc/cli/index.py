"""The commands ``sentenc index``: build, extend, optimize and inspect indexes."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import sentenc
from sentenc.cli.index_build import add_records, build_command
from sentenc.cli.model_options import model_options, optional_model
from sentenc.cli.record_files import EmptyRows, files_in_folders, id_option, record_options, skip_empty_option
from sentenc.errors import ModelNotFoundError
from sentenc.io.records import open_records

if TYPE_CHECKING:
    from sentenc.io.records import Record
    from sentenc.retrieval import Index

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group("index")
def index_group() -> None:
    """Build, extend and inspect the indexes that `sentenc search` searches."""


@index_group.command("add")
@click.argument("index", type=_FOLDER)
@click.argument("files", nargs=-1, required=True, callback=files_in_folders)
@record_options
@skip_empty_option
@id_option
@click.option("--update", is_flag=True, help="Replace items whose ids are already in the index.")
@click.option("-m", "--model", help="Encoder; by default the one that built the index.")
@model_options
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def add_command(
    index: Path,
    files: tuple[str, ...],
    update: bool,
    model: str | None,
    pooling: str | None,
    query_prompt: str | None,
    quiet: bool,
    skip_empty: bool,
    **reading: Any,
) -> None:
    """Add the records of FILES to INDEX.

    The index is saved every 65,536 records. A later error or interruption does not undo what has been saved.
    """
    from sentenc.cli.index_build import blocks
    from sentenc.retrieval import Index
    from sentenc.retrieval.outgrown import outgrown

    if update and reading["id_field"] is None:
        raise click.UsageError("--update requires --id-field")
    opened = Index.open(index, optional_model(model, pooling, query_prompt))
    done, replaced, started = 0, 0, time.perf_counter()
    new_texts: list[str] = []
    empty = EmptyRows(skip_empty)
    try:
        with open_records(files, "adding", quiet, on_empty=empty, **reading) as records:
            for block in blocks(records):
                replaced += _add(opened, block, update)
                opened.save()
                new_texts = [record.text for record in block]
                done += len(block)
    except BaseException:
        if done:
            click.echo(f"the first {done:,} records have been added and saved", err=True)
        raise
    if not quiet:
        seconds = time.perf_counter() - started
        click.echo(
            f"{done - replaced:,} items added, {replaced:,} replaced in {seconds:.1f} s: "
            f"{index} has {len(opened):,}{empty}",
            err=True,
        )
        _advise(opened, index)
        warning = outgrown(opened.info(), opened.query_encoder, new_texts)
        if warning is not None:
            click.echo(f"warning: {warning}", err=True)


@index_group.command("delete")
@click.argument("index", type=_FOLDER)
@click.argument("ids", nargs=-1)
@click.option("--ids-from", metavar="FILE", help="File of ids, one per line; - is standard input.")
def delete_command(index: Path, ids: tuple[str, ...], ids_from: str | None) -> None:
    """Delete the items with the ids IDS from INDEX.

    An id of digits is a string if INDEX has this string as an id, and an integer otherwise.
    """
    from sentenc.io.text import open_text
    from sentenc.retrieval import Index

    names = list(ids)
    if ids_from is not None:
        with open_text(ids_from) as lines:
            names += [line for line in lines if line]
    if not names and ids_from is None:
        raise click.UsageError("pass at least one id, or --ids-from")
    opened = Index.open(index, encoder=False)
    known = {name: _resolve(opened, name) for name in dict.fromkeys(names)}
    missing = [name for name, item_id in known.items() if item_id is None]
    deleted = opened.delete(list(dict.fromkeys(item_id for item_id in known.values() if item_id is not None)))
    if deleted:
        opened.save()
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        click.echo(
            f"not in the index: {shown}" + (f" ({len(missing):,} in all)" if missing[10:] else ""), err=True
        )
    click.echo(f"{deleted:,} items deleted: {index} has {len(opened):,}", err=True)
    if names and not deleted:
        raise click.exceptions.Exit(1)


@index_group.command("info")
@click.argument("index", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
@click.option("--verify", is_flag=True, help="Check the hash of every file first.")
def info_command(index: Path, as_json: bool, verify: bool) -> None:
    """Show the items, encoder, ANN index, recall and size of INDEX."""
    from sentenc.retrieval import Index

    opened = Index.open(index, encoder=False)
    if verify:
        opened.verify()
    content = {**opened.info(), "notes": opened.notes}
    if verify:
        content["verified"] = True
    if as_json:
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    build = content.pop("notes").get("build")
    if build is not None:
        sources = ", ".join(source["path"] for source in build["sources"])
        state = "" if build["complete"] else f" (unfinished: {build['records']:,} records so far)"
        content["built from"] = sources + state
    for key, value in content.items():
        click.echo(f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


@index_group.command("optimize")
@click.argument("index", type=_FOLDER)
def optimize_command(index: Path) -> None:
    """Remove deleted items from INDEX, and build its ANN index again if many items are outside it."""
    from sentenc.cli.index_build import summary
    from sentenc.retrieval import Index

    started = time.perf_counter()
    opened = Index.open(index, encoder=False)
    opened.optimize()
    opened.save()
    click.echo(f"{summary(opened, time.perf_counter() - started)}: {index}", err=True)


@index_group.command("reencode")
@click.argument("index", type=_FOLDER)
@click.option(
    "-m",
    "--model",
    help="Name, folder or Hub id of the encoder; by default the name of the one that built INDEX.",
)
@model_options
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def reencode_command(
    index: Path, model: str | None, pooling: str | None, query_prompt: str | None, quiet: bool
) -> None:
    """Replace all vectors of INDEX by those of another model, or of a new version of its model.

    They are computed from the texts in INDEX. Ids, payloads, passages and words do not change, and an ANN index
    is rebuilt. INDEX keeps its old vectors until all new ones are written. Run the same command again to
    resume after an interruption.
    """
    from sentenc.cli.index_build import note_model, summary
    from sentenc.retrieval import Index

    started = time.perf_counter()
    opened = Index.open(index, encoder=False)
    encoder, info = optional_model(model, pooling, query_prompt), opened.info()
    if encoder is None:
        if info["encoder"] is None:
            raise click.UsageError(f"{index} does not name the model that built it: pass --model")
        options = info["encoder options"]
        encoder = sentenc.load(info["encoder"], **options) if options else info["encoder"]
    of_queries = info["query encoder"]
    opened.reencode(encoder, show_progress_bar=not quiet)
    if of_queries is not None:
        _renew_query_encoder(opened, of_queries)
    _renew_reranker(opened)
    note_model(opened, model)
    opened.save()
    if not quiet:
        click.echo(f"{summary(opened, time.perf_counter() - started)}: {index}", err=True)


@index_group.command("set-query-encoder")
@click.argument("index", type=_FOLDER)
@click.argument("model", required=False)
@click.option("--remove", is_flag=True, help="Remove it: queries are encoded like the items again.")
def set_query_encoder_command(index: Path, model: str | None, remove: bool) -> None:
    """Set MODEL as the encoder of queries of INDEX; its space must be that of the index.

    Searches then encode queries with MODEL alone, unless they ask for --queries exact.
    """
    from sentenc.retrieval import Index

    if (model is None) != remove:
        raise click.UsageError("expected either MODEL or --remove")
    opened = Index.open(index)
    opened.set_query_encoder(model)
    opened.save()
    described = opened.info()["query encoder"]
    shown = "removed" if described is None else f"{described['model']}, {described['fingerprint']}"
    click.echo(f"encoder of queries of {index}: {shown}", err=True)


index_group.add_command(build_command)


def _renew_query_encoder(index: "Index", described: dict[str, Any]) -> None:
    """Sets the encoder of queries again, if its model was replaced and is of the new space."""
    model = described["model"]
    if index.info()["query encoder"] is None and model is not None:
        try:
            index.set_query_encoder(sentenc.load(model, **described.get("options", {})))
        except (ModelNotFoundError, ValueError) as error:
            click.echo(f"the encoder of queries, {model}, is removed: {error}", err=True)


def _renew_reranker(index: "Index") -> None:
    """Replaces the stored vectors of a reranker as well, if its model was replaced."""
    stored = index.info()["reranker"]
    if stored is None or stored["model"] is None:
        return
    try:
        encoder = sentenc.load(stored["model"], **stored.get("options", {}))
    except ModelNotFoundError:
        return
    if encoder.fingerprint() != stored["fingerprint"]:
        index.add_reranker(encoder)


def _add(index: "Index", block: list["Record"], update: bool) -> int:
    """Adds or updates a block of records; returns the number of records that replaced an item."""
    if block[0].id is None or not update:
        add_records(index, block)
        return 0
    # If several records have the same id, the last one counts.
    latest = list({record.id: record for record in block}.values())
    old = [record for record in latest if record.id in index]
    new = [record for record in latest if record.id not in index]
    if old:
        index.update(_ids(old), [r.text for r in old], payloads=[r.payload for r in old])
    if new:
        add_records(index, new)
    return len(block) - len(new)


def _ids(records: list["Record"]) -> list[int | str]:
    return [record.id for record in records if record.id is not None]


def _resolve(index: "Index", name: str) -> int | str | None:
    if name in index:
        return name
    try:
        number = int(name)
    except ValueError:
        return None
    # int() accepts "017" and "1_7" as well, which are not ids.
    return number if str(number) == name and abs(number) < 2**63 and number in index else None


def _advise(index: "Index", folder: Path) -> None:
    info = index.info()
    ann = info["structure"]
    covered = 0 if ann is None else ann["rows"]
    outside = info["passages"] + info["deleted passages"] - covered
    if info["to be searched by"] not in ("exact", "hamming") and outside > 0.1 * info["passages"]:
        click.echo(
            f"{outside:,} {'items' if info['chunking'] is None else 'passages'} are outside the ANN index, which makes searches slow: "
            f"run sentenc index optimize {folder}",
            err=True,
        )
