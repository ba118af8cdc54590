"""Everything sentenc raises of its own: one tree, so that ``except SentencError`` catches it all."""

__all__ = [
    "CheckpointError",
    "CorpusError",
    "DataError",
    "DataMismatchWarning",
    "IndexFormatError",
    "IndexLockedError",
    "IndexMismatchError",
    "MissingExtraError",
    "ModelNotFoundError",
    "NotBertError",
    "SentencError",
    "TextFileError",
    "TextTooLongError",
    "TruncationWarning",
]


class SentencError(Exception):
    """Base class of the library's own errors."""


class CheckpointError(SentencError):
    """A model folder is incomplete, damaged, of another version, or not a model folder at all."""


class NotBertError(CheckpointError):
    """A model folder holds no BERT with mean pooling; the message says in what it differs."""


class CorpusError(SentencError, ValueError):
    """A corpus for training cannot be read, or holds nothing to train on; with file and line if there is one."""


class DataError(SentencError, ValueError):
    """A file of an evaluation task is missing or malformed; the message contains its path and line."""


class IndexFormatError(SentencError):
    """An index folder is incomplete, damaged, of another version, or not an index at all."""


class IndexLockedError(SentencError):
    """Another process or object is writing to the index, or has written since this one was opened."""


class IndexMismatchError(SentencError):
    """An index was built by another encoder than the one that is to search it."""


class ModelNotFoundError(SentencError, FileNotFoundError):
    """No shipped model, folder or Hub model goes by the name that was asked for."""

    # FileNotFoundError prints an errno pair when it has two arguments; ours has one sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class MissingExtraError(SentencError, ImportError):
    """A feature needs packages of an optional extra that are not installed."""

    def __init__(self, extra: str, package: str, feature: str) -> None:
        super().__init__(
            f'{feature} needs the package {package!r}, which is not installed: pip install "sentenc[{extra}]"'
        )
        self.extra = extra
        self.package = package
        self.feature = feature


class TextFileError(SentencError, ValueError):
    """A file of texts cannot be read; the message has the file, the line and what was expected."""


class TextTooLongError(SentencError, ValueError):
    """A text has more tokens than the encoder takes, and ``on_overflow="error"`` was asked for."""


class TruncationWarning(UserWarning):
    """Texts were cut to the encoder's ``max_tokens`` (once a call, with the count and the longest)."""


class DataMismatchWarning(UserWarning):
    """The files of an evaluation task differ from the published ones: its score may not be comparable."""
