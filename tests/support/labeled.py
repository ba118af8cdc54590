"""Small labeled data that tiny encoders can separate, and the command line in this process."""

import csv
import json

import numpy as np
from click.testing import CliRunner

from sentenc.cli import cli

WORDS = {
    "music": ["man", "playing", "guitar", "plays", "instrument"],
    "market": ["stock", "market", "fell", "new", "york"],
    "pets": ["dog", "cat", "runs", "park", "good"],
}


def labeled(per_label=20, seed=0):
    """Draws distinct pairs (text, label): five words, three of which are specific to the label."""
    rng = np.random.default_rng(seed)
    rows = {}
    for label, words in WORDS.items():
        while sum(value == label for value in rows.values()) < per_label:
            chosen = [*rng.choice(words, 3), *rng.choice(["the", "a", "is", "in", "and", "of", "to"], 2)]
            rows[" ".join(chosen)] = label
    return list(rows.items())


def scored_pairs(n=60, seed=0):
    """(text1, text2, score) with a score of 0 to 3: how many of three words are the same."""
    rng = np.random.default_rng(seed)
    every = [word for words in WORDS.values() for word in words]
    rows = []
    for i in range(n):
        words = rng.choice(every, 6, replace=False).tolist()
        other = words[: i % 4] + words[3 : 6 - i % 4]
        rows.append((" ".join(words[:3]), " ".join(other), i % 4))
    return rows


def write_csv(path, header, rows, delimiter=","):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*arguments, code=0, stdin=None):
    """Returns standard output, and standard error with the message of an exception."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    raised = "" if result.exception is None else str(result.exception)
    return result.stdout, result.stderr + raised
