"""Model cards of the Hugging Face Hub: the YAML at the head of ``README.md``, from the metadata of a model."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
from sentenc.errors import MissingExtraError

#: The form of an id of the Hub, "owner/name".
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_STS_TASK = ("semantic-similarity", "Semantic similarity")
_CLASSIFICATION_TASK = ("text-classification", "Text classification")
_SPEARMAN = ("spearman_cosine", "Spearman correlation of the cosine, times 100")
_ACCURACY = ("accuracy", "Accuracy of a logistic regression on frozen vectors, times 100")
_PEARSON = ("pearson", "Pearson correlation of a regression on frozen vectors, times 100")
# Of each known score: the data set, its part, the task and the metric.
_SCORES = {
    **{f"STS{year}": (f"mteb/sts{year}-sts", "test", _STS_TASK, _SPEARMAN) for year in range(12, 17)},
    "STS-B": ("mteb/stsbenchmark-sts", "test", _STS_TASK, _SPEARMAN),
    "STS-B-dev": ("mteb/stsbenchmark-sts", "validation", _STS_TASK, _SPEARMAN),
    "SICK-R": ("mteb/sickr-sts", "test", _STS_TASK, _SPEARMAN),
    **{
        name: ("senteval", "test", _CLASSIFICATION_TASK, _ACCURACY)
        for name in ("MR", "CR", "SUBJ", "MPQA", "SST2", "SST5", "TREC", "MRPC", "SICK-E")
    },
    "STS-B-supervised": ("mteb/stsbenchmark-sts", "test", _STS_TASK, _PEARSON),
    "SICK-R-supervised": ("mteb/sickr-sts", "test", _STS_TASK, _PEARSON),
}


def hub_card(
    encoder: Encoder, repo_id: str, written: str = "", given: Mapping[str, Any] | None = None
) -> str:
    """Returns the card of a model with the front matter that the Hub reads.

    The values come from ``given``, from the front matter that the card already has, and from the metadata of the
    model, in this order of precedence.

    Args:
        encoder: The model. Its metadata may have ``license``, ``language``, ``base_model`` or ``teacher``,
            ``datasets`` and ``scores``. ``datasets`` are ids of the Hub.
        repo_id: The repository, ``"owner/name"``.
        written: The card that the model has, Markdown.
        given: Values of the front matter, such as ``license``, ``language``, ``base_model`` and ``datasets``.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import ModelCard, ModelCardData
        from huggingface_hub.utils import yaml_dump
    except ImportError as error:
        raise MissingExtraError("hub", "huggingface_hub", "a model card") from error
    card = ModelCard(written) if written.startswith("---\n") else None
    stated = {} if card is None else {k: v for k, v in card.data.to_dict().items() if v is not None}
    body = (written if card is None else card.text).lstrip("\n")
    values = _from_metadata(encoder, repo_id.rpartition("/")[2])
    # The Hub reads results only together with a name, so they are replaced together.
    index = stated.pop("model-index", None)
    values |= stated | {key: value for key, value in (given or {}).items() if value is not None}
    data = ModelCardData(**{key: value for key, value in values.items() if value})
    front = data.to_dict()
    if index is not None:
        front["model-index"] = index
    return f"---\n{yaml_dump(front)}---\n\n{body or _default_body(encoder, repo_id)}"


def _from_metadata(encoder: Encoder, name: str) -> dict[str, Any]:
    metadata = encoder.metadata
    license_name = metadata.get("license")
    tags = ["sentence-similarity", "feature-extraction", "sentence-embeddings"]
    if isinstance(encoder, BertEncoder | SentenceTransformerEncoder):
        tags.append("sentence-transformers")
    results = _results(metadata.get("scores"))
    return {
        "language": metadata.get("language"),
        "license": license_name.lower() if isinstance(license_name, str) else None,
        "library_name": "sentenc",
        "pipeline_tag": "sentence-similarity",
        "tags": tags,
        "base_model": _ids(metadata.get("base_model") or metadata.get("teacher")),
        "datasets": _ids(metadata.get("datasets")),
        "metrics": sorted({result.metric_type for result in results}),
        "model_name": name,
        "eval_results": results,
    }


def _ids(value: Any) -> list[str]:
    """Returns the ids of the Hub, "owner/name", among the words of texts; a path to a folder here is none."""
    if isinstance(value, Mapping):
        value = list(value.values())
    texts = [
        text for text in (value if isinstance(value, list | tuple) else [value]) if isinstance(text, str)
    ]
    words = [word.strip(",;()") for text in texts for word in text.split()]
    ids = [word for word in words if HUB_ID.fullmatch(word) and not Path(word.partition("/")[0]).exists()]
    return list(dict.fromkeys(ids))


def _results(scores: Any) -> list[Any]:
    from huggingface_hub import EvalResult

    results = []
    for name, value in scores.items() if isinstance(scores, Mapping) else ():
        # Means of several tasks have no data set.
        if name not in _SCORES or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        dataset, split, (task, task_name), (metric, metric_name) = _SCORES[name]
        results.append(
            EvalResult(
                task_type=task, task_name=task_name, dataset_type=dataset, dataset_name=name.removesuffix("-supervised"),
                dataset_config=name if dataset == "senteval" else None, dataset_split=split,
                metric_type=metric, metric_name=metric_name, metric_value=value,
            )
        )  # fmt: skip
    return results


def _default_body(encoder: Encoder, repo_id: str) -> str:
    summary = encoder.metadata.get("summary")
    lines = [f"# {repo_id.rpartition('/')[2]}", ""]
    lines += [f"{summary}.", ""] if isinstance(summary, str) else []
    lines += [
        f"A sentence encoder of [sentenc](https://pypi.org/project/sentenc/) with {encoder.dim} dimensions.",
        "",
        "```python",
        "import sentenc",
        "",
        f'encoder = sentenc.load("{repo_id}")',
        'vectors = encoder.encode(["one text", "another text"])',
        "```",
        "",
    ]
    return "\n".join(lines)
