"""The command ``sentenc serve``: serves models, indexes and classifiers over HTTP."""

import gc
import ipaddress
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import sentenc
from sentenc.cli.model_options import THREADS, load_model, pooling_option
from sentenc.encoders.bert.reading import is_plain_bert_folder
from sentenc.errors import ModelNotFoundError
from sentenc.registry import resolve_model
from sentenc.serving.config import ServerConfig
from sentenc.threads import Threads, limit_blas, usable_cores

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder
    from sentenc.retrieval import Index


_KEY_VARIABLE = "SENTENC_API_KEY"


@click.command("serve")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--index", "indexes", multiple=True, metavar="FOLDER", help="An index to serve; may be repeated."
)
@click.option(
    "--classifier",
    "classifiers",
    multiple=True,
    metavar="FOLDER",
    help="A classifier of `sentenc fit` to serve; may be repeated.",
)
@click.option("--host", default=ServerConfig.host, show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=ServerConfig.port,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--api-key",
    envvar=_KEY_VARIABLE,
    show_envvar=True,
    help="Key that clients must send as a bearer token.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    help="An origin whose web pages may use the server, such as http://localhost:3000, or *; may be repeated.",
)
@click.option(
    "--max-batch-tokens",
    default=ServerConfig.max_batch_tokens,
    show_default=True,
    type=click.IntRange(1),
    help="Tokens that are encoded together (an estimate).",
)
@click.option(
    "--max-inputs",
    default=ServerConfig.max_inputs,
    show_default=True,
    type=click.IntRange(1),
    help="Maximum number of texts in a request.",
)
@click.option(
    "--max-queue",
    default=ServerConfig.max_queue,
    show_default=True,
    type=click.IntRange(1),
    help="Maximum number of waiting requests; further ones get 429.",
)
@click.option(
    "--max-body-bytes",
    default=ServerConfig.max_body_bytes,
    show_default=True,
    type=click.IntRange(1),
    help="Maximum size of a request.",
)
@click.option(
    "--timeout",
    default=ServerConfig.timeout,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds that a request may take.",
)
@click.option(
    "--grace",
    default=ServerConfig.grace,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to finish requests after a stop signal.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Number of processes that answer, behind one port; they share the memory of the models.",
)
@click.option("--truncate", is_flag=True, help="Cut texts that are too long instead of refusing them.")
@click.option("--log-json", is_flag=True, help="Log one JSON object per line.")
@click.option(
    "--threads",
    type=THREADS,
    help="Number of encoding threads of each worker; by default all cores, divided by the number of workers.",
)
@pooling_option
def serve_command(
    models: tuple[str, ...],
    indexes: tuple[str, ...],
    classifiers: tuple[str, ...],
    workers: int,
    threads: Threads | None,
    pooling: str | None,
    **options: Any,
) -> None:
    """Serve models, indexes and classifiers over HTTP.

    Each MODEL is a name, a folder or a Hub id. If no MODEL is given, the models of the indexes and
    classifiers are served. NAME=MODEL and NAME=FOLDER set the name that clients use.

    The server answers /v1/embeddings like OpenAI, with vectors of unit length, /search and /similarity,
    /classify, and a search page at /. It stops cleanly at Ctrl-C or SIGTERM. With --workers, it replaces
    processes that end unexpectedly.
    """
    if not models and not indexes and not classifiers:
        raise click.UsageError("nothing to serve: pass at least one MODEL, --index or --classifier")
    _check_key_variable(options["api_key"])
    from sentenc.serving import bind, create_app, serve, serve_workers
    from sentenc.serving.logs import log_to_stderr
    from sentenc.serving.workers import check_workers

    check_workers(workers)
    if threads is None or threads == "auto":
        threads = max(usable_cores() // workers, 1)
    limit_blas(threads)
    config = ServerConfig(**options)
    log_to_stderr(config.log_json)
    with bind(config) as listener:
        encoders = _load_models(models, threads, pooling)
        opened = _open_indexes(indexes, encoders, threads)
        loaded = _load_classifiers(classifiers, threads)
        make_app = partial(create_app, encoders, opened, config, classifiers=loaded)
        if config.api_key is None and not _is_loopback(config.host):
            click.echo(
                f"warning: other machines can reach {config.host}, and there is no --api-key", err=True
            )
        # Loaded objects live until the end: scanning them in every garbage collection would hold up requests.
        gc.freeze()
        if workers > 1:
            serve_workers(make_app, workers, config, listener=listener, on_listening=_announce)
        else:
            serve(make_app(), config, listener=listener, on_listening=_announce)


def _check_key_variable(api_key: str | None) -> None:
    # Click takes an empty variable for one that is not set, which would start a server without a key.
    value = os.environ.get(_KEY_VARIABLE)
    if value is not None and not value.strip() and api_key in (None, value):
        raise click.UsageError(
            f"{_KEY_VARIABLE} is empty, expected a key: unset the variable for a server without one"
        )


def _announce(url: str) -> None:
    click.echo(f"sentenc is listening on {url} (Ctrl-C stops it)")


def _load_models(models: Iterable[str], threads: Threads | None, pooling: str | None) -> "dict[str, Encoder]":
    encoders: dict[str, Encoder] = {}
    is_used = pooling is None
    for name, model in _named(models, "models", "MODEL"):
        # The other models state their pooling.
        is_plain = pooling is not None and is_plain_bert_folder(resolve_model(model))
        is_used = is_used or is_plain
        encoders[name] = load_model(model, pooling if is_plain else None, threads=threads)
    if not is_used:
        raise click.UsageError(
            f"--pooling is {pooling}, expected it only with a MODEL that is a transformer whose folder states none"
        )
    return encoders


def _open_indexes(
    folders: Iterable[str], encoders: "dict[str, Encoder]", threads: Threads | None
) -> "dict[str, Index]":
    """Opens indexes, each with its encoder or one of its space; loads it if ``encoders`` lacks both."""
    if not folders:
        return {}
    from sentenc.retrieval import Index
    from sentenc.retrieval.manifest import read_manifest
    from sentenc.retrieval.validation import shares_space

    known = {encoder.fingerprint(): encoder for encoder in encoders.values()}
    opened: dict[str, Index] = {}
    for name, folder in _named(folders, "indexes", "FOLDER"):
        manifest = read_manifest(Path(folder).expanduser())
        if (manifest.query_encoder or {}).get("model") is not None:
            # Its encoder of queries is loaded, and that of its items when the first exact query comes.
            opened[name] = Index.open(folder, threads=threads)
            continue
        built_by = manifest.encoder or {}
        encoder = known.get(built_by.get("fingerprint", ""))
        if encoder is None and built_by:
            same = (other for other in encoders.values() if shares_space(other, built_by, manifest.dim))
            encoder = next(same, None)
        if encoder is None:
            if not built_by.get("model"):
                raise click.UsageError(
                    f"{folder} does not name the model that built it: pass that MODEL too, to encode queries"
                )
            try:
                encoder = sentenc.load(built_by["model"], threads=threads, **built_by.get("options", {}))
            except ModelNotFoundError as error:
                raise click.UsageError(
                    f"{folder} needs the model {built_by['model']}, which cannot be found; if it was moved, pass "
                    f"it as a MODEL. {error}"
                ) from error
            known[encoder.fingerprint()] = encoder
        opened[name] = Index.open(folder, encoder)
    return opened


def _load_classifiers(folders: Iterable[str], threads: Threads | None) -> dict[str, Any]:
    if not folders:
        return {}
    from sentenc.cli.classify import load_fitted

    return {
        name: load_fitted(str(Path(folder).expanduser()), threads)
        for name, folder in _named(folders, "classifiers", "FOLDER")
    }


def _named(arguments: Iterable[str], plural: str, metavar: str) -> Iterator[tuple[str, str]]:
    """Yields the name that clients use and the location of each argument; names are distinct."""
    names: set[str] = set()
    for argument in arguments:
        name, location = _name_and_location(argument)
        if name in names:
            raise click.UsageError(f"two {plural} are named {name!r}: rename one of them by NAME={metavar}")
        names.add(name)
        yield name, location


def _name_and_location(argument: str) -> tuple[str, str]:
    name, equals, location = argument.partition("=")
    if equals and name and location and not Path(argument).exists():
        return name, location
    path = Path(argument).expanduser()
    # Clients see only the last part of a folder's path; a Hub id is a name already.
    return (path.resolve().name or argument, argument) if path.is_dir() else (argument, argument)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
