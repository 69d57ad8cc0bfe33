"""What ``--list`` shows: studies by group, and data sets. Imports no jax."""

from rich.console import Console

from experiments import plan
from experiments.study import PRESETS
from train.data import registry


def show(console: Console) -> None:
    """Print every study with its claim, source and times, and every data set with its size and licence."""
    heads = {name: plan.about(name) for name in plan.study_names()}
    for group in dict.fromkeys(head.group for head in heads.values()):
        console.print(f"\n{group}", style="bold", highlight=False)
        for name, head in heads.items():
            if head.group != group:
                continue
            times = "; ".join(f"{preset}: {head.time[preset]}" for preset in PRESETS)
            console.print(f"  {name}", style="cyan", highlight=False)
            for line in (head.claim, f"Source: {head.source}", f"Time: {times}"):
                console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nData sets (--config.data.name=NAME)", style="bold", highlight=False)
    for name, files in registry.listing().items():
        for file in files:
            text = f"{name}: {file.filename}, {file.size:,} bytes; {file.licence}; sha256 {file.sha256[:12]}..."
            text += f"; {file.urls[0]}"
            console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
