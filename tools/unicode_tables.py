"""Writes sentenc/tokenization/unicode.json: the rules of Unicode of the ``tokenizers`` library.

    python tools/unicode_tables.py

Every rule is read from the installed library, one code point at a time. tests/test_unicode_rules.py compares the
file with the library.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

OUTPUT = Path(__file__).resolve().parents[1] / "sentenc" / "tokenization" / "unicode.json"

# Python's rules for Hangul syllables are those of the library, and cannot change.
_HANGUL = range(0xAC00, 0xD7A4)
_SURROGATES = range(0xD800, 0xE000)
_NFD = normalizers.NFD().normalize_str
_STEPS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")


def main() -> None:
    """Writes the file."""
    parts = tables()
    lines = [f'"{name}": {_json(value)}' for name, value in parts.items()]
    OUTPUT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")


def tables() -> dict[str, object]:
    """Returns the content of the file."""
    characters = [chr(point) for point in range(0x110000) if point not in _SURROGATES]
    clean, cjk, strip, lower = ({c: f(c) for c in characters} for f in map(_normalizer, _STEPS))
    pieces = {c: len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(f"x{c}x")) for c in characters}
    parts = {c: _NFD(c) for c in characters if ord(c) not in _HANGUL}
    return {
        "source": f"tokenizers {tokenizers.__version__}",
        "removed": _ranges(c for c in characters if clean[c] == ""),
        "spaces": _ranges(c for c in characters if clean[c] == " "),
        "cjk": _ranges(c for c in characters if cjk[c] == f" {c} "),
        "marks": _ranges(c for c in characters if strip[c] == ""),
        "whitespace": _ranges(c for c in characters if pieces[c] == 2),
        "punctuation": _ranges(c for c in characters if pieces[c] == 3),
        "classes": {c: n for c in parts if parts[c] == c and (n := _combining_class(c))},
        "parts": {c: part for c, part in parts.items() if part != c},
        "lower": {c: lower[c] for c in characters if lower[c] != c},
    }


def _combining_class(character: str) -> int:
    """Returns the canonical combining class; 0 for a character that the library does not move.

    The library knows fewer marks than Python. The class of a mark never changes.
    """
    # U+0345 has the highest class, so every other mark moves before it.
    if character != "\u0345" and _NFD(f"\u0345{character}") == f"\u0345{character}":
        return 0
    return unicodedata.combining(character)


def _normalizer(step: str) -> Callable[[str], str]:
    return normalizers.BertNormalizer(**{name: name == step for name in _STEPS}).normalize_str


def _ranges(characters: Iterable[str]) -> list[list[int]]:
    """Returns the first and the last code point of every run."""
    ranges: list[list[int]] = []
    for point in map(ord, characters):
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return ranges


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main()
