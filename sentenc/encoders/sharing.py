"""The methods of every encoder that hand it to other libraries. Their work is done by ``sentenc.integrations``."""

import os
from typing import Any, cast


class Sharing:
    """Base class of :class:`~sentenc.Encoder` with the methods that hand it to other libraries."""

    def to_sentence_transformers(self, *, truncate_dim: int | None = None) -> Any:
        """Returns a ``SentenceTransformer`` that encodes with this encoder, for its evaluators and functions.

        Its ``encode_query`` and ``encode_document`` use the prompts of this encoder, and of a pair, the encoder of
        the role. It cannot be trained. ``model.save(folder)`` writes a folder that
        ``SentenceTransformer(folder, trust_remote_code=True)`` loads where sentenc is installed, and that
        :func:`sentenc.load` loads as well.

        Args:
            truncate_dim: The number of components of its vectors. By default ``similarity_dim``, because its
                similarities compare all components.

        Raises:
            MissingExtraError: sentence-transformers 5.4 or later is not installed.
            ValueError: ``truncate_dim`` is out of range.
        """
        from sentenc.integrations.sentence_transformers import as_sentence_transformer

        return as_sentence_transformer(cast(Any, self), truncate_dim)

    def save_sentence_transformers(self, folder: str | os.PathLike[str]) -> bool:
        """Writes a folder that sentence-transformers loads. It needs neither sentence-transformers nor PyTorch.

        A CSE of words alone is written as a stock ``StaticEmbedding``, and a BERT as a stock transformer. Both load
        anywhere without sentenc. Any other encoder is written in its own format with a module of sentenc:
        ``SentenceTransformer(folder, trust_remote_code=True)`` loads it where sentenc is installed.

        A ``StaticEmbedding`` keeps the directions of the vectors, so every cosine. It loses their lengths (it scales
        them to 1), ``max_tokens`` (it has no limit) and the speed of the C library. It reads the name of a special
        token in a text, such as ``[SEP]``, as this token.

        Args:
            folder: The folder to write. An older folder of sentence-transformers is replaced completely or not at
                all.

        Returns:
            Whether the folder loads without sentenc.

        Raises:
            CheckpointError: ``folder`` exists and contains something else.
        """
        from sentenc.integrations.sentence_transformers_folder import write_folder

        return write_folder(cast(Any, self), folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        license: str | None = None,
        language: str | list[str] | None = None,
        base_model: str | list[str] | None = None,
        datasets: str | list[str] | None = None,
    ) -> str:
        """Uploads the model to the Hugging Face Hub (extra ``hub``). :func:`sentenc.load` reads it by ``repo_id``.

        The model card gets the YAML that the Hub reads: license, language, base model, data sets and scores, from
        the metadata of the model. The last four arguments replace these values.

        Args:
            repo_id: The repository, ``"owner/name"``. It is made if it does not exist.
            private: Whether a new repository is private. By default as the owner has set it.
            token: An access token. By default that of ``hf auth login`` or the variable ``HF_TOKEN``.
            revision: The branch to write to, by default ``main``.
            create_pr: Open a pull request instead of writing to the branch.
            commit_message: The message of the commit.
            license: The license, such as ``"apache-2.0"``.
            language: The code of the language, such as ``"en"``, or several.
            base_model: The id of the model that this one was made from, or several.
            datasets: The id of the data set that it was trained on, or several.

        Returns:
            The address of the commit or of the pull request.

        Raises:
            HubError: The upload failed.
            MissingExtraError: huggingface_hub is not installed.
            ValueError: ``repo_id`` is not of the form owner/name.
        """
        from sentenc.integrations.hub import push

        return push(
            cast(Any, self), repo_id, private=private, token=token, revision=revision, create_pr=create_pr,
            commit_message=commit_message, license=license, language=language, base_model=base_model,
            datasets=datasets,
        )  # fmt: skip
