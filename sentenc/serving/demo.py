"""The demo's content: a collection that ships in the package, indexed in memory by two encoders."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentenc.checkpoint import read_checkpoint
from sentenc.collections import read_collection
from sentenc.encoders.cse.encoder import CSE
from sentenc.registry import resolve_model

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder
    from sentenc.retrieval import Index

COLLECTION = "factbook"
MODEL = "cse-en"


@dataclass(frozen=True)
class Demo:
    """Encoders and indexes of the demo server, by name.

    Attributes:
        encoders: ``cse-en``, and ``cse-en-words``, the same model without its n-gram path.
        indexes: ``factbook`` and ``factbook-words``, indexes of the same sentences by these encoders.
    """

    encoders: dict[str, "Encoder"]
    indexes: dict[str, "Index"]


def build_demo() -> Demo:
    """Encodes the collection with both encoders, in a second or two.

    It reads the model and the collection from the package, writes no file and opens no connection.
    """
    from sentenc.retrieval import Index

    passages = read_collection(COLLECTION)
    texts = [passage.text for passage in passages]
    payloads = [passage.payload for passage in passages]
    model = CSE.from_checkpoint(read_checkpoint(resolve_model(MODEL)))
    demo = Demo(encoders={MODEL: model, f"{MODEL}-words": model.word_path()}, indexes={})
    for name, encoder in zip((COLLECTION, f"{COLLECTION}-words"), demo.encoders.values(), strict=True):
        index = Index(encoder)
        index.add(texts, payloads=payloads)
        demo.indexes[name] = index
    return demo
