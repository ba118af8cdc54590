"""Alignment: the fit, its texts, the teacher's vectors, the model, and the report."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import sentenc
from sentenc import AlignmentSettings, CacheError, CheckpointError
from sentenc.cli import cli
from sentenc.retrieval.chunking import split_sentences
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.alignment.measuring import common_neighbors
from sentenc.training.alignment.report import AlignmentReport
from sentenc.training.alignment.table import fit_table
from sentenc.training.alignment.texts import choose_texts
from sentenc.training.alignment.tokens import TokenizedTexts
from tests.support.models import WORDS, make_bert, make_cse, wordpiece_spec

SETTINGS = AlignmentSettings(batch_size=16, rounds=20, learning_rate=0.02)


def sentences(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    words = [word for word in WORDS if word.isascii()]
    return list(dict.fromkeys(" ".join(rng.choice(words, rng.integers(3, 9))) for _ in range(n)))


def teacher(**shape):
    return make_cse(**{"widths": (), "embedding_dim": 8} | shape)


def beir_folder(folder):
    (folder / "qrels").mkdir(parents=True)
    documents, queries = sentences(40, seed=1), sentences(20, seed=2)
    for name, texts in (("corpus", documents), ("queries", queries)):
        lines = [json.dumps({"_id": f"{name}{i}", "text": text}) for i, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    lines = [f"queries{i}\tcorpus{i}\t1" for i in range(len(queries))]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines))
    return documents, queries


def test_a_table_finds_the_directions_of_a_bag_of_words():
    """A CSE without n-grams has the very form of the table."""
    result = sentenc.align(teacher(), queries=sentences(600), settings=SETTINGS)
    assert result.report.cosine > 0.99
    assert result.report.n_queries == len(sentences(600)) - result.report.n_held_out
    assert (result.report.overlap, result.report.judged, result.report.n_sentences) == (None, None, 0)


def test_the_model_has_a_part_of_the_constant(monkeypatch):
    model = teacher(bias=True)
    part = sentenc.align(model, queries=sentences(600), settings=SETTINGS)
    monkeypatch.setattr("sentenc.training.alignment.aligning._CONSTANT", 1.0)
    whole = sentenc.align(model, queries=sentences(600), settings=SETTINGS)
    assert whole.report.cosine > max(0.99, part.report.cosine + 0.01)
    ratio = part.encoder.weight("bias") / whole.encoder.weight("bias")
    scale = part.encoder.weight("embeddings").max() / whole.encoder.weight("embeddings").max()
    np.testing.assert_allclose(ratio / scale, 1 / 3, rtol=0.05)


def test_the_constant_is_learned():
    texts = TokenizedTexts(Tokenizer(wordpiece_spec()), sentences(300))
    rng = np.random.default_rng(0)
    rows, constant = rng.normal(size=(texts.vocab_size, 4)), np.array([3.0, 0, 0, 0])
    batch = texts.batch(np.arange(len(texts)))
    targets = batch.counts @ rows[batch.tokens] + constant
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    table = fit_table(texts, targets, SETTINGS)
    fitted = batch.counts @ table.rows[batch.tokens] + table.constant
    fitted /= np.linalg.norm(fitted, axis=1, keepdims=True)
    assert (fitted * targets).sum(1).mean() > 0.99
    unseen = np.setdiff1d(np.arange(texts.vocab_size), batch.tokens)
    assert not table.rows[unseen].any()


def test_token_counts_are_those_of_the_texts():
    tokenizer = Tokenizer(wordpiece_spec())
    texts = TokenizedTexts(tokenizer, ["dog cat dog dog dog", "\u2603", "cat"])
    ids = [tokenizer.vocabulary[word] for word in ("dog", "cat")]
    tokens, counts = texts.batch(np.array([0, 1, 2]))
    assert dict(zip(tokens.tolist(), counts.T.tolist(), strict=True)) == {
        ids[0]: [4, 0, 0],
        ids[1]: [1, 0, 1],
    }


def test_texts_without_tokens_are_left_out_and_some_are_needed():
    tokenizer = Tokenizer(wordpiece_spec())
    texts = TokenizedTexts(tokenizer, ["\u2603", "dog"])
    targets = np.eye(2, dtype=np.float32)
    assert fit_table(texts, targets, AlignmentSettings()).rows.any()
    with pytest.raises(ValueError, match="none of 1 texts has a token"):
        fit_table(TokenizedTexts(tokenizer, ["\u2603"]), targets[:1], AlignmentSettings())


def test_the_model_is_in_the_space_of_its_teacher(tmp_path):
    model = teacher()
    documents = sentences(60, seed=3)
    result = sentenc.align(model, queries=sentences(300), corpus=documents, settings=SETTINGS, name="fast")
    assert result.encoder.space == model.space
    assert result.encoder.tokenizer.spec == model.tokenizer.spec
    assert result.report.n_documents == len(documents)
    assert result.encoder.metadata["hybrid_alpha"] == result.report.alpha
    result.encoder.save(tmp_path / "fast")
    loaded = sentenc.load(tmp_path / "fast")
    assert loaded.space == model.space
    assert loaded.metadata["alignment"]["cosine"] == pytest.approx(result.report.cosine, abs=1e-4)
    np.testing.assert_array_equal(loaded.encode(documents), result.encoder.encode(documents))
    assert "# fast" in loaded.card
    assert f"{result.report.cosine:.3f}" in loaded.card
    # Its int8 rows have the directions of the teacher's vectors.
    assert np.diag(model.similarity(documents, loaded.encode(documents))).mean() > 0.98


def test_sentences_of_the_collection_serve_as_queries():
    documents = [
        f"{a.capitalize()}. {b.capitalize()}!" for a, b in zip(*[iter(sentences(200))] * 2, strict=True)
    ]
    result = sentenc.align(teacher(), corpus=documents, settings=SETTINGS)
    assert (result.report.n_queries, result.report.n_documents) == (0, len(documents))
    assert result.report.n_sentences == pytest.approx(2 * len(documents) * 0.9, rel=0.1)
    assert "there were no queries" in result.report.warnings[-1]


def test_held_out_and_excluded_texts_are_not_trained_on():
    queries = sentences(300)
    texts = choose_texts(
        [*queries, *queries, " "], [], AlignmentSettings(max_texts=100), excluded=queries[:50]
    )
    chosen = [*texts.training, *texts.held_out]
    assert len(chosen) == len(set(chosen)) == 100
    assert not set(chosen).intersection(queries[:50])
    assert len(texts.held_out) == 10
    assert choose_texts(queries, [], AlignmentSettings(seed=1)).held_out != texts.held_out


def test_queries_leave_room_for_sentences_of_the_collection():
    settings = AlignmentSettings(max_texts=100, max_sentences=30)
    texts = choose_texts(sentences(300), sentences(200, seed=5), settings)
    # The texts kept out are queries.
    assert (texts.are_queries.sum(), (~texts.are_queries).sum()) == (63, 30)
    assert len(texts.are_queries) == len(texts.training)


@pytest.mark.parametrize(("n_queries", "numbers"), [(300, (45, 50)), (20, (18, 80))])
def test_many_sentences_leave_at_least_half_of_the_texts_to_queries(n_queries, numbers):
    settings = AlignmentSettings(max_texts=100)
    texts = choose_texts(sentences(n_queries), sentences(200, seed=5), settings)
    assert (texts.are_queries.sum(), (~texts.are_queries).sum()) == numbers


def test_too_few_texts_are_an_error():
    with pytest.raises(ValueError, match=r"there are 2 queries and 0 sentences .* expected at least 20"):
        sentenc.align(teacher(), queries=["dog", "cat"])


def test_sentences_end_at_punctuation_and_paragraphs():
    assert split_sentences("One dog. Two cats!\n\nA line\n\n") == ["One dog.", "Two cats!", "A line"]
    assert split_sentences(" \n ") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"max_minutes": -1}, "max_minutes is -1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        AlignmentSettings(**options)


def test_queries_and_documents_have_the_teachers_prompts(tmp_path, monkeypatch):
    """The vectors of queries are those with the prompt, and each role has a cache of its own."""
    # The prompt adds the same to every text, so it is in the constant.
    monkeypatch.setattr("sentenc.training.alignment.aligning._CONSTANT", 1.0)
    model = teacher()
    model.metadata = {"prompts": {"query": "dog dog dog dog "}}
    queries, documents = sentences(200), sentences(50, seed=4)
    result = sentenc.align(model, queries=queries, corpus=documents, cache=tmp_path, settings=SETTINGS)
    vectors = result.encoder.encode(queries[:40])
    with_prompt = np.diag(model.similarity(model.encode_query(queries[:40]), vectors)).mean()
    without = np.diag(model.similarity(model.encode(queries[:40]), vectors)).mean()
    assert with_prompt > max(0.97, without + 0.03)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["document", "query"]


def test_a_stopped_run_continues_from_the_cache(tmp_path, monkeypatch):
    model = teacher()
    queries = sentences(300)
    whole = sentenc.align(model, queries=queries, cache=tmp_path, settings=SETTINGS)
    encoded = []
    encode = model.encode
    monkeypatch.setattr(
        model, "encode", lambda texts, **options: encoded.append(texts) or encode(texts, **options)
    )
    again = sentenc.align(model, queries=queries, cache=tmp_path, settings=SETTINGS)
    assert encoded == []
    assert again.encoder.fingerprint() == whole.encoder.fingerprint()
    with pytest.raises(CacheError, match="another encoder"):
        sentenc.align(make_cse(), queries=queries, cache=tmp_path, settings=SETTINGS)


def test_a_dimension_is_a_truncation_with_a_space_of_its_own():
    model = teacher()
    result = sentenc.align(model, queries=sentences(300), dim=3, settings=SETTINGS)
    assert (result.encoder.dim, result.report.dim) == (3, 3)
    assert result.encoder.space == f"{model.space}[:3]"
    assert result.report.cosine > 0.98
    with pytest.raises(ValueError, match="dim is 9, expected an integer from 1 to 8"):
        sentenc.align(model, queries=sentences(300), dim=9)


def test_only_the_sentence_vectors_of_the_teacher_are_learned():
    model = teacher(combine="both", widths=(2,), num_filters=3, average_dim=2)
    result = sentenc.align(model, queries=sentences(300), settings=SETTINGS)
    assert (model.dim, result.encoder.dim) == (13, 8)


def test_a_transformer_gives_its_tokenizer():
    model = make_bert()
    result = sentenc.align(model, queries=sentences(100), settings=SETTINGS)
    assert result.report.tokenizer == "teacher"
    assert result.encoder.tokenizer.vocabulary == model.tokenizer.vocabulary
    assert result.encoder.space == model.space
    # An unknown word has no row.
    assert not result.encoder.encode("\u2603").any()


def test_judgments_appear_in_the_report(tmp_path):
    documents, queries = beir_folder(tmp_path)
    model = teacher()
    result = sentenc.align(model, queries=sentences(300) + queries, data=tmp_path, settings=SETTINGS)
    judged = result.report.judged
    assert list(judged) == ["teacher", "aligned", "lexical", "hybrid"]
    # The teacher has the form of the table, so both rank alike.
    assert judged["aligned"] == pytest.approx(judged["teacher"], abs=10)
    assert result.report.n_documents == len(documents)
    assert "queries by the model" in result.report.to_text()
    assert "weight chosen on these judgments" in result.report.to_text()
    assert "weight chosen on these judgments" in result.encoder.card


def test_neighbors_in_common():
    documents = np.eye(20, dtype=np.float32)
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(5, 20)).astype(np.float32)
    assert common_neighbors(queries, queries, documents) == 1
    assert common_neighbors(queries, -queries, documents) == 0
    assert common_neighbors(queries, -queries, documents[:3]) == 1


def report(**changes) -> AlignmentReport:
    values = {
        "dim": 4, "n_queries": 1000, "n_sentences": 100, "n_vectors": 0, "n_held_out": 10, "n_documents": 50, "cosine": 0.9,
        "overlap": 0.6, "alpha": 0.4, "judged": None, "tokenizer": "teacher", "seconds": 1.0,
    }  # fmt: skip
    return AlignmentReport(**values | changes)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({}, None),
        ({"overlap": 0.3}, "more queries would raise it: 1,100 texts"),
        ({"overlap": 0.3, "n_sentences": 0}, "--corpus"),
        ({"overlap": 0.3, "n_queries": 0}, "--queries"),
        ({"overlap": 0.3, "n_queries": 200_000}, "rerank with the teacher"),
    ],
)
def test_a_poor_overlap_is_stated_with_its_remedy(changes, remedy):
    warnings = report(**changes).warnings
    assert (remedy in warnings[0]) if remedy else (warnings == [])
    assert all(f"warning: {warning}" in report(**changes).to_text() for warning in warnings)


def test_the_command_writes_a_model_and_prints_the_report(tmp_path):
    teacher().save(tmp_path / "teacher")
    (tmp_path / "queries.txt").write_text("\n".join(sentences(300)))
    beir_folder(tmp_path / "data")
    arguments = ["align", str(tmp_path / "teacher"), "-o", str(tmp_path / "fast"), "--rounds", "8"]
    run = CliRunner().invoke(
        cli, [*arguments, "--queries", str(tmp_path / "queries.txt"), "--data", str(tmp_path / "data"), "-q"]
    )
    assert run.exit_code == 0, run.output
    assert "mean cosine to the teacher" in run.output
    assert "nDCG@10, queries by the model" in run.output
    assert sentenc.load(tmp_path / "fast").space == sentenc.load(tmp_path / "teacher").space
    assert (tmp_path / "fast-vectors").is_dir()


def index_of(model, documents):
    index = sentenc.Index(model)
    index.add(documents)
    return index


def test_vectors_of_an_index_are_enough():
    model, documents = teacher(), sentences(400)
    result = sentenc.align_vectors(index_of(model, documents), space=model.space)
    assert result.encoder.space == model.space
    assert (result.report.n_vectors, result.report.n_held_out) == (360, 40)
    assert "the quality on queries is unknown" in result.report.warnings[0]
    queries = sentences(30, seed=9)
    nearest = model.similarity(queries, documents).argsort(axis=1)[:, -10:]
    nearest_by_table = model.similarity(result.encoder.encode(queries), documents).argsort(axis=1)[:, -10:]
    common = [len(np.intersect1d(a, b)) for a, b in zip(nearest, nearest_by_table, strict=True)]
    assert np.mean(common) > 5


def test_vectors_of_unknown_origin_have_a_space_of_their_own(tmp_path):
    model, documents = teacher(), sentences(100)
    index = sentenc.Index(dim=8)
    index.add(documents, vectors=model.encode(documents))
    space = sentenc.align_vectors(index).encoder.space
    assert space.startswith("vectors-")
    assert sentenc.align_vectors(index).encoder.space == space
    index.add(documents[:1], vectors=model.encode(documents[:1]))
    assert sentenc.align_vectors(index_of(model, documents)).encoder.space == model.space


def test_an_index_states_language_and_weight_of_its_vectors():
    model = teacher()
    model.metadata = {"language": "en", "hybrid_alpha": 0.7}
    metadata = sentenc.align_vectors(index_of(model, sentences(100))).encoder.metadata
    assert (metadata["language"], metadata["hybrid_alpha"]) == ("en", 0.7)


def test_judgments_need_the_vectors_of_their_documents(tmp_path):
    documents, _ = beir_folder(tmp_path)
    model = teacher()
    result = sentenc.align_vectors(index_of(model, documents + sentences(200)), data=tmp_path)
    assert list(result.report.judged) == ["aligned", "lexical", "hybrid"]
    assert result.encoder.metadata["hybrid_alpha"] == result.report.alpha
    with pytest.raises(ValueError, match=r"1 of 40 documents of .* have no vector"):
        sentenc.align_vectors(index_of(model, documents[1:]), data=tmp_path)


def test_few_vectors_are_an_error():
    with pytest.raises(ValueError, match="there are 3 texts with vectors, expected at least 20"):
        sentenc.align_vectors(index_of(teacher(), sentences(3)))


def test_the_command_aligns_to_an_index_and_to_a_file(tmp_path):
    model, documents = teacher(), sentences(100)
    model.save(tmp_path / "teacher")
    index = sentenc.Index(str(tmp_path / "teacher"))
    index.add(documents)
    index.save(tmp_path / "index")
    vectors = model.encode(documents)
    np.savez(tmp_path / "table.npz", texts=np.array(documents), embeddings=vectors)
    for source in ("index", "table.npz"):
        run = CliRunner().invoke(cli, ["align", str(tmp_path / source), "-o", str(tmp_path / "fast"), "-q"])
        assert run.exit_code == 0, run.output
        assert "90 documents with their vectors" in run.output
        if source == "index":
            assert sentenc.load(tmp_path / "fast").space == model.space
            index.set_query_encoder(str(tmp_path / "fast"))
            assert len(index.search("dog cat", mode="vector")) == 10
    run = CliRunner().invoke(
        cli, ["align", str(tmp_path / "index"), "-o", str(tmp_path / "fast"), "--dim", "3"]
    )
    assert (run.exit_code, "--dim applies to a teacher" in run.output) == (2, True)


def test_a_wide_space_has_rows_of_fewer_components(monkeypatch):
    monkeypatch.setattr("sentenc.training.alignment.low_rank.WIDEST_FULL_ROWS", 64)
    model = teacher(embedding_dim=100)
    weights = {name: model.weight(name) for name in model.config.shapes()}
    weights["embeddings"][:, 20:] = 0
    flat = sentenc.CSE(model.config, weights, model.tokenizer, tables="float32")
    result = sentenc.align(flat, queries=sentences(600), settings=SETTINGS)
    assert (result.encoder.dim, result.encoder.config.embedding_dim) == (100, 64)
    assert result.report.cosine > 0.97


def test_the_command_states_both_numbers_of_rounds():
    run = CliRunner().invoke(cli, ["align", "--help"])
    assert "by default 6, and 10 for VECTORS" in " ".join(run.output.split())


def test_the_command_refuses_a_foreign_folder_and_missing_texts(tmp_path):
    teacher().save(tmp_path / "teacher")
    arguments = ["align", str(tmp_path / "teacher"), "-o", str(tmp_path / "fast")]
    run = CliRunner().invoke(cli, arguments)
    assert (run.exit_code, "there are no texts" in run.output) == (2, True)
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "notes.txt").write_text("mine")
    run = CliRunner().invoke(cli, [*arguments, "--queries", str(tmp_path / "fast" / "notes.txt")])
    assert run.exit_code == 1
    assert "contains other files" in run.output
    with pytest.raises(CheckpointError):
        sentenc.load(tmp_path / "fast")
