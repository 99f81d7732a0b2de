"""Where the entries of a JSON file begin: people look for a line, programs count entries.

A second walk over the text, only where something is wrong with it; the decoder itself does not say where it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from json import JSONDecoder, detect_encoding

from tasks.adapters.labels.dataset import Problems

_ENTRY = re.compile(r": (?P<list>images|annotations|tasks)\[(?P<n>[0-9]+)\]")
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = JSONDecoder()


def with_lines(problems: Problems, data: bytes, where: str) -> Problems:
    """The same problems, with the line of the file `where` in which each one's entry begins: `where:17: images[3]`."""
    matches = [_ENTRY.search(problem.where) for problem in problems.first]
    if not any(matches):
        return problems
    try:
        lines = lines_of_entries(data)
    except RecursionError:  # as deep as can be read: the entry's number has to do
        return problems
    first = []
    for problem, match in zip(problems.first, matches):
        known = lines.get(match["list"], []) if match else []
        if match and int(match["n"]) < len(known):
            rest = problem.where[match.start() :]
            problem = replace(problem, where=f"{where}:{known[int(match['n'])]}{rest}")
        first.append(problem)
    return Problems(problems.counts, first)


def lines_of_entries(data: bytes) -> dict[str, list[int]]:
    """The lines, from 1, in which the entries of each list of a JSON object begin; of a list itself, as `tasks`.

    data: valid JSON.
    """
    text = data.decode(detect_encoding(data), "surrogatepass")
    at = _skip(text, 0)
    starts = {"tasks": list(_entries(text, at))} if text[at] == "[" else dict(_lists(text, at))
    return {key: _lines(text, found) for key, found in starts.items()}


def _lists(text: str, at: int) -> Iterator[tuple[str, list[int]]]:
    """The lists of the object that begins at `at`, by key, as the places of their entries."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # behind the colon
        if text[at] == "[":
            yield key, list(_entries(text, at))
        _, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at


def _entries(text: str, at: int) -> Iterator[int]:
    at = _skip(text, at + 1)
    while text[at] != "]":
        yield at
        _, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at


def _lines(text: str, starts: list[int]) -> list[int]:
    lines, line, before = [], 1, 0
    for start in starts:
        line += text.count("\n", before, start)
        lines.append(line)
        before = start
    return lines


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
