"""rich: how labels were shared out, as a table in a terminal, with a reason for each line."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tasks.adapters.fleet_table import printable
from tasks.core.entities import Allocation


def allocation_table(allocation: Allocation) -> Group:
    """A row a cell: its labels, what it can deliver, and why. Below it what a reader must know."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("labels", justify="right", no_wrap=True)
    table.add_column("of", justify="right", no_wrap=True, style="dim")
    table.add_column("why", overflow="fold")
    for row in allocation.cells:
        supply = "any" if row.supply is None else f"{row.supply:,}"
        style = "" if row.labels else "dim"
        table.add_row(f"{row.labels:,}", supply, Text(printable(row.reason), style=style))
    total = Text(f"{allocation.handed_out:,} of {allocation.labels:,} labels, allocation {allocation.number}", "bold")
    warnings = [Text(printable(line), style="yellow") for line in allocation.warnings]
    return Group(table, total, *warnings)
