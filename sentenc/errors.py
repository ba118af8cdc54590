"""The errors and warnings of the library.

Every error derives from ``SentencError``, so ``except SentencError`` catches all of them. Wrong arguments
raise the built-in ``TypeError`` and ``ValueError``. A second, built-in base class is in parentheses.

- SentencError
    - EndpointError
    - FileFormatError
        - CacheError (ValueError)
        - CheckpointError
            - NotBertError
            - NotStaticError
        - CorpusError (ValueError)
        - DataError (ValueError)
        - IndexFormatError
        - TextFileError (ValueError)
    - HubError
    - IndexLockedError
    - IndexMismatchError
    - MissingExtraError (ImportError)
    - MissingVectorError (KeyError)
    - ModelNotFoundError (FileNotFoundError)
    - ServerError
        - QueueFullError
        - StoppedError
    - ShardError
    - TextTooLongError (ValueError)

The warnings are ``DataMismatchWarning``, ``NotConvergedWarning``, ``PoolingWarning`` and ``TruncationWarning``.
"""

__all__ = [
    "CacheError",
    "CheckpointError",
    "CorpusError",
    "DataError",
    "DataMismatchWarning",
    "EndpointError",
    "FileFormatError",
    "HubError",
    "IndexFormatError",
    "IndexLockedError",
    "IndexMismatchError",
    "MissingExtraError",
    "MissingVectorError",
    "ModelNotFoundError",
    "NotBertError",
    "NotConvergedWarning",
    "NotStaticError",
    "PoolingWarning",
    "QueueFullError",
    "SentencError",
    "ServerError",
    "ShardError",
    "StoppedError",
    "TextFileError",
    "TextTooLongError",
    "TruncationWarning",
]


class SentencError(Exception):
    """Base class of all errors of the library."""


class EndpointError(SentencError):
    """An embedding endpoint cannot be reached, refuses a request, or answers with something else than vectors.

    Args:
        url: The address of the request.
        reason: The failure, as the endpoint or the connection states it.
        status: The status code of HTTP; None if there was no answer.

    Attributes:
        position: Position of the text that the endpoint refused; None if the failure concerns no single text.
    """

    def __init__(self, url: str, reason: str, status: int | None = None) -> None:
        super().__init__(url, reason, status)
        self.url = url
        self.reason = reason
        self.status = status
        self.position: int | None = None
        self._text = ""

    def at(self, position: int, text: str) -> "EndpointError":
        """Returns the error, with the text that it concerns."""
        self.position, self._text = position, text
        return self

    def shift(self, texts: int) -> None:
        """Adds the number of texts before those of the request to the position."""
        if self.position is not None:
            self.position += texts

    def __str__(self) -> str:
        if self.position is None:
            return f"{self.url}: {self.reason}"
        text = self._text if len(self._text) <= 80 else self._text[:77] + "..."
        return f"{self.url}: texts[{self.position}] = {text!r}: {self.reason}"


class FileFormatError(SentencError):
    """A file or folder is incomplete, damaged or of another format; the message has its path."""


class CacheError(FileFormatError, ValueError):
    """A folder of cached vectors or outputs is damaged, or belongs to another model."""


class CheckpointError(FileFormatError):
    """A model, a classifier or the state of a training run is incomplete, damaged or of another version."""


class NotBertError(CheckpointError):
    """A folder contains no BERT, DistilBERT or MPNet with mean or cls pooling; the message has the difference."""


class NotStaticError(CheckpointError):
    """A static model has a tokenizer, a module or a file of a kind that is not supported."""


class CorpusError(FileFormatError, ValueError):
    """A training corpus cannot be read or contains no examples; the message has the file and the line."""


class DataError(FileFormatError, ValueError):
    """A file of evaluation data or results is missing or malformed; the message has the file and the line."""


class IndexFormatError(FileFormatError):
    """An index folder is incomplete, damaged, of another version or not an index at all."""


class TextFileError(FileFormatError, ValueError):
    """A file of texts or records cannot be read; the message has the file and the line."""


class IndexLockedError(SentencError):
    """Another process or object is writing to the index, or has written to it since it was opened."""


class IndexMismatchError(SentencError):
    """The index was built by another encoder than the one that searches it."""


class MissingExtraError(SentencError, ImportError):
    """A feature needs a package that is not installed.

    Args:
        extra: The optional extra that installs the package.
        package: The name of the package.
        feature: What needs it; the message begins with it.
    """

    def __init__(self, extra: str, package: str, feature: str) -> None:
        super().__init__(
            f'{feature} needs the package {package!r}, which is not installed: pip install "sentenc[{extra}]"'
        )
        self.extra = extra
        self.package = package
        self.feature = feature


class MissingVectorError(SentencError, KeyError):
    """A text has no vector in an embedding cache."""

    # KeyError prints the repr of its argument, which here is a sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class HubError(SentencError):
    """A model cannot be written to the Hugging Face Hub."""


class ModelNotFoundError(SentencError, FileNotFoundError):
    """No shipped model, folder or Hub model has the requested name."""

    # FileNotFoundError prints an errno and a text if it has two arguments; here it has one sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ServerError(SentencError):
    """Base class of the errors of the server."""


class QueueFullError(ServerError):
    """The queue of the server has no room for another request.

    Args:
        seconds: The estimated time until there is room.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full for about {seconds} s")
        self.seconds = seconds


class StoppedError(ServerError):
    """The server has stopped and accepts no more requests."""


class ShardError(SentencError):
    """Files cannot be encoded into a folder, or some of them could not be read or encoded.

    Args:
        message: The reason.
        failures: The reason of each file that failed, by its path.
    """

    def __init__(self, message: str, failures: dict[str, str] | None = None) -> None:
        super().__init__(message, failures or {})
        self.failures: dict[str, str] = failures or {}

    def __str__(self) -> str:
        return str(self.args[0])


class TextTooLongError(SentencError, ValueError):
    """A text has more tokens than the encoder uses, and ``on_overflow`` is ``"error"``."""


class DataMismatchWarning(UserWarning):
    """The files of an evaluation task differ from the published ones, so scores may not be comparable."""


class NotConvergedWarning(RuntimeWarning):
    """A solver stopped short of its tolerance; scores may differ in the last digit."""


class PoolingWarning(UserWarning):
    """A model folder states no pooling, so the mean of all hidden states is used."""


class TruncationWarning(UserWarning):
    """Texts were cut to the encoder's ``max_tokens``; issued once per call, with the number of texts."""
