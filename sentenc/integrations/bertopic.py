"""A backend of BERTopic."""

from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import TopicAdapter

try:
    from bertopic.backend import BaseEmbedder
except ImportError as error:
    raise MissingExtraError("bertopic", "bertopic", "an adapter of BERTopic") from error


class SentencBackend(TopicAdapter, BaseEmbedder):  # type: ignore[misc, unused-ignore]
    """Embeds documents and words for BERTopic, with the arguments of :class:`TopicAdapter`."""
