"""The commands ``sentenc models``, ``info`` and ``verify``: list, describe and check models."""

import json
import math
import platform
from pathlib import Path
from typing import Any

import click

import sentenc
from sentenc.checkpoint import PAIR, is_checkpoint, read_checkpoint
from sentenc.errors import CheckpointError
from sentenc.installed import installed_versions
from sentenc.registry import resolve_model
from sentenc.threads import core_limit

_PACKAGES = ("numpy", "safetensors", "onnxruntime", "tokenizers", "torch", "sentence-transformers")


@click.command("models")
def models_command() -> None:
    """List the models that ship with the package."""
    for name in sentenc.available_models():
        summary = read_checkpoint(resolve_model(name)).metadata.get("summary", "")
        click.echo(f"{name:16} {summary}".rstrip())


@click.command("info")
@click.argument("model", required=False)
@click.option("--system", is_flag=True, help="Describe the installation instead of a model.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(model: str | None, system: bool, as_json: bool) -> None:
    """Describe a model: dimensions, size, configuration, sources and scores.

    With --system: versions, platform, the instruction set (SIMD) that the kernels use, the number of threads
    and the setting that determines it, and the folder of the shipped models.
    """
    if (model is None) != system:
        raise click.UsageError("expected either MODEL or --system")
    content = _system() if model is None else _description(model)
    if as_json:
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    for key, value in content.items():
        if isinstance(value, dict):
            click.echo(f"{key}:")
            for inner, item in value.items():
                click.echo(f"  {inner}: {_shown(item)}")
        else:
            click.echo(f"{key}: {_shown(value)}")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _system() -> dict[str, Any]:
    from sentenc.kernels.library import available_simd_levels, simd_level

    limit = core_limit()
    return {
        "sentenc": sentenc.__version__,
        "folder": str(Path(sentenc.__file__).parent),
        "versions": {"python": platform.python_version(), **installed_versions(_PACKAGES)},
        "platform": platform.platform(),
        "simd": simd_level(),
        "available_simd": available_simd_levels(),
        "threads": limit.number,
        "threads_by": limit.reason,
        "models": {name: str(resolve_model(name)) for name in sentenc.available_models()},
    }


def _description(model: str) -> dict[str, Any]:
    from sentenc.encoders.pair import PairEncoder
    from sentenc.encoders.static.encoder import StaticEncoder

    folder = resolve_model(model)
    encoder: Any
    if is_checkpoint(folder):
        checkpoint = read_checkpoint(folder)
        encoder = sentenc.load(model)
        kind, config, metadata = checkpoint.kind, checkpoint.config, checkpoint.metadata
    else:
        try:
            encoder = sentenc.load(folder, backend="onnx")
        except CheckpointError as error:
            raise click.ClickException(
                f"{folder} is neither a model folder of sentenc, nor one of a BERT or a static model: {error}"
            ) from error
        kinds: dict[type, str] = {sentenc.CSE: "cse", StaticEncoder: "static", PairEncoder: PAIR}
        kind, metadata = kinds.get(type(encoder), "tinybert"), encoder.metadata
        is_pair = isinstance(encoder, PairEncoder)
        config = {name: {} for name in encoder.halves} if is_pair else encoder.config.to_dict()
    if isinstance(encoder, PairEncoder):
        config = {
            name: {
                "class": type(half.encoder).__name__,
                "parameters": _parameters(half.encoder),
                **config[name],
            }
            for name, half in encoder.halves.items()
        }
    return {
        "folder": str(folder),
        "kind": kind,
        "dim": encoder.dim,
        "max_tokens": encoder.max_tokens,
        "megabytes": round(
            sum(p.stat().st_size for p in (folder, *folder.rglob("*")) if p.is_file()) / 1e6, 2
        ),
        "parameters": _parameters(encoder),
        "fingerprint": encoder.fingerprint(),
        "space": encoder.space,
        "config": config,
        "metadata": metadata,
    }


def _parameters(encoder: Any) -> int | None:
    """Returns the number of parameters, or None if they are not known."""
    from sentenc.encoders.pair import PairEncoder

    if isinstance(encoder, PairEncoder):
        numbers = [_parameters(half) for half in (encoder.documents, encoder.queries)]
        return sum(number or 0 for number in numbers)
    if isinstance(encoder, sentenc.HybridEncoder):
        return _parameters(encoder.encoder)
    config = getattr(encoder, "config", None)
    return None if config is None else sum(math.prod(shape) for shape in config.shapes().values())


@click.command("verify")
@click.argument("model")
def verify_command(model: str) -> None:
    """Check the file hashes, weight shapes and golden (reference) vectors of a model folder."""
    result = sentenc.verify(model)
    click.echo(f"ok: {result.texts} golden texts, largest difference {result.max_difference:.1e}")
