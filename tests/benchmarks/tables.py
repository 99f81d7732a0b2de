"""The tables that benchmarks print, the same in a terminal and in RESULTS.md."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text below a title. notes: sentences that a reader needs to judge the figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        """Markdown; without rows only the notes."""
        parts = [f"### {self.title}", *([self.grid()] if self.rows else []), *self.notes]
        return "\n\n".join(parts) + "\n"

    def grid(self) -> str:
        """Aligned columns: words of the first to the left, figures to the right."""
        lines = [self.columns, *self.rows]
        widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(self.columns))]
        head, *body = (_line(line, widths) for line in lines)
        rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
        return "\n".join([head, f"|{rule}|", *body])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"
