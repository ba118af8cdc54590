"""A backend of KeyBERT."""

from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import TopicAdapter

try:
    from keybert.backend import BaseEmbedder
except ImportError as error:
    raise MissingExtraError("keybert", "keybert", "an adapter of KeyBERT") from error


class SentencBackend(TopicAdapter, BaseEmbedder):  # type: ignore[misc, unused-ignore]
    """Embeds documents and words for KeyBERT, with the arguments of :class:`TopicAdapter`."""
