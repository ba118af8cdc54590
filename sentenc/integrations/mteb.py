"""A model of MTEB."""

from typing import Any

from sentenc.encoders.encode_options import Vectors
from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import Embedder, EmbeddingAdapter, Model

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.types import PromptType
except ImportError as error:
    raise MissingExtraError("mteb", "mteb", "an adapter of MTEB") from error


class SentencModel(EmbeddingAdapter, AbsEncoder):  # type: ignore[misc, unused-ignore]
    """A model for ``mteb.evaluate``.

    Queries and documents of a task are encoded as such. Other texts have the prompt whose name is the task or its
    type, if the model has one. Results with other options than the default ones are experiments of MTEB, so that its
    cache keeps them apart.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`.
        name: The name of the model in results, ``"owner/name"``. By default ``"sentenc/"`` and the model's name.
        **options: The other arguments of :class:`EmbeddingAdapter`.
    """

    def __init__(self, model: Model = "cse-en", name: str | None = None, **options: Any) -> None:
        super().__init__(model, **options)
        self.model = self.embedder.encoder
        self.model_prompts = dict(self.model.prompts)
        self.mteb_model_meta = _meta(self.embedder, name, bool(options.get("normalize_embeddings")))

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **options: Any,
    ) -> Vectors:
        """Returns the vectors of the texts of a data loader: shape (n, dim)."""
        texts = [text for batch in inputs for text in batch["text"]]
        if prompt_type == PromptType.query:
            return self.embedder.queries(texts)
        if prompt_type == PromptType.document:
            return self.embedder.documents(texts)
        prompt_name = self.get_prompt_name(task_metadata, None) if self.model_prompts else None
        return self.embedder.texts(texts, prompt_name=prompt_name)


def _meta(embedder: Embedder, name: str | None, normalizes: bool) -> Any:
    encoder = embedder.encoder
    # MTEB returns stored results of the same name, revision and experiment.
    experiment: dict[str, Any] = {}
    if embedder.dim != encoder.similarity_dim:
        experiment["truncate_dim"] = embedder.dim
    if normalizes:
        experiment["normalize_embeddings"] = True
    license_name = encoder.metadata.get("license")
    return ModelMeta(
        loader=None,
        name=name or f"sentenc/{embedder.name.rstrip('/').rpartition('/')[2]}",
        revision=encoder.fingerprint(),
        release_date=None,
        languages=["eng-Latn"] if encoder.metadata.get("language") == "en" else None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=encoder.max_tokens,
        embed_dim=embedder.dim,
        license=license_name.lower() if isinstance(license_name, str) else None,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["NumPy"],
        similarity_fn_name="cosine",
        use_instructions=bool(encoder.prompts),
        training_datasets=None,
        experiment_kwargs=experiment or None,
    )
