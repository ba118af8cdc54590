"""The commands ``sentenc models``, ``info`` and ``verify``: list, describe and check models."""

import json
import math
from typing import Any

import click

import sentenc
from sentenc.checkpoint import is_checkpoint, read_checkpoint
from sentenc.errors import CheckpointError
from sentenc.registry import resolve_model


@click.command("models")
def models_command() -> None:
    """List the models that ship with the package."""
    for name in sentenc.available_models():
        summary = read_checkpoint(resolve_model(name)).metadata.get("summary", "")
        click.echo(f"{name:16} {summary}".rstrip())


@click.command("info")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(model: str, as_json: bool) -> None:
    """Describe a model: dimensions, size, configuration, sources and scores."""
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
                f"{folder} is neither a model folder of sentenc nor one of a BERT: {error}"
            ) from error
        kind, config, metadata = "tinybert", encoder.config.to_dict(), encoder.metadata
    content = {
        "folder": str(folder),
        "kind": kind,
        "dim": encoder.dim,
        "max_tokens": encoder.max_tokens,
        "megabytes": round(sum(p.stat().st_size for p in folder.iterdir() if p.is_file()) / 1e6, 2),
        "parameters": sum(math.prod(shape) for shape in encoder.config.shapes().values()),
        "fingerprint": encoder.fingerprint(),
        "config": config,
        "metadata": metadata,
    }
    if as_json:
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    for key, value in content.items():
        if isinstance(value, dict):
            click.echo(f"{key}:")
            for inner, item in value.items():
                click.echo(
                    f"  {inner}: {item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)}"
                )
        else:
            click.echo(f"{key}: {value}")


@click.command("verify")
@click.argument("model")
def verify_command(model: str) -> None:
    """Check the file hashes, weight shapes and golden (reference) vectors of a model folder."""
    result = sentenc.verify(model)
    click.echo(f"ok: {result.texts} golden texts, largest difference {result.max_difference:.1e}")
