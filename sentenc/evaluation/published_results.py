"""Published results for comparison, with the protocol behind each table."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRow:
    """The published scores of one model.

    Attributes:
        model: Name of the model.
        source: The paper that reports the scores.
        values: The scores in points, in the order of the table's tasks.
    """

    model: str
    source: str
    values: tuple[float, ...]


SBERT = "Reimers & Gurevych 2019"
SIMCSE = "Gao et al. 2021"

PROTOCOLS: Mapping[str, str] = {
    "sts": "Spearman of the cosine, aggregation `all`, no training. SICK-R and STS-B: test set.",
    "transfer": (
        "accuracy, probe `senteval` (Adam, nested 10-fold, 10-fold or split as in SentEval), "
        "SentEval's tokenized text. For encoders with few dimensions the probe `logistic` can score a point "
        "or more higher, because Adam stops before it converges: use `--probe senteval` to compare."
    ),
}

# Tasks: STS12, STS13, STS14, STS15, STS16, STS-B, SICK-R.
STS_ROWS = (
    PublishedRow("Avg. GloVe", SBERT, (55.14, 70.66, 59.73, 68.25, 63.66, 58.02, 53.76)),
    PublishedRow("Avg. BERT", SBERT, (38.78, 57.98, 57.98, 63.15, 61.06, 46.35, 58.40)),
    PublishedRow("BERT CLS", SBERT, (20.16, 30.01, 20.09, 36.88, 38.08, 16.50, 42.63)),
    PublishedRow("BERT first-last avg.", SIMCSE, (39.70, 59.38, 49.67, 66.03, 66.19, 53.87, 62.06)),
    PublishedRow("BERT-flow (NLI)", SIMCSE, (58.40, 67.10, 60.85, 75.16, 71.22, 68.66, 64.47)),
    PublishedRow("BERT-whitening (NLI)", SIMCSE, (57.83, 66.90, 60.90, 75.08, 71.31, 68.24, 63.73)),
    PublishedRow("InferSent-GloVe", SBERT, (52.86, 66.75, 62.15, 72.77, 66.87, 68.03, 65.65)),
    PublishedRow("USE", SBERT, (64.49, 67.80, 64.61, 76.83, 73.18, 74.92, 76.69)),
    PublishedRow("SBERT-NLI-base", SBERT, (70.97, 76.53, 73.19, 79.09, 74.30, 77.03, 72.91)),
    PublishedRow("SBERT-NLI-large", SBERT, (72.27, 78.46, 74.90, 80.99, 76.25, 79.23, 73.75)),
    PublishedRow("unsup. SimCSE-BERT", SIMCSE, (68.40, 82.41, 74.38, 80.91, 78.56, 76.85, 72.23)),
    PublishedRow("sup. SimCSE-BERT", SIMCSE, (75.30, 84.67, 80.19, 85.40, 80.82, 84.25, 80.39)),
    PublishedRow("sup. SimCSE-RoBERTa-large", SIMCSE, (77.46, 87.27, 82.36, 86.66, 83.93, 86.70, 81.95)),
)

# Tasks: MR, CR, SUBJ, MPQA, SST2, TREC, MRPC.
TRANSFER_ROWS = (
    PublishedRow("Avg. GloVe", SBERT, (77.25, 78.30, 91.17, 87.85, 80.18, 83.0, 72.87)),
    PublishedRow("Avg. fastText", SBERT, (77.96, 79.23, 91.68, 87.81, 82.15, 83.6, 74.49)),
    PublishedRow("Avg. BERT", SBERT, (78.66, 86.25, 94.37, 88.66, 84.40, 92.8, 69.45)),
    PublishedRow("BERT CLS", SBERT, (78.68, 84.85, 94.21, 88.23, 84.13, 91.4, 71.13)),
    PublishedRow("InferSent-GloVe", SBERT, (81.57, 86.54, 92.50, 90.38, 84.18, 88.2, 75.77)),
    PublishedRow("USE", SBERT, (80.09, 85.19, 93.98, 86.70, 86.38, 93.2, 70.14)),
    PublishedRow("SBERT-NLI-base", SBERT, (83.64, 89.43, 94.39, 89.86, 88.96, 89.6, 76.00)),
    PublishedRow("SBERT-NLI-large", SBERT, (84.88, 90.07, 94.52, 90.33, 90.66, 87.4, 75.94)),
    PublishedRow("Skip-thought", SIMCSE, (76.50, 80.10, 93.60, 87.10, 82.00, 92.20, 73.00)),
    PublishedRow("unsup. SimCSE-BERT", SIMCSE, (81.18, 86.46, 94.45, 88.88, 85.50, 89.80, 74.43)),
    PublishedRow("sup. SimCSE-BERT", SIMCSE, (82.69, 89.25, 94.81, 89.59, 87.31, 88.40, 73.51)),
    PublishedRow("sup. SimCSE-RoBERTa-large", SIMCSE, (88.12, 92.37, 95.11, 90.49, 92.75, 91.80, 76.64)),
)
