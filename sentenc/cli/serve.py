"""``sentenc serve``: models, indexes and classifiers over HTTP."""

import gc
import ipaddress
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import sentenc
from sentenc.serving.settings import ServerConfig

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder
    from sentenc.retrieval import Index


@click.command("serve")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--index", "indexes", multiple=True, metavar="FOLDER", help="An index to search; may be repeated."
)
@click.option(
    "--classifier", "classifiers", multiple=True, metavar="FOLDER",
    help="A classifier that `sentenc fit` made; may be repeated.",
)  # fmt: skip
@click.option("--host", default=ServerConfig.host, show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    default=ServerConfig.port,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="0 takes a free one.",
)
@click.option(
    "--api-key", envvar="SENTENC_API_KEY", show_envvar=True, help="What clients must send as a bearer token."
)
@click.option(
    "--max-batch-tokens",
    default=ServerConfig.max_batch_tokens,
    show_default=True,
    type=click.IntRange(1),
    help="Tokens encoded together.",
)
@click.option(
    "--max-inputs",
    default=ServerConfig.max_inputs,
    show_default=True,
    type=click.IntRange(1),
    help="Texts in a request.",
)
@click.option(
    "--max-queue",
    default=ServerConfig.max_queue,
    show_default=True,
    type=click.IntRange(1),
    help="Requests that wait; further ones get 429.",
)
@click.option(
    "--max-body-bytes",
    default=ServerConfig.max_body_bytes,
    show_default=True,
    type=click.IntRange(1),
    help="Size of a request.",
)
@click.option(
    "--timeout",
    default=ServerConfig.timeout,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds for a request.",
)
@click.option(
    "--grace",
    default=ServerConfig.grace,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to finish requests in when stopped.",
)
@click.option("--truncate", is_flag=True, help="Cut texts that are too long, rather than refuse them.")
@click.option("--log-json", is_flag=True, help="Log JSON objects, a line each.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that encode; all cores by default.")
def serve_command(
    models: tuple[str, ...], indexes: tuple[str, ...], classifiers: tuple[str, ...], threads: int | None,
    **options: Any,
) -> None:  # fmt: skip
    """Serve MODELs (names, folders, Hub ids), indexes with a page to search them at /, and classifiers.

    Without a MODEL, the ones that built the indexes, and the classifiers' own, are served. NAME=MODEL and
    NAME=FOLDER say what clients call it. Answers as OpenAI does at /v1/embeddings, with vectors of unit
    length; classifies at /classify; stops cleanly at Ctrl-C or SIGTERM.
    """
    if not models and not indexes and not classifiers:
        raise click.UsageError(
            "got neither a MODEL nor an --index nor a --classifier, expected at least one to serve"
        )
    from sentenc.serving import bind, create_app, serve
    from sentenc.serving.logs import log_to_stderr

    settings = ServerConfig(**options)
    log_to_stderr(settings.log_json)
    with bind(settings) as listener:
        encoders = _load(models, threads)
        opened = _open(indexes, encoders, threads)
        app = create_app(encoders, opened, settings, classifiers=_fitted(classifiers, threads))
        if settings.api_key is None and not _is_loopback(settings.host):
            click.echo(
                f"warning: {settings.host} can be reached by others, and there is no --api-key", err=True
            )
        # What has been loaded stays: looking through it again and again would hold up requests.
        gc.freeze()
        serve(
            app, settings, listener=listener,
            on_listening=lambda url: click.echo(f"sentenc is listening at {url} (Ctrl-C stops it)"),
        )  # fmt: skip


def _load(models: Iterable[str], threads: int | None) -> "dict[str, Encoder]":
    encoders: dict[str, Encoder] = {}
    for name, model in _distinct(models, "models", "MODEL"):
        encoders[name] = _load_one(model, threads)
    return encoders


def _load_one(model: str, threads: int | None) -> "Encoder":
    return sentenc.load(model) if threads is None else sentenc.load(model, threads=threads)


def _open(indexes: Iterable[str], encoders: "dict[str, Encoder]", threads: int | None) -> "dict[str, Index]":
    """Opens indexes, each with the encoder of its fingerprint: one of ``encoders``, or the one it names."""
    if not indexes:
        return {}
    from sentenc.retrieval import Index
    from sentenc.retrieval.manifest import read_manifest

    known = {encoder.fingerprint(): encoder for encoder in encoders.values()}
    opened: dict[str, Index] = {}
    for name, folder in _distinct(indexes, "indexes", "FOLDER"):
        built = read_manifest(Path(folder).expanduser()).encoder or {}
        encoder = known.get(built.get("fingerprint", ""))
        if encoder is None:
            if not built.get("model"):
                raise click.UsageError(
                    f"{folder} does not say by what it was built: its queries need a MODEL with its fingerprint"
                )
            encoder = _load_one(built["model"], threads)
            known[encoder.fingerprint()] = encoder
        opened[name] = Index.open(folder, encoder)
    return opened


def _fitted(classifiers: Iterable[str], threads: int | None) -> dict[str, Any]:
    if not classifiers:
        return {}
    from sentenc.cli.classify import load_fitted

    return {
        name: load_fitted(str(Path(folder).expanduser()), threads)
        for name, folder in _distinct(classifiers, "classifiers", "FOLDER")
    }


def _distinct(arguments: Iterable[str], what: str, kind: str) -> Iterator[tuple[str, str]]:
    """What clients call each, and where it is; no name twice."""
    names: set[str] = set()
    for argument in arguments:
        name, place = _named(argument)
        if name in names:
            raise click.UsageError(
                f"two {what} are called {name!r}: call one of them something else, NAME={kind}"
            )
        names.add(name)
        yield name, place


def _named(argument: str) -> tuple[str, str]:
    """What clients call a model or an index, and where it is."""
    name, equals, place = argument.partition("=")
    if equals and name and place and not Path(argument).exists():
        return name, place
    path = Path(argument).expanduser()
    # The place of a folder is nobody's business; a Hub id is a name already.
    return (path.resolve().name or argument, argument) if path.is_dir() else (argument, argument)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
