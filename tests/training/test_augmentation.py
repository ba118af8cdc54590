"""Augmentation: what is replaced, by what, and that nothing but seed and number decides."""

import json

import numpy as np
import pytest
import torch

from sentenc.training.augmentation import augment as augmentation
from sentenc.training.augmentation.augment import STOP_WORDS, words_of
from sentenc.training.augmentation.masked_lm import MaskedLanguageModel, Place
from sentenc.training.augmentation.word_neighbors import WordNeighbors, nearest_words_of
from sentenc.training.initialization.word_vectors import WordVectors
from tests.support.models import make_cse, wordpiece_spec

transformers = pytest.importorskip("transformers")


def make_tokenizer(lowercase=True):
    from tokenizers import Tokenizer as Reference

    spec = json.loads(wordpiece_spec(lowercase))
    spec["added_tokens"] = []
    spec["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Reference.from_str(json.dumps(spec)), unk_token="[UNK]", pad_token="[PAD]",
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def noisy(make):
    """As it is made, a model finds every word about as likely as any other."""
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
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40,
    )  # fmt: skip
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


def place(text, word, number=0):
    return Place(number, text.index(word), text.index(word) + len(word))


# Nearest words


def test_nearest_words_are_those_of_the_largest_cosine(nearest):
    # Angles: dog 14.0, dogs 15.4, cat 26.6, instrument -90, guitar -76, market 104, stock 116.6 degrees.
    assert nearest.candidates(["dog", "market"], 2) == [["dogs", "cat"], ["stock", "cat"]]
    # Another spelling of the word is no neighbor, and of two neighbors that differ in case the first counts.
    assert nearest.candidates(["Cat"], 3)[0][:2] == ["dogs", "dog"]
    assert nearest.candidates(["DOG", "zebra"], 1) == [["dogs"], []]
    assert len(nearest.candidates(["dog"], 100)[0]) == 6


def test_nearest_words_take_keyed_vectors():
    gensim = pytest.importorskip("gensim")
    keyed = gensim.models.KeyedVectors(2)
    keyed.add_vectors(["dog", "cat", "x1", "zero"], np.array([[1, 0], [1, 0.1], [1, 0], [0, 0]], np.float32))
    assert WordNeighbors(keyed).words == ["dog", "cat"]
    with pytest.raises(TypeError, match="vectors is list, expected WordVectors"):
        WordNeighbors([1, 2])
    with pytest.raises(ValueError, match="none of 1 words has letters"):
        WordNeighbors(WordVectors(["42"], np.ones((1, 2), np.float32)))


def test_nearest_words_of_an_encoder():
    encoder = make_cse()
    found = nearest_words_of(encoder, ["dog", "cat", "market", "dog", "42", "guitar"])
    vectors = encoder.encode(found.words, normalize_embeddings=True)
    cosines = vectors @ vectors[found.words.index("dog")]
    order = [found.words[i] for i in np.argsort(-cosines) if found.words[i] != "dog"]
    assert found.candidates(["dog"], 3) == [order[:3]]
    with pytest.raises(ValueError, match="none of the words"):
        nearest_words_of(encoder, ["42"])


# Masked words


def expected_words(masked, text, word, count):
    """The plain way: one input, all logits, the mask in place of the word."""
    tokenizer = masked.tokenizer
    ids = tokenizer(text.replace(word, "[MASK]", 1), return_tensors="pt")
    with torch.inference_mode():
        logits = masked.model(**ids).logits[0]
    at = ids["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    order = tokenizer.convert_ids_to_tokens(logits[at].argsort(descending=True).tolist())
    special = {*tokenizer.all_special_tokens, word.lower()}
    return [w for w in order if w not in special and w.isalpha() and len(w) > 1][:count]


def test_masked_words_are_the_most_probable_at_the_masked_place(masked):
    texts = [TEXT, "a cat"]
    found = masked.candidates(texts, [place(TEXT, "dog"), place("a cat", "cat", 1), place(TEXT, "Park")], 5)
    assert found[0] == expected_words(masked, TEXT, "dog", 5)
    assert found[1] == expected_words(masked, "a cat", "cat", 5)
    assert found[2] == expected_words(masked, TEXT, "Park", 5)
    assert len({tuple(words) for words in found}) > 1


@pytest.mark.parametrize("kind", ["DistilBert", "Roberta", "Electra", "Albert"])
def test_any_masked_language_model_will_do(kind):
    tokenizer = make_tokenizer()
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 32, "max_position_embeddings": 44, "embedding_size": 16}  # fmt: skip
    if kind == "DistilBert":
        sizes = {"vocab_size": len(tokenizer), "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    config.pad_token_id = 0
    found = MaskedLanguageModel(noisy(lambda: getattr(transformers, f"{kind}ForMaskedLM")(config)), tokenizer)
    assert found.candidates([TEXT], [place(TEXT, "guitar")], 4) == [expected_words(found, TEXT, "guitar", 4)]


def test_masked_word_is_visible_nowhere(masked, monkeypatch):
    seen = []
    real = masked.model.forward

    def forward(**inputs):
        seen.append(inputs["input_ids"])
        return real(**inputs)

    monkeypatch.setattr(masked.model, "forward", forward)
    masked.candidates([TEXT], [place(TEXT, "dog")], 3)
    (ids,) = seen
    dog = masked.tokenizer.convert_tokens_to_ids("dog")
    assert dog not in ids
    assert (ids == masked.tokenizer.mask_token_id).sum() == 1
    assert (ids == masked.tokenizer.sep_token_id).sum() == 1


def test_word_of_several_pieces_or_none_has_no_masked_words(masked):
    text = "dogs 東 dog ༀ"
    spans = [place(text, "dogs"), Place(0, 7, 10), Place(0, 11, 12)]
    found = masked.candidates(text.split("|"), spans, 3)
    assert found[0] is None
    assert len(found[1]) == 3
    assert found[2] is None
    assert masked.candidates([], [], 3) == []


def test_long_text_is_seen_through_a_window():
    masked = make_masked(max_tokens=12)
    ids = list(range(200, 300))
    for place_of_word, first in ((0, 0), (50, 45), (99, 90)):
        seen, at = masked._masked(ids, place_of_word)
        expected = [2, *ids[first : first + 10], 3]
        expected[place_of_word - first + 1] = masked.tokenizer.mask_token_id
        assert (seen, seen[at]) == (expected, masked.tokenizer.mask_token_id)
    text = "the cat " * 30 + "guitar" + " the dog" * 30
    assert len(masked.candidates([text], [place(text, "guitar")], 3)[0]) == 3


def test_byte_level_pieces_are_words_when_a_space_is_before_them():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġdog", "Ġcat", "dog", "cat", "Ġ", *"dogcat"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    merges = [("d", "o"), ("do", "g"), ("c", "a"), ("ca", "t"), ("Ġ", "dog"), ("Ġ", "cat")]
    vocabulary |= {"do": len(vocabulary), "ca": len(vocabulary) + 1}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="<mask>", pad_token="<pad>", unk_token="<unk>", cls_token="<s>",
        sep_token="</s>", bos_token="<s>", eos_token="</s>",
    )  # fmt: skip
    config = transformers.RobertaConfig(
        vocab_size=len(fast), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    found = MaskedLanguageModel(transformers.RobertaForMaskedLM(config), fast)
    assert sorted(found.words.values()) == ["cat", "dog"]
    assert found.candidates(["dog dog"], [Place(0, 4, 7)], 5) == [["cat"]]


def test_masked_words_refusals(masked, tmp_path):
    from sentenc import errors

    tokenizer = make_tokenizer()
    with pytest.raises(ValueError, match="batch_size is 0"):
        MaskedLanguageModel(masked.model, tokenizer, batch_size=0)
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="no mask token"):
        MaskedLanguageModel(masked.model, tokenizer)
    with pytest.raises(errors.ModelNotFoundError, match="no masked language model"):
        MaskedLanguageModel.from_folder(str(tmp_path))


def test_masked_words_from_a_folder(masked, tmp_path):
    masked.model.save_pretrained(tmp_path)
    masked.tokenizer.save_pretrained(tmp_path)
    loaded = MaskedLanguageModel.from_folder(str(tmp_path))
    spans = [place(TEXT, "dog")]
    assert loaded.candidates([TEXT], spans, 3) == masked.candidates([TEXT], spans, 3)


# Augmentation


def augment(examples, **options):
    """The texts alone."""
    return (example for _, example in augmentation.augment(examples, **options))


def changed(original, copy):
    left, right = original.split(), copy.split()
    assert len(left) == len(right)
    return [(a, b) for a, b in zip(left, right, strict=True) if a != b]


def test_every_word_that_may_be_replaced_is_when_p_is_one(masked, nearest):
    (original,), *copies = augment([(TEXT,)], masked_words=masked, nearest_words=nearest, copies=8, p=1.0)
    assert original == TEXT
    assert copies
    masks = {
        word: masked.candidates([TEXT], [place(TEXT, word)], 15)[0] for word in ("dog", "plays", "guitar")
    }
    park = masked.candidates([TEXT], [place(TEXT, "Park")], 15)[0]
    for (copy,) in copies:
        words = copy.split()
        # Stop words, numbers and punctuation stay, and so does the case.
        assert [words[i] for i in (0, 4, 5, 6)] == ["The", "42", "in", "the"]
        assert words[1] in masks["dog"]
        assert words[3][-1] == ","
        assert words[3][:-1] in masks["guitar"]
        assert words[7][-1] == "!"
        assert words[7][0].isupper()
        assert words[7][:-1].lower() in park


def test_words_of_several_pieces_get_their_neighbors(masked, nearest):
    text = ("Dogs bark",)
    found = list(augment([text], masked_words=masked, nearest_words=nearest, copies=30, p=1.0, candidates=2))
    # "bark" is neither one piece nor among the vectors.
    assert set(found) == {("Dogs bark",), ("Dog bark",), ("Cat bark",)}
    assert list(augment([text], masked_words=masked, copies=5, p=1.0)) == [text]


def test_word_vectors_alone_will_do(nearest):
    found = list(augment([("a DOG, a market",)], nearest_words=nearest, copies=20, p=1.0, candidates=1))
    assert found == [("a DOG, a market",), ("a DOGS, a stock",)]


def test_a_copy_of_a_pair_changes_one_text(nearest):
    pair = ("dog dog", "market market guitar")
    original, *copies = augment([pair], nearest_words=nearest, copies=10, p=0.7)
    assert original == pair
    assert len(set(copies)) == len(copies)
    assert all((copy[0] == pair[0]) != (copy[1] == pair[1]) for copy in copies)
    assert {copy[0] == pair[0] for copy in copies} == {True, False}


def test_share_of_replaced_words_is_p(nearest):
    text = " ".join(["dog market guitar"] * 40)
    _, *copies = augment([(text,)], nearest_words=nearest, copies=50, p=0.4)
    share = np.mean([len(changed(text, copy)) for (copy,) in copies]) / 120
    assert abs(share - 0.4) < 3 * (0.24 / (50 * 120)) ** 0.5
    _, *copies = augment([(text,)], nearest_words=nearest, copies=50, p=1.0, candidates=3)
    chosen = [b for (copy,) in copies for a, b in changed(text, copy) if a == "dog"]
    assert {
        word: round(chosen.count(word) / len(chosen), 1) for word in sorted(set(chosen))
    } == dict.fromkeys(sorted(nearest.candidates(["dog"], 3)[0]), 0.3)


def test_only_seed_and_number_decide(masked, nearest):
    examples = [
        (f"the dog plays {word}", "a cat runs") for word in ("guitar", "dogs", "market", "word", "time")
    ]
    options = {"nearest_words": nearest, "copies": 4, "p": 0.5}
    first = list(augment(examples, masked_words=masked, **options))
    small = make_masked(batch_size=2)
    assert list(augment(iter(examples), masked_words=small, chunk=1, **options)) == first
    assert list(augment(examples, masked_words=masked, seed=2, **options)) != first
    # The first examples do not depend on those that come after.
    assert first[: len(list(augment(examples[:2], masked_words=masked, **options)))] == list(
        augment(examples[:2], masked_words=masked, **options)
    )


def test_examples_keep_their_numbers(nearest):
    examples = [("dog", "dog cat"), ("of", "the"), ("dog market", "guitar")]
    whole = list(augmentation.augment(examples, nearest_words=nearest, copies=6))
    assert sorted({number for number, _ in whole}) == [0, 1, 2]
    assert all(any(a == b for a, b in zip(made, examples[number], strict=True)) for number, made in whole)
    left = list(augmentation.augment(examples[1:], nearest_words=nearest, copies=6, first=1))
    assert left == [item for item in whole if item[0]]


def test_it_is_a_stream(nearest):
    def endless():
        while True:
            yield ("dog",)

    stream = augment(endless(), nearest_words=nearest, copies=1, chunk=2)
    assert next(stream) == ("dog",)


def test_texts_without_words_have_no_copies(nearest):
    examples = [("",), ("42 !",), ("the of",), ("a1 b_c dog2",)]
    assert list(augment(examples, nearest_words=nearest, p=1.0)) == examples
    assert list(augment([("dog",)], nearest_words=nearest, copies=0)) == [("dog",)]


def test_what_is_a_word():
    assert words_of(["Don't stop: x2, naïve O’Neill's rock'n'roll", "STOP a_b"]) == [
        "don't", "stop", "naïve", "o’neill's", "rock'n'roll",
    ]  # fmt: skip
    assert "don't" in STOP_WORDS
    assert all(word == word.lower() for word in STOP_WORDS)


def test_refusals(nearest):
    augment = augmentation.augment
    with pytest.raises(ValueError, match="neither masked_words nor nearest_words"):
        augment([("dog",)])
    for name, value in (("copies", -1), ("candidates", 0), ("seed", -1), ("chunk", 0)):
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            augment([("dog",)], nearest_words=nearest, **{name: value})
    with pytest.raises(ValueError, match=r"p is 1\.5"):
        augment([("dog",)], nearest_words=nearest, p=1.5)
    with pytest.raises(TypeError, match=r"examples\[1\] is 'cat'"):
        list(augment([("dog",), "cat"], nearest_words=nearest))
