"""What came out, published: from the folders of finished studies to ``RESULTS.md``.

``--publish runs/a runs/b`` takes from each folder the numbers that its report computed from the records, into
``experiments/results/STUDY-PRESET.json`` (and a small picture), and writes ``experiments/RESULTS.md`` anew from all of
these files. So studies may be run in as many sittings, and published as often, as it takes.
"""

import io
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.report import results
from models.base import BadInput
from train.records import write_atomically

HOME = Path(__file__).parent
"""Where ``RESULTS.md`` and the folder ``results`` lie."""

_COLOURS = 64  # of a published picture: a quarter of the bytes, and no difference that an eye sees

_VERDICT = ("metric", "baseline", "seeds", "confidence", "test", "cautions", "failures", "provenance", "data", "claims")
_CLAIM = ("kind", "statement", "source", "outcome", "exploratory", "quantity", "estimate", "interval", "p_value", "n")
_ARM = ("arm", "metric", "diverged", "crashed", "comparison", "parameters", "flops_per_step", "train_seconds")


def publish(folders: Sequence[str | Path], home: Path = HOME) -> Path:
    """Publish these studies beside those that are published already; returns the page.

    Args:
        folders: each with a finished study and its report.
        home: where the page and the folder ``results`` go.

    Raises:
        BadInput: a folder has no finished study of evidence; nothing has been written.
    """
    entries = [(Path(folder), entry(Path(folder))) for folder in folders]
    kept = home / "results"
    kept.mkdir(exist_ok=True)
    for folder, content in entries:
        name = f"{content['study']}-{content['preset']}"
        picture = folder / "report" / "figures" / f"{content['figure']}.png"
        write_atomically(kept / f"{name}.png", _small(picture))
        write_atomically(kept / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    page = home / "RESULTS.md"
    write_atomically(page, results.markdown(published(kept)))
    return page


def published(folder: Path) -> list[dict[str, Any]]:
    """What is published, by the names of the files.

    Raises:
        BadInput: one of the files is damaged.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            raise BadInput(f"{path} is damaged; remove it and publish its study again") from None
    return found


def entry(folder: Path) -> dict[str, Any]:
    """What is published of a study, from its folder.

    Raises:
        BadInput: it holds no finished study of evidence.
    """
    # Late: pandas takes a second, and listing what is published needs none of it.
    from experiments import tables

    try:
        plan = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        verdict = json.loads((folder / "report" / "verdict.json").read_text(encoding="utf-8"))
        trials = set(tables.read(folder / "trials.csv")["trial"])
        sittings = tables.read(folder / "sittings.csv")
        missing = len({trial["trial"] for trial in plan["trials"]} - trials)
        content = {
            **{name: plan[name] for name in ("study", "preset", "notes", "remarks")},
            "command": _portable(plan["command"]),
            **{name: verdict[name] for name in _VERDICT},
            "figure": plan["figure"],
            "percent": plan["metric"]["percent"],
            "claims": [{name: claim[name] for name in (*_CLAIM, "explanation")} for claim in verdict["claims"]],
            "arms": [{name: arm[name] for name in _ARM} for arm in verdict["arms"]],
            "tuned": verdict["tuning"]
            and {name: dict(won["values"]) for name, won in verdict["tuning"]["arms"].items()},
            "trials": len(plan["trials"]),
            "tuning_trials": int(sittings.loc[sittings["tuning"], "trials"].sum()),
            "seconds": round(float(sittings["seconds"].sum()), 1),
            "sittings": len({str(row) for row in sittings.loc[~sittings["tuning"], "began"]}),
            "cores": sorted({int(cores) for cores in sittings["cores"]}),
        }
    except FileNotFoundError as error:
        raise BadInput(f"{folder} holds no finished study: {error.filename} does not exist") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{folder} holds no study that can be published: {_reason(error)}") from None
    if not verdict["evidence"]:
        raise BadInput(f"{folder} is of preset {plan['preset']}, which is no evidence: publish the preset cpu or full")
    if missing:
        raise BadInput(f"{folder}: {missing} of {len(plan['trials'])} trials have no record yet; run it to its end")
    return content


def _portable(command: str) -> str:
    """The command without the folders of the machine that it ran on."""
    words = shlex.split(command)
    return shlex.join(word for word in words if not word.startswith(("--workdir=", "--data_dir=")))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _small(picture: Path) -> bytes:
    """The picture in few colours."""
    from PIL import Image

    try:
        with Image.open(picture) as image:
            buffer = io.BytesIO()
            image.convert("RGB").quantize(_COLOURS).save(buffer, "png", optimize=True)
    except OSError as error:
        raise BadInput(
            f"{picture} is no picture that can be published ({error}); rebuild it with --report_only"
        ) from None
    return buffer.getvalue()
