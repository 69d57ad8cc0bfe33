"""What ``--list`` shows: studies by group, and data sets. Imports no jax."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from experiments import plan
from experiments.study import GROUPS, PRESETS, About
from models.base import plugin
from train.data import registry
from train.data.files import Packaged, Remote


def show(console: Console) -> None:
    """Print every study with its claim, source and times, and every data set with the size of its files."""
    heads = {name: plan.about(name) for name in plan.study_names()}
    for group, names in grouped(heads).items():
        console.print(f"\n{group}", style="bold", highlight=False)
        for name in names:
            head = heads[name]
            times = "; ".join(f"{preset}: {head.time[preset]}" for preset in PRESETS)
            console.print(f"  {name}", style="cyan", highlight=False)
            for line in (head.claim, f"Source: {head.source}", f"Time: {times}"):
                console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nData sets (--config.data.name=NAME; --data=NAME describes one)", style="bold", highlight=False)
    for name, files in registry.listing().items():
        console.print(f"  {name}", style="cyan", highlight=False, end=" ")
        summary = (plugin("train.data", name, kind="data set").__doc__ or "").strip().partition("\n")[0]
        console.print(summary + _download(files), highlight=False, markup=False, soft_wrap=True)


def grouped(heads: Mapping[str, About]) -> dict[str, list[str]]:
    """The names of studies by group, known groups in their order."""
    found = dict.fromkeys(head.group for head in heads.values())
    groups = [*(group for group in GROUPS if group in found), *(group for group in found if group not in GROUPS)]
    return {group: [name for name, head in heads.items() if head.group == group] for group in groups}


def _download(files: Sequence[Remote | Packaged]) -> str:
    """What there is to download and under what licence, in words; nothing where nothing is."""
    remote = [file for file in files if isinstance(file, Remote)]
    if not remote:
        return ""
    licences = ", ".join(dict.fromkeys(file.licence for file in remote))
    return f" {sum(file.size for file in remote) / 1e6:,.1f} MB of files; licence: {licences}."
