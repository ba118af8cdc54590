"""``sentenc train`` for a small BERT: from the teacher's layers to the model folder."""

import json

import numpy as np
import pytest

from tests.support.models import WORDS, make_sentence_transformer

pytest.importorskip("sentence_transformers")
torch = pytest.importorskip("torch")

import sentenc  # noqa: E402 (needs the extra)
from sentenc.errors import CheckpointError  # noqa: E402
from sentenc.training.config.pretraining import parse_run  # noqa: E402
from sentenc.training.engine.dev_score import DevScore  # noqa: E402
from sentenc.training.engine.run_log import read_log  # noqa: E402
from sentenc.training.engine.trainer import Trainer  # noqa: E402
from sentenc.training.recipes import pretraining_data  # noqa: E402
from sentenc.training.recipes.pretraining import pretrain  # noqa: E402
from tests.support.training import trainer  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert-run")
    (folder / "parts").mkdir()
    make_sentence_transformer(folder / "parts").save(str(folder / "teacher"))
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(300)]
    (folder / "text.txt").write_text("\n".join(lines))
    rows = [f"{rng.uniform(0, 5):.2f}\t{a}\t{b}" for a, b in zip(lines[:30], lines[30:60], strict=True)]
    (folder / "dev.tsv").write_text("\n".join(rows))
    return folder


def table(**student):
    return {
        "output": "model",
        "work": "work",
        "seed": 1,
        "student": {"kind": "bert", "init": "teacher", "layers": [1], "normalize": True, "max_tokens": 48}
        | student,
        "teacher": {"models": ["teacher"], "cache": "vectors"},
        "corpora": {"text": {"sources": [{"files": ["text.txt"], "form": "sentences"}]}},
        "losses": [
            {"kind": "embedding_distillation", "corpus": "text", "batch_size": 16, "space": "same"},
            {"kind": "transformer_distillation", "corpus": "text", "batch_size": 16, "layer_map": "top"},
        ],
        "training": {
            "steps": 12,
            "warmup": 2,
            "learning_rate": 1e-3,
            "log_every": 4,
            "device": "cpu",
            "keep": "last",
        },
        "evaluation": {"sts": "dev.tsv", "every": 6},
    }


def trained(folder, name, content):
    content |= {"output": f"model-{name}", "work": f"work-{name}"}
    return pretrain(parse_run(content, folder), show_progress_bar=False)


def test_from_a_teachers_layer_to_a_model(folder):
    model = trained(folder, "layers", table(vocabulary=240, config={"intermediate_size": 30}))
    encoder = sentenc.load(model)
    assert type(encoder).__name__ == "BertEncoder"
    assert np.linalg.norm(encoder.encode("the dog runs")) == pytest.approx(1, abs=1e-5)
    config = json.loads((model / "config.json").read_text())
    assert (config["num_hidden_layers"], config["intermediate_size"], config["vocab_size"]) == (1, 30, 240)
    rows = [row for row in read_log(model / "log.jsonl") if row.get("losses")]
    parts = {f"transformer_distillation.{name}" for name in ("attention", "hidden", "embeddings")}
    assert parts < set(rows[0]["losses"])
    weights = sum(rows[0]["losses"][name] for name in parts)
    assert rows[0]["losses"]["transformer_distillation"] == pytest.approx(weights, rel=1e-4)
    assert rows[0]["loss"] == pytest.approx(weights + rows[0]["losses"]["embedding_distillation"], rel=1e-4)
    assert rows[-1]["loss"] < rows[0]["loss"]
    text = "hello world, people in the park"
    near = encoder.similarity(encoder.encode(text), sentenc.load(folder / "teacher").encode(text))
    assert near[0, 0] > 0.5


def test_a_bert_is_evaluated_in_the_precision_of_its_training(tmp_path, folder, monkeypatch):
    seen = []

    def evaluate(_):
        seen.append(torch.is_autocast_enabled("cpu"))
        return DevScore(1.0, {})

    monkeypatch.setattr(pretraining_data, "dev_score", lambda _: evaluate)
    content = table()
    content["training"]["precision"] = "bf16"
    trained(folder, "bf16", content)
    # The saved model is scored in float32.
    assert seen == [True, True, True, False]
    seen.clear()
    # The tables of a CSE stay exact.
    trainer(tmp_path, evaluate=evaluate, precision="bf16", steps=2).run()
    assert set(seen) == {False}


def test_a_model_in_half_precision_is_trained_in_full_precision(folder):
    import transformers

    transformers.AutoModel.from_pretrained(folder / "teacher").half().save_pretrained(folder / "half")
    transformers.AutoTokenizer.from_pretrained(folder / "teacher").save_pretrained(folder / "half")
    model = trained(folder, "half", table(init="half", layers=[]))
    config = json.loads((model / "config.json").read_text())
    # Until version 5 of transformers it was torch_dtype.
    assert config.get("dtype", config.get("torch_dtype")) == "float32"
    assert all(np.isfinite(row["loss"]) for row in read_log(model / "log.jsonl") if row.get("losses"))


def test_a_folder_that_is_trained_further_has_no_random_weights(folder, capfd):
    import transformers
    from safetensors.numpy import load_file

    transformers.AutoTokenizer.from_pretrained(folder / "teacher").save_pretrained(folder / "no-pooler")
    model = transformers.BertModel.from_pretrained(folder / "teacher", add_pooling_layer=False)
    model.save_pretrained(folder / "no-pooler")
    content = table(init="no-pooler", layers=[])
    content["training"] |= {"steps": 1, "learning_rate": 1e-9}
    content["losses"] = content["losses"][:1]
    capfd.readouterr()
    trained_model = trained(folder, "no-pooler", content)
    assert "pooler" not in "".join(capfd.readouterr())
    before, after = (load_file(path / "model.safetensors") for path in (folder / "no-pooler", trained_model))
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-5)
    # Other weights that are missing are no warning, but an error.
    weights = model.state_dict()
    dropped = weights.pop("encoder.layer.1.output.dense.weight")
    assert dropped.ndim == 2
    model.save_pretrained(folder / "no-pooler", state_dict=weights)
    with pytest.raises(CheckpointError, match=r"no-pooler lacks 1 weights.*layer\.1\.output\.dense\.weight"):
        trained(folder, "no-weights", content)


def test_the_pooling_of_a_folder_is_that_of_the_student(folder):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder / "teacher"), device="cpu")
    model[1] = type(model[1])(24, pooling_mode="cls")
    model.save(str(folder / "cls"))
    sentenc.load(folder / "cls").save_compact(folder / "cls-own")
    for name in ("cls", "cls-own"):
        content = table(init=name, layers=[])
        content["losses"] = content["losses"][:1]
        content["training"] |= {"steps": 1, "learning_rate": 1e-9}
        with pytest.raises(ValueError, match=r"student\.pooling is 'mean'.*'cls' pooling"):
            trained(folder, f"pooling-{name}", content)
        content["student"]["pooling"] = "cls"
        again = sentenc.load(trained(folder, f"pooling-{name}", content))
        vectors = [
            encoder.encode("the dog runs", normalize_embeddings=True)
            for encoder in (again, sentenc.load(folder / name))
        ]
        np.testing.assert_allclose(*vectors, atol=2e-3)


def test_a_bert_with_a_linear_map_is_refused(folder):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    model = SentenceTransformer(str(folder / "teacher"), device="cpu")
    dense = Dense(24, 24, bias=False, activation_function=torch.nn.Identity())
    model.append(dense)
    model.save(str(folder / "dense"))
    sentenc.load(folder / "dense").save_compact(folder / "dense-own")
    for name in ("dense", "dense-own"):
        content = table(init=name, layers=[])
        with pytest.raises(ValueError, match=rf"student\.init is '.*{name}', which has a linear map"):
            trained(folder, f"from-{name}", content)


def test_dropout_is_a_setting_of_any_start(folder, monkeypatch):
    seen = []
    run_to_the_end = Trainer.run

    def run(trainer):
        modules = trainer.student.modules()
        seen.append({module.p for module in modules if isinstance(module, torch.nn.Dropout)})
        return run_to_the_end(trainer)

    monkeypatch.setattr(Trainer, "run", run)
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    content = table(config=rates, max_tokens=20)
    content["losses"] = content["losses"][:1]
    content["training"]["steps"] = 1
    content.pop("evaluation")
    model = trained(folder, "dropout", content)
    # A model of sentenc's own format can be a start too, with all of its positions.
    sentenc.load(model).save_compact(folder / "own")
    content["student"] = {"kind": "bert", "init": "own", "config": rates, "max_tokens": 64}
    content["training"]["learning_rate"] = 1e-9
    again = sentenc.load(trained(folder, "own-start", content))
    assert seen == [{0.0}, {0.0}]
    assert again.max_tokens == 64
    before, after = (encoder.encode("the dog runs") for encoder in (sentenc.load(folder / "own"), again))
    assert before @ after / np.linalg.norm(before) / np.linalg.norm(after) == pytest.approx(1, abs=1e-4)
    content["student"]["config"] = {"hidden_size": 16}
    with pytest.raises(ValueError, match=r"student\.config\.hidden_size is set.*own"):
        trained(folder, "own-start", content)


def test_half_precision_on_a_cpu_trains_like_full_precision(folder, monkeypatch):
    kinds = []
    run_to_the_end = Trainer.run

    def run(trainer):
        attention = torch.nn.functional.scaled_dot_product_attention

        def recorded(query, *arguments, **options):
            kinds.append((query.dtype, query.requires_grad))
            return attention(query, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
            return run_to_the_end(trainer)

    monkeypatch.setattr(Trainer, "run", run)
    losses = {}
    for precision in ("float32", "bf16"):
        content = table(config={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
        content["losses"] = content["losses"][:1]
        content["training"] |= {"precision": precision, "steps": 6, "log_every": 1}
        content.pop("evaluation")
        kinds.clear()
        model = trained(folder, f"precision-{precision}", content)
        # Attention is computed in float32, whose gradient is faster on a CPU than that of bfloat16.
        assert {dtype for dtype, is_trained in kinds if is_trained} == {torch.float32}
        losses[precision] = [row["loss"] for row in read_log(model / "log.jsonl") if row.get("losses")]
    assert losses["bf16"] != losses["float32"]
    np.testing.assert_allclose(losses["bf16"], losses["float32"], rtol=0.05)


def test_stopped_and_resumed_is_uninterrupted(folder, monkeypatch):
    whole = trained(folder, "whole", table())
    run_to_the_end = Trainer.run
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", lambda trainer: run_to_the_end(trainer, stop_at=5))
        trained(folder, "parts", table())
    resumed = trained(folder, "parts", table())
    texts = ["the dog runs in the park", "stock market"]
    assert np.array_equal(sentenc.load(whole).encode(texts), sentenc.load(resumed).encode(texts))


def test_a_student_of_smaller_width_learns_through_a_map(folder):
    content = table(config={"hidden_size": 16})
    content["losses"][0].pop("space")
    encoder = sentenc.load(trained(folder, "narrow", content))
    assert encoder.dim == 16


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"layers": []}, r"student\.layers"),
        ({"layers": [2]}, r"layers is \[2\], expected .* 0 to 1"),
        ({"config": {"num_hidden_layers": 3}}, r"student\.config\.num_hidden_layers .*teacher"),
        ({"tokenizer": "teacher"}, r"student\.tokenizer is '.*teacher'"),
        ({"config": {"hidden_size": 16}}, "dimension is 16, expected 24"),
        ({"init": "teacher-folder", "vocabulary": 9, "layers": []}, r"student\.vocabulary is 9"),
        ({"kind": "cse"}, r"student\.layers is \[1\].*'bert'"),
        (
            {"init": "./teacher", "layers": [], "config": {"intermediate_size": 8}},
            r"intermediate_size is set.*own",
        ),
        ({"init": "./teacher", "layers": [], "config": {"colour": 8}}, r"student\.config\.colour is set"),
        (
            {"init": "random", "tokenizer": "teacher", "layers": [], "config": {"colour": 8}},
            r"unknown key student\.config\.colour",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, student, message):
    with pytest.raises(ValueError, match=message):
        trained(folder, "refused", table(**student))


def test_states_of_a_cse_are_refused(folder):
    content = table()
    content["student"] = {
        "kind": "cse",
        "init": "teacher",
        "config": {"embedding_dim": 12, "num_filters": 4},
    }
    content["losses"] = content["losses"][1:]
    with pytest.raises(ValueError, match=r"transformer_distillation requires student\.kind .*CSEStudent"):
        trained(folder, "cse", content)
