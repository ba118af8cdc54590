"""Builds ``english.txt.xz`` from English passages: ``python -m sentenc.encoders.hybrid.make_english FILE MOST``.

FILE has a passage a line, and the first MOST lines are counted. Terms are those of PyStemmer 3. The file that ships was
counted on 120,000 shuffled passages; :meth:`InverseDocumentFrequencies.english` names their sources.
"""

import lzma
import sys
from collections import defaultdict
from itertools import islice
from pathlib import Path

from sentenc.encoders.hybrid.idf import count_terms, idf, most_frequent

_TERMS, _LEAST_TEXTS = 25_000, 10
# The number of passages with a term that is not in the file.
_RARE = 4


def main(file: str, most: int) -> None:
    """Writes the file next to this module."""
    with open(file, encoding="utf-8") as lines:
        n, counts = count_terms(islice(lines, most), "en")
    groups: dict[float, list[str]] = defaultdict(list)
    for term in most_frequent(counts, _TERMS, _LEAST_TEXTS):
        groups[_rounded(idf(n, counts[term]))].append(term)
    rows = [" ".join([f"{value:g}", *sorted(terms)]) for value, terms in sorted(groups.items())]
    rows.append(f"{_rounded(idf(n, _RARE)):g}")
    content = lzma.compress("\n".join([*rows, ""]).encode(), preset=9 | lzma.PRESET_EXTREME)
    Path(__file__).with_name("english.txt.xz").write_bytes(content)


def _rounded(value: float) -> float:
    return round(4 * value) / 4


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
