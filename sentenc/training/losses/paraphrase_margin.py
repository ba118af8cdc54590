"""The margin loss of paraphrastic sentence embeddings, and the choice of its negatives.

Wieting, Bansal, Gimpel, Livescu: "Towards universal paraphrastic sentence embeddings", ICLR 2016;
Wieting, Gimpel: "Revisiting recurrent networks for paraphrastic sentence embeddings", ACL 2017
(scrambling); "ParaNMT-50M", ACL 2018 (mega-batches). CSE (Jiao et al., COLING 2018) is trained with it.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentenc.training.data.examples import Example
from sentenc.training.losses.base import Encode, VectorLoss, unit
from sentenc.training.losses.checks import check_columns
from sentenc.validation import check_choice, check_integer, check_number

# Limits the memory that the matrix of similarities takes.
_SENTENCES_PER_BLOCK = 1024


def paraphrase_margin_loss(
    first: Tensor, second: Tensor, negative_first: Tensor, negative_second: Tensor, margin: float
) -> Tensor:
    """Computes the batch mean of [m - cos(a, b) + cos(a, n_a)]_+ + [m - cos(a, b) + cos(b, n_b)]_+.

    Source: Wieting et al. 2016, in the form of its released code and CSE's.

    Args:
        first: a, (B, d).
        second: b, a paraphrase of a, (B, d).
        negative_first: n_a, a sentence that is similar to a and has another meaning, (B, d).
        negative_second: n_b, such a sentence for b, (B, d).
        margin: m.

    Returns:
        A scalar.
    """
    a, b, n_a, n_b = unit(first), unit(second), unit(negative_first), unit(negative_second)
    positive = (a * b).sum(1)
    loss_a = torch.relu(margin - positive + (a * n_a).sum(1))
    loss_b = torch.relu(margin - positive + (b * n_b).sum(1))
    return (loss_a + loss_b).mean()


def scrambled(text: str, rng: np.random.Generator) -> str:
    """Returns the text's words, split at white space, in random order."""
    words = text.split()
    return " ".join(words[i] for i in rng.permutation(len(words)))


def choose_negatives(
    texts: list[str],
    encode: Encode | None,
    use_random: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Chooses for each of n paired sentences another one of them, as its negative.

    Sentences 2i and 2i + 1 are a pair. A sentence that equals the sentence or its partner is never chosen.
    This excludes the two sentences themselves (as in the paper) and their copies (unlike the paper).

    Args:
        texts: n sentences. Equal texts are copies.
        encode: Encodes sentences as vectors; None if all choices are random.
        use_random: (n,) True for sentences whose negative is random. For the others it is the sentence with
            the highest cosine.
        rng: Source of random choices.

    Returns:
        (n,) indices of the chosen sentences.

    Raises:
        ValueError: No other sentence is left for a sentence.
    """
    vectors = None if encode is None else unit(encode(texts))
    device = torch.device("cpu") if vectors is None else vectors.device
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    own = torch.tensor([numbers[text] for text in texts], device=device)
    partner = torch.tensor([numbers[texts[i ^ 1]] for i in range(len(texts))], device=device)
    chosen = np.empty(len(texts), np.int64)
    for start in range(0, len(texts), _SENTENCES_PER_BLOCK):
        block = slice(start, min(start + _SENTENCES_PER_BLOCK, len(texts)))
        random_rows = torch.from_numpy(use_random[block]).to(device)
        scores = torch.zeros((len(random_rows), len(texts)), device=device)
        if vectors is not None:
            scores = (vectors[block] @ vectors.T).float()
        if use_random[block].any():
            noise = rng.random((int(use_random[block].sum()), len(texts)), np.float32)
            scores[random_rows] = torch.from_numpy(noise).to(device)
        excluded = (own == own[block, None]) | (own == partner[block, None])
        best, index = scores.masked_fill(excluded, -torch.inf).max(1)
        if bool(torch.isneginf(best).any()):
            text = texts[start + int(torch.isneginf(best).nonzero()[0, 0])]
            raise ValueError(
                f"no negative for {text!r}: all {len(texts)} sentences of the batch equal it or its partner"
            )
        chosen[block] = index.cpu().numpy()
    return chosen


class ParaphraseMargin(VectorLoss):
    """The margin loss over pairs of paraphrases, with negatives from the batch.

    A batch, or a mega-batch, needs at least two pairs.

    Args:
        margin: Between the cosines of paraphrase and negative; 0.4 in Wieting's papers, 0.6 in CSE.
        negatives: "max" for the most similar sentence of the mega-batch, "random" for any sentence, "mix" for
            one or the other with equal probability, sentence by sentence.
        scramble: Probability that the words of both sentences of a pair are shuffled before negatives are
            chosen; 0.5 in CSE.
        mega_batch: The number of batches from which negatives are chosen; 40 in ParaNMT, 1 in CSE.
    """

    columns = 2

    def __init__(
        self, *, margin: float = 0.4, negatives: str = "max", scramble: float = 0.0, mega_batch: int = 1
    ) -> None:
        super().__init__()
        self.margin = check_number("margin", margin, at_least=0, at_most=2)
        self.negatives = check_choice("negatives", negatives, ("max", "mix", "random"))
        self.scramble = check_number("scramble", scramble, at_least=0, at_most=1)
        self.lookahead = check_integer("mega_batch", mega_batch)

    def prepare(
        self, batches: list[list[Example]], encode: Encode, rng: np.random.Generator
    ) -> list[list[Example]]:
        """Extends pairs (a, b) to (a, b, negative of a, negative of b).

        Raises:
            ValueError: The batches contain no negative for a sentence.
        """
        texts: list[str] = []
        for a, b in (example for batch in batches for example in batch):
            if self.scramble and rng.random() < self.scramble:
                a, b = scrambled(a, rng), scrambled(b, rng)
            texts += [a, b]
        if self.negatives == "mix":
            use_random = rng.random(len(texts)) < 0.5
        else:
            use_random = np.full(len(texts), self.negatives == "random")
        chosen = choose_negatives(texts, None if use_random.all() else encode, use_random, rng)
        quadruples: list[Example] = [
            (texts[i], texts[i + 1], texts[chosen[i]], texts[chosen[i + 1]]) for i in range(0, len(texts), 2)
        ]
        ends = np.cumsum([len(batch) for batch in batches])
        return [quadruples[end - len(batch) : end] for end, batch in zip(ends, batches, strict=True)]

    def loss(self, vectors: list[Tensor], targets: Tensor | None) -> Tensor:
        """Computes :func:`paraphrase_margin_loss` of the four columns, (B, d) each."""
        a, b, n_a, n_b = check_columns("paraphrase_margin", vectors, 4)
        return paraphrase_margin_loss(a, b, n_a, n_b, self.margin)
