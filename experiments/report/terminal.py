"""The table and the verdict in the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.report.cells import Cell, cells, headings, untrained_cells
from experiments.report.legend import legend
from experiments.report.summary import Summary

_STYLES = {"supported": "bold green", "refuted": "bold red", "inconclusive": "bold yellow"}


def print_table(console: Console, summary: Summary) -> None:
    """Print the table, how to read it, the cautions and, last, the verdict on each claim.

    Where the console is too narrow for the table, it is printed in parts, each with the arms' names.
    """
    study = summary.study
    console.print(Text.assemble((study.name, "bold"), f", preset {study.preset}"))
    for columns in _parts(console, summary):
        console.print(_table(summary, columns))
    for line in legend(summary):
        console.print(Text(line, style="dim"))
    for line in summary.cautions:
        console.print(Text.assemble(("! ", "yellow"), line))
    for verdict in summary.verdicts:
        console.print()
        mark = " (exploratory)" if summary.is_exploratory(verdict) else ""
        outcome = (verdict.outcome.upper() + mark, _STYLES[verdict.outcome])
        console.print(Text.assemble(outcome, f": {verdict.statement}"))
        console.print(Text(verdict.explanation))


def _parts(console: Console, summary: Summary) -> list[list[int]]:
    """The columns of each part of the table: as many as the console is wide."""
    whole = console.options.update(max_width=10_000)
    parts: list[list[int]] = [[0]]
    for column in range(1, len(headings(summary))):
        longer = [*parts[-1], column]
        if len(parts[-1]) > 1 and console.measure(_table(summary, longer), options=whole).maximum > console.width:
            parts.append([0, column])
        else:
            parts[-1] = longer
    return parts


def _table(summary: Summary, columns: list[int]) -> Table:
    """The table's columns of these numbers."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    head = headings(summary)
    for column in columns:
        table.add_column(_stacked(head[column]), justify="right" if column else "left", overflow="fold")
    for row in summary.rows:
        texts = [_stacked(cell) for cell in cells(row, summary.study)]
        if row.bold:
            for text in (texts[0], texts[2]):
                text.stylize("bold")
        table.add_row(*(texts[column] for column in columns))
    table.add_section()
    for row in summary.untrained:
        texts = [_stacked(cell) for cell in untrained_cells(row, summary.study)]
        table.add_row(*(texts[column] for column in columns))
    return table


def _stacked(cell: Cell) -> Text:
    """The detail dimmed below the text."""
    return Text.assemble(cell.text, (f"\n{cell.detail}" if cell.detail else "", "dim"))
