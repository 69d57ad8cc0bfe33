"""Reports: tables, figures and the page that a study leaves behind."""

from experiments.report.folder import write
from experiments.report.summary import Summary, summarise
from experiments.report.terminal import print_table

__all__ = ["Summary", "print_table", "summarise", "write"]
