"""``table.tex``: the table as a paper prints it."""

from experiments.report.cells import cells, headings, untrained_cells
from experiments.report.legend import legend
from experiments.report.summary import Summary

_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
    '"': "''",
    "\N{DAGGER}": r"$\dagger$",
}


def latex_text(text: str) -> str:
    """``text`` with every character that LaTeX would read as a command escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def latex(summary: Summary) -> str:
    r"""``table.tex``: a ``table*`` for ``\usepackage{booktabs}``; intervals stand below their values."""
    head = headings(summary)
    lines = [
        r"% Needs \usepackage{booktabs}. Made by Paribus: " + summary.command.replace("\n", " "),
        r"\begin{table*}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        # Centred also where it is wider than the text; a tabular alone would stick out to the right.
        r"\makebox[\textwidth][c]{%",
        r"\begin{tabular}{@{}l" + "r" * (len(head) - 1) + r"@{}}",
        r"\toprule",
        latex_line([cell.text for cell in head]),
        latex_line([f"({cell.detail})" if cell.detail else "" for cell in head]),
        r"\midrule",
    ]
    for index, row in enumerate(summary.rows):
        row_cells = cells(row, summary.study)
        lines.append(latex_line([cell.text for cell in row_cells], bold=row.bold))
        lines.append(latex_line([cell.detail for cell in row_cells], small=True))
        if index == 0 and len(summary.rows) > 1:
            lines.append(r"\midrule")
    if summary.untrained:
        lines.append(r"\midrule")
    for row in summary.untrained:
        row_cells = untrained_cells(row, summary.study)
        lines.append(latex_line([cell.text for cell in row_cells]))
        lines.append(latex_line([cell.detail for cell in row_cells], small=True))
    caption = " ".join([*legend(summary), *summary.cautions])
    lines += [
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\label{{tab:{summary.study.name}}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def latex_line(texts: list[str], *, bold: bool = False, small: bool = False) -> str:
    """A row of a LaTeX table; ``bold`` sets the first and the third cell, ``small`` all."""
    escaped = [latex_text(text) for text in texts]
    if bold:
        # Values in mathematical mode need \boldmath beside \bfseries.
        for column in (0, 2):
            escaped[column] = rf"{{\boldmath\bfseries {escaped[column]}}}"
    if small:
        escaped = [rf"{{\scriptsize {text}}}" if text else "" for text in escaped]
    return " & ".join(escaped) + r" \\"
