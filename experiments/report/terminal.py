"""The table and the verdict in the terminal."""

from collections.abc import Callable, Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.report.cells import Cell, cells, headings, untrained_cells
from experiments.report.legend import legend
from experiments.report.summary import Summary

_STYLES = {"supported": "bold green", "refuted": "bold red", "inconclusive": "bold yellow"}


def print_table(console: Console, summary: Summary) -> None:
    """Print the table, how to read it, the cautions, the verdict on each claim and, where there is one, the advice.

    Where the console is too narrow for the table, it is printed in parts, each with the arms' names.
    """
    study = summary.study
    console.print(Text.assemble((study.name, "bold"), f", preset {study.preset}"))
    for table in parts(console, len(headings(summary)), lambda columns: _table(summary, columns)):
        console.print(table)
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
    if summary.recommendation is not None:
        console.print()
        console.print(Text("RECOMMENDATION", style="bold green"))
        for sentence in summary.recommendation.sentences:
            console.print(Text(sentence))


def parts(console: Console, count: int, table: Callable[[list[int]], Table]) -> Iterator[Table]:
    """A table of ``count`` columns in parts that are as wide as the console, each with the first column."""
    whole = console.options.update(max_width=10_000)
    shown = [0]
    for column in range(1, count):
        longer = [*shown, column]
        if len(shown) > 1 and console.measure(table(longer), options=whole).maximum > console.width:
            yield table(shown)
            shown = [0, column]
        else:
            shown = longer
    yield table(shown)


def _table(summary: Summary, columns: list[int]) -> Table:
    """The table's columns of these numbers."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    head = headings(summary)
    for column in columns:
        table.add_column(stacked(head[column]), justify="right" if column else "left", overflow="fold")
    for row in summary.rows:
        texts = [stacked(cell) for cell in cells(row, summary.study)]
        if row.bold:
            for text in (texts[0], texts[2]):
                text.stylize("bold")
        table.add_row(*(texts[column] for column in columns))
    table.add_section()
    for row in summary.untrained:
        texts = [stacked(cell) for cell in untrained_cells(row, summary.study)]
        table.add_row(*(texts[column] for column in columns))
    return table


def stacked(cell: Cell) -> Text:
    """The detail dimmed below the text."""
    return Text.assemble(cell.text, (f"\n{cell.detail}" if cell.detail else "", "dim"))
