"""The margin loss of paraphrastic sentence embeddings, and how it finds its negatives.

Wieting, Bansal, Gimpel, Livescu: "Towards universal paraphrastic sentence embeddings", ICLR 2016;
Wieting, Gimpel: "Revisiting recurrent networks for paraphrastic sentence embeddings", ACL 2017
(scrambling); "ParaNMT-50M", ACL 2018 (mega-batches). CSE (Jiao et al., COLING 2018) trains with it.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentenc.training.losses.base import Encode, Example, Loss, unit
from sentenc.training.losses.checks import checked_choice, checked_columns, checked_count, checked_number

# Rows of the matrix of similarities that are held at a time.
ROWS = 1024


def paraphrase_margin_loss(
    first: Tensor, second: Tensor, negative_first: Tensor, negative_second: Tensor, margin: float
) -> Tensor:
    """The batch mean of [m - cos(a, b) + cos(a, n_a)]_+ + [m - cos(a, b) + cos(b, n_b)]_+.

    Source: Wieting et al. 2016, in the form of its released code and CSE's.

    Args:
        first: a, (B, d).
        second: b, its paraphrase, (B, d).
        negative_first: n_a, a sentence that is like a and means something else, (B, d).
        negative_second: n_b, the same for b, (B, d).
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
    """The text's words, as split at white space, in random order."""
    words = text.split()
    return " ".join(words[i] for i in rng.permutation(len(words)))


def choose_negatives(
    texts: list[str], encode: Encode | None, random: npt.NDArray[np.bool_], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """For each of n paired sentences another one of them, as its negative.

    Sentences 2i and 2i + 1 are a pair. Never chosen is what reads like the sentence or its partner,
    which leaves out the two themselves (as the paper does) and their copies (it does not).

    Args:
        texts: n sentences; equal ones count as copies.
        encode: To vectors; None if no choice goes by similarity.
        random: (n,) which are to get any other sentence; the rest get that of the highest cosine.
        rng: Source of random choices.

    Returns:
        (n,) the chosen sentences' numbers.

    Raises:
        ValueError: There is none left for a sentence.
    """
    vectors = None if encode is None else unit(encode(texts))
    device = torch.device("cpu") if vectors is None else vectors.device
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    same = torch.tensor([numbers[text] for text in texts], device=device)
    partner = torch.tensor([numbers[texts[i ^ 1]] for i in range(len(texts))], device=device)
    chosen = np.empty(len(texts), np.int64)
    for start in range(0, len(texts), ROWS):
        rows = slice(start, min(start + ROWS, len(texts)))
        drawn = torch.from_numpy(random[rows]).to(device)
        scores = torch.zeros((len(drawn), len(texts)), device=device)
        if vectors is not None:
            scores = (vectors[rows] @ vectors.T).float()
        if random[rows].any():
            noise = rng.random((int(random[rows].sum()), len(texts)), np.float32)
            scores[drawn] = torch.from_numpy(noise).to(device)
        banned = (same == same[rows, None]) | (same == partner[rows, None])
        best, index = scores.masked_fill(banned, -torch.inf).max(1)
        if bool(torch.isneginf(best).any()):
            lost = texts[start + int(torch.isneginf(best).nonzero()[0, 0])]
            raise ValueError(
                f"no negative for {lost!r}: all {len(texts)} sentences of the batch equal it or its partner"
            )
        chosen[rows] = index.cpu().numpy()
    return chosen


class ParaphraseMargin(Loss):
    """Pairs of paraphrases, with negatives from the batch, by margin loss.

    A batch, or a mega-batch, of one pair is refused when negatives are chosen.

    Args:
        margin: Between the cosines of paraphrase and negative; 0.4 in Wieting's papers, 0.6 in CSE.
        negatives: "max", the most similar sentence of the mega-batch; "random", any; "mix", one or the
            other by the flip of a coin, sentence by sentence.
        scramble: Probability that both sentences of a pair have their words shuffled, negatives being
            chosen after it; 0.5 in CSE.
        mega_batch: Batches among which negatives are chosen together; 40 in ParaNMT, 1 in CSE.
    """

    columns = 2

    def __init__(
        self, *, margin: float = 0.4, negatives: str = "max", scramble: float = 0.0, mega_batch: int = 1
    ) -> None:
        super().__init__()
        self.margin = checked_number("margin", margin, 0, 2)
        self.negatives = checked_choice("negatives", negatives, ("max", "mix", "random"))
        self.scramble = checked_number("scramble", scramble, 0, 1)
        self.lookahead = checked_count("mega_batch", mega_batch)

    def prepare(
        self, batches: list[list[Example]], encode: Encode, rng: np.random.Generator
    ) -> list[list[tuple[str, ...]]]:
        """Pairs (a, b) become (a, b, negative of a, negative of b).

        Raises:
            ValueError: The batches hold no negative for some sentence.
        """
        texts: list[str] = []
        for a, b in (example for batch in batches for example in batch):
            if self.scramble and rng.random() < self.scramble:
                a, b = scrambled(a, rng), scrambled(b, rng)
            texts += [a, b]
        if self.negatives == "mix":
            random = rng.random(len(texts)) < 0.5
        else:
            random = np.full(len(texts), self.negatives == "random")
        chosen = choose_negatives(texts, None if random.all() else encode, random, rng)
        quadruples: list[tuple[str, ...]] = [
            (texts[i], texts[i + 1], texts[chosen[i]], texts[chosen[i + 1]]) for i in range(0, len(texts), 2)
        ]
        ends = np.cumsum([len(batch) for batch in batches])
        return [quadruples[end - len(batch) : end] for end, batch in zip(ends, batches, strict=True)]

    def loss(self, vectors: list[Tensor], teacher: Tensor | None) -> Tensor:
        """See :func:`paraphrase_margin_loss`; vectors of the four columns, (B, d) each."""
        a, b, n_a, n_b = checked_columns("paraphrase_margin", vectors, 4)
        return paraphrase_margin_loss(a, b, n_a, n_b, self.margin)
