"""Small, fast sentence encoders behind one interface.

    >>> import sentenc
    >>> encoder = sentenc.load("cse-en")
    >>> encoder.encode(["A man is playing a guitar."]).shape
    (1, 480)

Names are imported when they are first used, so ``import sentenc`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sentenc._version import __version__

if TYPE_CHECKING:
    from sentenc.combining import hybrid, pair
    from sentenc.conversion import Conversion, convert
    from sentenc.downstream import SentenceClassifier, SentencePairClassifier, SentencePairRegressor
    from sentenc.encoders.base import Encoder
    from sentenc.encoders.bert.encoder import BertEncoder
    from sentenc.encoders.cse.config import CSEConfig
    from sentenc.encoders.cse.encoder import CSE
    from sentenc.encoders.endpoint import EndpointEncoder
    from sentenc.encoders.hybrid.encoder import HybridEncoder
    from sentenc.encoders.pair import PairEncoder
    from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
    from sentenc.encoders.static.encoder import StaticEncoder
    from sentenc.errors import (
        CacheError,
        CheckpointError,
        CorpusError,
        DataError,
        DataMismatchWarning,
        EndpointError,
        FileFormatError,
        HubError,
        IndexFormatError,
        IndexLockedError,
        IndexMismatchError,
        MissingExtraError,
        MissingVectorError,
        ModelNotFoundError,
        NotBertError,
        NotConvergedWarning,
        NotStaticError,
        PoolingWarning,
        QueueFullError,
        SentencError,
        ServerError,
        ShardError,
        StoppedError,
        TextFileError,
        TextTooLongError,
        TruncationWarning,
    )
    from sentenc.evaluation import Results, Task, evaluate
    from sentenc.registry import available_models, load
    from sentenc.retrieval.index import Index
    from sentenc.retrieval.items import Hit, Item
    from sentenc.shards import encode_files
    from sentenc.training.alignment import Alignment, AlignmentReport, AlignmentSettings, align, align_vectors
    from sentenc.verification import verify

_HOME = {
    "Alignment": "sentenc.training.alignment",
    "AlignmentReport": "sentenc.training.alignment",
    "AlignmentSettings": "sentenc.training.alignment",
    "BertEncoder": "sentenc.encoders.bert.encoder",
    "CSE": "sentenc.encoders.cse.encoder",
    "CSEConfig": "sentenc.encoders.cse.config",
    "CacheError": "sentenc.errors",
    "CheckpointError": "sentenc.errors",
    "Conversion": "sentenc.conversion",
    "CorpusError": "sentenc.errors",
    "DataError": "sentenc.errors",
    "DataMismatchWarning": "sentenc.errors",
    "Encoder": "sentenc.encoders.base",
    "EndpointEncoder": "sentenc.encoders.endpoint",
    "EndpointError": "sentenc.errors",
    "FileFormatError": "sentenc.errors",
    "HubError": "sentenc.errors",
    "Hit": "sentenc.retrieval.items",
    "HybridEncoder": "sentenc.encoders.hybrid.encoder",
    "Index": "sentenc.retrieval.index",
    "IndexFormatError": "sentenc.errors",
    "IndexLockedError": "sentenc.errors",
    "IndexMismatchError": "sentenc.errors",
    "Item": "sentenc.retrieval.items",
    "MissingExtraError": "sentenc.errors",
    "MissingVectorError": "sentenc.errors",
    "ModelNotFoundError": "sentenc.errors",
    "NotBertError": "sentenc.errors",
    "NotStaticError": "sentenc.errors",
    "PoolingWarning": "sentenc.errors",
    "NotConvergedWarning": "sentenc.errors",
    "PairEncoder": "sentenc.encoders.pair",
    "QueueFullError": "sentenc.errors",
    "Results": "sentenc.evaluation",
    "SentencError": "sentenc.errors",
    "SentenceClassifier": "sentenc.downstream",
    "SentencePairClassifier": "sentenc.downstream",
    "SentencePairRegressor": "sentenc.downstream",
    "SentenceTransformerEncoder": "sentenc.encoders.sentence_transformer",
    "ServerError": "sentenc.errors",
    "ShardError": "sentenc.errors",
    "StaticEncoder": "sentenc.encoders.static.encoder",
    "StoppedError": "sentenc.errors",
    "Task": "sentenc.evaluation",
    "TextFileError": "sentenc.errors",
    "TextTooLongError": "sentenc.errors",
    "TruncationWarning": "sentenc.errors",
    "align": "sentenc.training.alignment",
    "align_vectors": "sentenc.training.alignment",
    "available_models": "sentenc.registry",
    "convert": "sentenc.conversion",
    "encode_files": "sentenc.shards",
    "evaluate": "sentenc.evaluation",
    "hybrid": "sentenc.combining",
    "load": "sentenc.registry",
    "pair": "sentenc.combining",
    "verify": "sentenc.verification",
}

__all__ = [
    "CSE",
    "Alignment",
    "AlignmentReport",
    "AlignmentSettings",
    "BertEncoder",
    "CSEConfig",
    "CacheError",
    "CheckpointError",
    "Conversion",
    "CorpusError",
    "DataError",
    "DataMismatchWarning",
    "Encoder",
    "EndpointEncoder",
    "EndpointError",
    "FileFormatError",
    "Hit",
    "HubError",
    "HybridEncoder",
    "Index",
    "IndexFormatError",
    "IndexLockedError",
    "IndexMismatchError",
    "Item",
    "MissingExtraError",
    "MissingVectorError",
    "ModelNotFoundError",
    "NotBertError",
    "NotConvergedWarning",
    "NotStaticError",
    "PairEncoder",
    "PoolingWarning",
    "QueueFullError",
    "Results",
    "SentencError",
    "SentenceClassifier",
    "SentencePairClassifier",
    "SentencePairRegressor",
    "SentenceTransformerEncoder",
    "ServerError",
    "ShardError",
    "StaticEncoder",
    "StoppedError",
    "Task",
    "TextFileError",
    "TextTooLongError",
    "TruncationWarning",
    "__version__",
    "align",
    "align_vectors",
    "available_models",
    "convert",
    "encode_files",
    "evaluate",
    "hybrid",
    "load",
    "pair",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sentenc' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
