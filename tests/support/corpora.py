"""Corpora of small files, for the tests of training data."""

from sentenc.training.data.corpus import Corpus, Source


def written(folder, name, content):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def in_order(path, form="sentences", *, fields=(), options=None, **source):
    files = [path] if isinstance(path, str) else path
    corpus = Corpus(
        [Source(files=files, form=form, fields=fields, **source)],
        **{"shuffle_buffer": 1, **(options or {})},
    )
    return corpus, list(corpus.epoch(0, 0))
