"""Data augmentation: which words are replaced by which, depending only on seed and number."""

import json

import numpy as np
import pytest
import torch

from sentenc.io.word_vectors import WordVectors
from sentenc.training.augmentation import augment as augmentation
from sentenc.training.augmentation.augment import STOP_WORDS, words_of
from sentenc.training.augmentation.masked_lm import MaskedLanguageModel, WordSpan
from sentenc.training.augmentation.word_neighbors import WordNeighbors, neighbors_among
from tests.support.models import make_cse, wordpiece_spec

transformers = pytest.importorskip("transformers")


def make_tokenizer(lowercase=True):
    from tokenizers import Tokenizer as Reference

    spec = json.loads(wordpiece_spec(lowercase))
    spec["added_tokens"] = []
    spec["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Reference.from_str(json.dumps(spec)),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def noisy(make):
    """Adds noise to the weights, because a new model predicts all words with about the same probability."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def make_masked(**options):
    tokenizer = make_tokenizer()
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    return MaskedLanguageModel(noisy(lambda: transformers.BertForMaskedLM(config)), tokenizer, **options)


@pytest.fixture(scope="module")
def masked():
    return make_masked()


@pytest.fixture(scope="module")
def nearest():
    words = ["dog", "cat", "market", "stock", "guitar", "instrument", "dogs", "Cat"]
    rows = [[4, 1], [4, 2], [-1, 4], [-2, 4], [1, -4], [0, -4], [4, 1.1], [4, 2]]
    return WordNeighbors(WordVectors(words, np.array(rows, np.float32)))


TEXT = "The dog plays guitar, 42 in the Park!"


def span(text, word, number=0):
    return WordSpan(number, text.index(word), text.index(word) + len(word))


# Nearest words


def test_neighbors_have_the_largest_cosines(nearest):
    # Angles: dog 14.0, dogs 15.4, cat 26.6, instrument -90, guitar -76, market 104, stock 116.6 degrees.
    assert nearest.candidates(["dog", "market"], 2) == [["dogs", "cat"], ["stock", "cat"]]
    # A word of other case is no neighbor. Of two neighbors that differ in case, the first is returned.
    assert nearest.candidates(["Cat"], 3)[0][:2] == ["dogs", "dog"]
    assert nearest.candidates(["DOG", "zebra"], 1) == [["dogs"], []]
    assert len(nearest.candidates(["dog"], 100)[0]) == 6


def test_keyed_vectors_are_accepted():
    gensim = pytest.importorskip("gensim")
    keyed = gensim.models.KeyedVectors(2)
    keyed.add_vectors(["dog", "cat", "x1", "zero"], np.array([[1, 0], [1, 0.1], [1, 0], [0, 0]], np.float32))
    assert WordNeighbors(keyed).words == ["dog", "cat"]
    with pytest.raises(TypeError, match="vectors is list, expected WordVectors"):
        WordNeighbors([1, 2])
    with pytest.raises(ValueError, match="none of the 1 words"):
        WordNeighbors(WordVectors(["42"], np.ones((1, 2), np.float32)))


def test_neighbors_by_an_encoder():
    encoder = make_cse()
    neighbors = neighbors_among(["dog", "cat", "market", "dog", "42", "guitar"], encoder)
    vectors = encoder.encode(neighbors.words, normalize_embeddings=True)
    cosines = vectors @ vectors[neighbors.words.index("dog")]
    order = [neighbors.words[i] for i in np.argsort(-cosines) if neighbors.words[i] != "dog"]
    assert neighbors.candidates(["dog"], 3) == [order[:3]]
    with pytest.raises(ValueError, match="none of the words"):
        neighbors_among(["42"], encoder)


# Masked words


def expected_words(masked, text, word, count):
    """The most probable words, computed from one input and all logits."""
    tokenizer = masked.tokenizer
    ids = tokenizer(text.replace(word, "[MASK]", 1), return_tensors="pt")
    with torch.inference_mode():
        logits = masked.model(**ids).logits[0]
    at = ids["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    order = tokenizer.convert_ids_to_tokens(logits[at].argsort(descending=True).tolist())
    special = {*tokenizer.all_special_tokens, word.lower()}
    return [w for w in order if w not in special and w.isalpha() and len(w) > 1][:count]


def test_candidates_are_the_most_probable_words_for_the_mask(masked):
    texts = [TEXT, "a cat"]
    words = masked.candidates(texts, [span(TEXT, "dog"), span("a cat", "cat", 1), span(TEXT, "Park")], 5)
    assert words[0] == expected_words(masked, TEXT, "dog", 5)
    assert words[1] == expected_words(masked, "a cat", "cat", 5)
    assert words[2] == expected_words(masked, TEXT, "Park", 5)
    assert len({tuple(candidates) for candidates in words}) > 1


@pytest.mark.parametrize("kind", ["DistilBert", "Roberta", "Electra", "Albert"])
def test_other_architectures_are_supported(kind):
    tokenizer = make_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 44,
        "embedding_size": 16,
    }
    if kind == "DistilBert":
        sizes = {"vocab_size": len(tokenizer), "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    config.pad_token_id = 0
    model = MaskedLanguageModel(noisy(lambda: getattr(transformers, f"{kind}ForMaskedLM")(config)), tokenizer)
    assert model.candidates([TEXT], [span(TEXT, "guitar")], 4) == [expected_words(model, TEXT, "guitar", 4)]


def test_the_model_does_not_see_the_masked_word(masked, monkeypatch):
    seen = []
    real = masked.model.forward

    def forward(**inputs):
        seen.append(inputs["input_ids"])
        return real(**inputs)

    monkeypatch.setattr(masked.model, "forward", forward)
    masked.candidates([TEXT], [span(TEXT, "dog")], 3)
    (ids,) = seen
    dog = masked.tokenizer.convert_tokens_to_ids("dog")
    assert dog not in ids
    assert (ids == masked.tokenizer.mask_token_id).sum() == 1
    assert (ids == masked.tokenizer.sep_token_id).sum() == 1


def test_words_of_several_tokens_and_unknown_words_have_no_candidates(masked):
    text = "dogs 東 dog ༀ"
    spans = [span(text, "dogs"), WordSpan(0, 7, 10), WordSpan(0, 11, 12)]
    words = masked.candidates(text.split("|"), spans, 3)
    assert words[0] is None
    assert len(words[1]) == 3
    assert words[2] is None
    assert masked.candidates([], [], 3) == []


def test_a_long_text_is_cut_to_a_window_around_the_word(monkeypatch):
    masked = make_masked(max_tokens=12)
    inputs = []
    real = masked.model.forward
    monkeypatch.setattr(masked.model, "forward", lambda **kw: inputs.append(kw["input_ids"]) or real(**kw))
    words = ["dog", "cat", "market", "stock", "guitar"] * 20
    text = " ".join(words)
    ids = masked.tokenizer.convert_tokens_to_ids(words)
    for position, first in ((0, 0), (50, 45), (99, 90)):
        start = len(" ".join(words[:position])) + (position > 0)
        span = WordSpan(0, start, start + len(words[position]))
        assert len(masked.candidates([text], [span], 3)[0]) == 3
        expected = [2, *ids[first : first + 10], 3]
        expected[position - first + 1] = masked.tokenizer.mask_token_id
        assert inputs.pop().tolist() == [expected]


def test_byte_level_tokens_after_a_space_are_words():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġdog", "Ġcat", "dog", "cat", "Ġ", *"dogcat"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    merges = [("d", "o"), ("do", "g"), ("c", "a"), ("ca", "t"), ("Ġ", "dog"), ("Ġ", "cat")]
    vocabulary |= {"do": len(vocabulary), "ca": len(vocabulary) + 1}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        mask_token="<mask>",
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        bos_token="<s>",
        eos_token="</s>",
    )
    config = transformers.RobertaConfig(
        vocab_size=len(fast), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = MaskedLanguageModel(transformers.RobertaForMaskedLM(config), fast)
    assert sorted(model.words.values()) == ["cat", "dog"]
    assert model.candidates(["dog dog"], [WordSpan(0, 4, 7)], 5) == [["cat"]]


def test_unusable_masked_language_models_are_refused(masked, tmp_path):
    from sentenc import errors

    tokenizer = make_tokenizer()
    with pytest.raises(ValueError, match="batch_size is 0"):
        MaskedLanguageModel(masked.model, tokenizer, batch_size=0)
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="no mask token"):
        MaskedLanguageModel(masked.model, tokenizer)
    with pytest.raises(errors.ModelNotFoundError, match="not a masked language model"):
        MaskedLanguageModel.from_folder(str(tmp_path))


def test_a_masked_language_model_is_loaded_from_a_folder(masked, tmp_path):
    masked.model.save_pretrained(tmp_path)
    masked.tokenizer.save_pretrained(tmp_path)
    loaded = MaskedLanguageModel.from_folder(str(tmp_path))
    spans = [span(TEXT, "dog")]
    assert loaded.candidates([TEXT], spans, 3) == masked.candidates([TEXT], spans, 3)


# Augmentation


def augment(examples, **options):
    """The texts without their numbers."""
    return (example for _, example in augmentation.augment(examples, **options))


def changed(original, copy):
    left, right = original.split(), copy.split()
    assert len(left) == len(right)
    return [(a, b) for a, b in zip(left, right, strict=True) if a != b]


def test_every_word_that_may_be_replaced_is_when_p_is_one(masked, nearest):
    (original,), *copies = augment([(TEXT,)], masked_lm=masked, word_neighbors=nearest, copies=8, p=1.0)
    assert original == TEXT
    assert copies
    masks = {
        word: masked.candidates([TEXT], [span(TEXT, word)], 15)[0] for word in ("dog", "plays", "guitar")
    }
    park = masked.candidates([TEXT], [span(TEXT, "Park")], 15)[0]
    for (copy,) in copies:
        words = copy.split()
        # Stop words, numbers, punctuation and case are kept.
        assert [words[i] for i in (0, 4, 5, 6)] == ["The", "42", "in", "the"]
        assert words[1] in masks["dog"]
        assert words[3][-1] == ","
        assert words[3][:-1] in masks["guitar"]
        assert words[7][-1] == "!"
        assert words[7][0].isupper()
        assert words[7][:-1].lower() in park


def test_words_of_several_tokens_are_replaced_by_their_neighbors(masked, nearest):
    text = ("Dogs bark",)
    copies = list(augment([text], masked_lm=masked, word_neighbors=nearest, copies=30, p=1.0, candidates=2))
    # "bark" is not a single token and has no vector.
    assert set(copies) == {("Dogs bark",), ("Dog bark",), ("Cat bark",)}
    assert list(augment([text], masked_lm=masked, copies=5, p=1.0)) == [text]


def test_word_neighbors_are_sufficient(nearest):
    copies = list(augment([("a DOG, a market",)], word_neighbors=nearest, copies=20, p=1.0, candidates=1))
    assert copies == [("a DOG, a market",), ("a DOGS, a stock",)]


def test_a_copy_of_a_pair_changes_one_text(nearest):
    pair = ("dog dog", "market market guitar")
    original, *copies = augment([pair], word_neighbors=nearest, copies=10, p=0.7)
    assert original == pair
    assert len(set(copies)) == len(copies)
    assert all((copy[0] == pair[0]) != (copy[1] == pair[1]) for copy in copies)
    assert {copy[0] == pair[0] for copy in copies} == {True, False}


def test_words_are_replaced_with_probability_p(nearest):
    text = " ".join(["dog market guitar"] * 40)
    _, *copies = augment([(text,)], word_neighbors=nearest, copies=50, p=0.4)
    share = np.mean([len(changed(text, copy)) for (copy,) in copies]) / 120
    assert abs(share - 0.4) < 3 * (0.24 / (50 * 120)) ** 0.5
    _, *copies = augment([(text,)], word_neighbors=nearest, copies=50, p=1.0, candidates=3)
    chosen = [b for (copy,) in copies for a, b in changed(text, copy) if a == "dog"]
    assert {
        word: round(chosen.count(word) / len(chosen), 1) for word in sorted(set(chosen))
    } == dict.fromkeys(sorted(nearest.candidates(["dog"], 3)[0]), 0.3)


def test_copies_depend_only_on_seed_and_number(masked, nearest):
    examples = [
        (f"the dog plays {word}", "a cat runs") for word in ("guitar", "dogs", "market", "word", "time")
    ]
    options = {"word_neighbors": nearest, "copies": 4, "p": 0.5}
    first = list(augment(examples, masked_lm=masked, **options))
    small = make_masked(batch_size=2)
    assert list(augment(iter(examples), masked_lm=small, chunk=1, **options)) == first
    assert list(augment(examples, masked_lm=masked, seed=2, **options)) != first
    # The first examples do not depend on later ones.
    assert first[: len(list(augment(examples[:2], masked_lm=masked, **options)))] == list(
        augment(examples[:2], masked_lm=masked, **options)
    )


def test_examples_keep_their_numbers(nearest):
    examples = [("dog", "dog cat"), ("of", "the"), ("dog market", "guitar")]
    whole = list(augmentation.augment(examples, word_neighbors=nearest, copies=6))
    assert sorted({number for number, _ in whole}) == [0, 1, 2]
    assert all(any(a == b for a, b in zip(copy, examples[number], strict=True)) for number, copy in whole)
    left = list(augmentation.augment(examples[1:], word_neighbors=nearest, copies=6, first=1))
    assert left == [item for item in whole if item[0]]


def test_examples_are_streamed(nearest):
    def endless():
        while True:
            yield ("dog",)

    stream = augment(endless(), word_neighbors=nearest, copies=1, chunk=2)
    assert next(stream) == ("dog",)


def test_texts_without_words_have_no_copies(nearest):
    examples = [("",), ("42 !",), ("the of",), ("a1 b_c dog2",)]
    assert list(augment(examples, word_neighbors=nearest, p=1.0)) == examples
    assert list(augment([("dog",)], word_neighbors=nearest, copies=0)) == [("dog",)]


def test_words_that_may_be_replaced():
    assert words_of(["Don't stop: x2, naïve O’Neill's rock'n'roll", "STOP a_b"]) == [
        "don't",
        "stop",
        "naïve",
        "o’neill's",
        "rock'n'roll",
    ]
    assert "don't" in STOP_WORDS
    assert all(word == word.lower() for word in STOP_WORDS)


def test_invalid_arguments_are_refused(nearest):
    augment = augmentation.augment
    with pytest.raises(ValueError, match="masked_lm or word_neighbors"):
        augment([("dog",)])
    for name, value in (("copies", -1), ("candidates", 0), ("seed", -1), ("chunk", 0)):
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            augment([("dog",)], word_neighbors=nearest, **{name: value})
    with pytest.raises(ValueError, match=r"p is 1\.5"):
        augment([("dog",)], word_neighbors=nearest, p=1.5)
    with pytest.raises(TypeError, match=r"examples\[1\] is 'cat'"):
        list(augment([("dog",), "cat"], word_neighbors=nearest))
