"""Run an experiment and report: table, figures, verdict.

  python -m experiments --list                  every study: name, claim, source, time per preset
  python -m experiments --experiment=NAME       run it, or go on with it where it stopped; then report
  python -m experiments --data=NAME             what a data set is, with examples; trains nothing
  python -m experiments --compare runs/A runs/B report over several finished studies
  python -m experiments --publish runs/A runs/B experiments/RESULTS.md, from the records of finished studies
  python -m experiments --export=RUN_FOLDER     a safetensors file of weights for each trial
  python -m experiments --experiment=NAME --explain  show in the report what the trained models look at

Any field of the baseline is changed by --config.PATH=VALUE, e.g. --config.model.width=512; the
paths are shown by --dry_run. Exit status: 0 done, whatever the verdict; 2 bad input; 3 a trial
crashed, the rest is recorded; 130 interrupted, and the same command goes on; 85 the same of --distributed.
"""

import itertools
import logging
import sys
from collections.abc import Sequence

from absl import flags
from rich.console import Console
from rich.logging import RichHandler

from experiments import listing, plan
from experiments.arguments import CONFIG, LAUNCH, TUNE, Pairs, taken_out
from experiments.failures import of_a_gang, reason
from experiments.study import PRESETS
from models.base import BadInput, unknown
from train import processes
from train.processes import STATUS
from train.signals import Interrupted, deferred, terminable

OPTIONS = flags.FlagValues()
flags.DEFINE_string("experiment", None, "The study to run: a name that --list shows.", flag_values=OPTIONS)
flags.DEFINE_string("data", None, "Describe this data set instead: a name that --list shows.", flag_values=OPTIONS)
flags.DEFINE_string(
    "preset",
    "cpu",
    "smoke: seconds, no evidence. cpu: minutes on 2 cores. full: the paper's scale, for an accelerator.",
    flag_values=OPTIONS,
)
flags.DEFINE_integer("seeds", None, "How many paired seeds; the study's own number if not given.", flag_values=OPTIONS)
flags.DEFINE_list("arms", None, "Arms to run beside the baseline, with commas; all if not given.", flag_values=OPTIONS)
flags.DEFINE_list(
    "only", None, "Run only these arms or trials of the plan, with commas, e.g. cnn or cnn-s3.", flag_values=OPTIONS
)
flags.DEFINE_multi_string(
    "vary",
    [],
    "PATH=A,B: make an arm of every combination of these values, in place of the study's own arms. Repeatable.",
    flag_values=OPTIONS,
)
flags.DEFINE_bool("again", False, "Add an arm that is the baseline under other seeds (A/A).", flag_values=OPTIONS)
flags.DEFINE_list(
    "attribute_variance",
    None,
    "Where the baseline's spread comes from: arms in which one of init, order, noise, split alone varies.",
    flag_values=OPTIONS,
)
flags.DEFINE_bool(
    "tune",
    True,
    "Tune what the study declares before arms are compared; --notune: run the declared configurations. "
    "--tune.PATH=log:LOW:HIGH, LOW:HIGH or A,B,C declares a space. Repeatable.",
    flag_values=OPTIONS,
)
flags.DEFINE_integer("tuning_trials", None, "How many points each arm tries while tuning [16].", flag_values=OPTIONS)
flags.DEFINE_integer(
    "tuning_steps",
    None,
    "Steps of a tuning trial, schedule included; as many as the study's if not given.",
    flag_values=OPTIONS,
)
flags.DEFINE_integer("tuning_seeds", None, "Seeds of each tuning trial, from 1000 on [1].", flag_values=OPTIONS)
flags.DEFINE_string(
    "tuning_search",
    None,
    "Where points come from: sobol, halton, random, grid, tpe or gp [sobol].",
    flag_values=OPTIONS,
)
flags.DEFINE_string(
    "tuning_pruning", None, "What ends hopeless trials early: none, median, halving [none].", flag_values=OPTIONS
)
flags.DEFINE_string(
    "tuning_column",
    None,
    "The column validation_... that tuning compares; the study's curve if not given.",
    flag_values=OPTIONS,
)
flags.DEFINE_string(
    "tuning_storage",
    None,
    "Where tpe or gp lie for several machines: sqlite:///FILE, journal:///FILE, postgresql://USER@HOST/NAME.",
    flag_values=OPTIONS,
)
flags.DEFINE_string(
    "workdir", "runs", "Results go to WORKDIR/EXPERIMENT; pictures of data to WORKDIR/data.", flag_values=OPTIONS
)
flags.DEFINE_string("data_dir", None, "Where data sets lie: DATA_DIR/<data set>/<file>.", flag_values=OPTIONS)
flags.DEFINE_string(
    "launcher",
    "local",
    "Where trials run: local, slurm or ray. --launch.NAME=VALUE says what each pack of them asks for: "
    "--launch.gpus=1, --launch.minutes=60, --launch.partition=P, --launch.sbatch.qos=Q, --launch.address=A.",
    flag_values=OPTIONS,
)
flags.DEFINE_bool("dry_run", False, "Show the plan and what it costs; run and write nothing.", flag_values=OPTIONS)
flags.DEFINE_bool("report_only", False, "Rebuild the report from the records; run nothing.", flag_values=OPTIONS)
flags.DEFINE_list(
    "explain",
    None,
    "Show in the report what trained models look at: arms or trials with commas; without a value every arm's first.",
    flag_values=OPTIONS,
)
flags.DEFINE_bool(
    "accept_changed_data", False, "Go on although the data changed since; the records say so.", flag_values=OPTIONS
)
flags.DEFINE_string(
    "export", None, "Write each trial's weights to RUN_FOLDER/weights/TRIAL.safetensors.", flag_values=OPTIONS
)
flags.DEFINE_enum(
    "checkpoint",
    "last",
    ["last", "best"],
    "What --export and --explain take: the last checkpoint, or the best of those that were kept.",
    flag_values=OPTIONS,
)
flags.DEFINE_list(
    "compare", None, "Report over several finished studies: --compare runs/a runs/b [...].", flag_values=OPTIONS
)
flags.DEFINE_bool(
    "accept_mixed", False, "Compare records of different code or execution; the report says so.", flag_values=OPTIONS
)
flags.DEFINE_list(
    "publish",
    None,
    "Publish these finished studies in experiments/RESULTS.md: --publish runs/a runs/b [...].",
    flag_values=OPTIONS,
)
flags.DEFINE_list("tracker", (), "Tell these of the curves too, with commas: tensorboard, wandb.", flag_values=OPTIONS)
flags.DEFINE_bool(
    "profile", False, "Profile a few steps of each population, into WORKDIR/EXPERIMENT/profiles.", flag_values=OPTIONS
)
flags.DEFINE_bool(
    "parquet", False, "Write trials and curves as Parquet, too, beside the CSV files.", flag_values=OPTIONS
)
flags.DEFINE_bool("list", False, "List the studies and the data sets.", flag_values=OPTIONS)
flags.DEFINE_bool(
    "deterministic",
    False,
    "A GPU computes the same bits in every run, more slowly; on a CPU it does anyway.",
    flag_values=OPTIONS,
)
flags.DEFINE_string(
    "mesh",
    None,
    "Devices compute each trial together: sizes of data, fsdp, tensor, lanes: data:4,fsdp:2.",
    flag_values=OPTIONS,
)
flags.DEFINE_string(
    "distributed",
    None,
    "This is one of several processes: auto (srun, Open MPI, TPU) or HOST:PORT,INDEX/COUNT, with --mesh.",
    flag_values=OPTIONS,
)
flags.DEFINE_bool("help", False, "Show this text.", short_name="h", flag_values=OPTIONS)
flags.DEFINE_bool("debug", False, "Show the traceback of an error, and more of what happens.", flag_values=OPTIONS)

TUNING = ("trials", "steps", "seeds", "search", "pruning", "column")


def _check_values(arguments: Sequence[str]) -> None:
    """A flag that takes a value must not take the next flag for it.

    Raises:
        BadInput: one stands without a value.
    """
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue="--"):
        name = argument.removeprefix("--")
        takes_value = argument.startswith("--") and name in OPTIONS and not OPTIONS[name].boolean
        if takes_value and following.startswith("--"):
            raise BadInput(f"{argument} has no value; write {argument}=VALUE")


def _parse(arguments: Sequence[str]) -> tuple[Pairs, Pairs, Pairs]:
    """Set the flags; return the overrides, the spaces to tune, and what to ask a cluster for."""
    for name in OPTIONS:
        OPTIONS[name].unparse()  # back to the default: an earlier call in this process leaves nothing behind
    rest, overrides = taken_out(arguments, CONFIG)
    rest, spaces = taken_out(rest, TUNE)
    rest, asked = taken_out(rest, LAUNCH)
    rest = ["--explain=" if argument == "--explain" else argument for argument in rest]  # its value may be left out
    _check_values(rest)
    try:
        surplus = OPTIONS(["experiments", *rest])[1:]
    except flags.UnrecognizedFlagError as error:
        names = [name for name in OPTIONS if len(name) > 1]
        raise unknown("flag", f"--{error.flagname}", [f"--{name}" for name in names]) from None
    except flags.IllegalFlagValueError as error:
        flag, _, _ = str(error).removeprefix("flag ").partition(": ")
        numbers = ("--seeds", *(f"--tuning_{name}" for name in ("trials", "steps", "seeds")))
        kinds = {**dict.fromkeys(numbers, "an integer"), "--checkpoint": "last or best"}
        kind = kinds.get(flag.partition("=")[0], "true or false")
        raise BadInput(f"{flag} must be {kind}") from None
    except flags.Error as error:
        raise BadInput(" ".join(str(error).split())) from None
    if OPTIONS.compare is not None:
        OPTIONS.compare = [*OPTIONS.compare, *surplus]
    elif OPTIONS.publish is not None:
        OPTIONS.publish = [*OPTIONS.publish, *surplus]
    elif surplus:
        raise BadInput(f"unexpected argument {surplus[0]!r}; options start with --")
    if OPTIONS.preset not in PRESETS:
        raise unknown("preset", OPTIONS.preset, PRESETS)
    return overrides, spaces, asked


def _help() -> str:
    """The module's text and a line for each flag."""
    lines = [__doc__ or "", "Flags:"]
    for flag in sorted((OPTIONS[name] for name in OPTIONS if len(name) > 1), key=lambda flag: flag.name):
        value = "" if flag.boolean else "=VALUE"
        default = f" [{flag.value}]" if isinstance(flag.default, str) else ""
        meaning = flag.help.partition(";\n")[0]  # absl says of every repeatable flag that it is one
        lines.append(f"  {f'--{flag.name}{value}':<22} {meaning}{default}")
    return "\n".join(lines)


def _describe(overrides: Pairs, console: Console) -> int:
    """Describe the data set that the flags name. jax is imported from here on."""
    if OPTIONS.experiment is not None:
        raise BadInput("--data describes a data set and --experiment runs a study: give one of the two")
    with deferred():
        from experiments import describe

    describe.show(OPTIONS.data, overrides, data_dir=OPTIONS.data_dir, workdir=OPTIONS.workdir, console=console)
    return 0


def _export(console: Console) -> int:
    """Write the weights of the study in the folder that the flags name. jax is imported from here on."""
    if OPTIONS.experiment is not None:
        raise BadInput("--export writes the weights of a folder and --experiment runs a study: give one of the two")
    with deferred():
        from experiments import export

    export.show(export.export(OPTIONS.export, OPTIONS.checkpoint), console)
    return 0


def _compare(console: Console) -> int:
    """Report over the studies in the folders that the flags name."""
    if OPTIONS.experiment is not None:
        raise BadInput("--compare reports on finished studies and --experiment runs one: give one of the two")
    with deferred():
        from experiments.report import across

    across.compare(OPTIONS.compare, OPTIONS.workdir, console, accept_mixed=OPTIONS.accept_mixed)
    return 0


def _publish(console: Console) -> int:
    """Publish the studies in the folders that the flags name."""
    if OPTIONS.experiment is not None:
        raise BadInput("--publish reports on finished studies and --experiment runs one: give one of the two")
    with deferred():
        from experiments import publication

    page = publication.publish([*OPTIONS.publish])
    console.print(f"Results: {page}", highlight=False, soft_wrap=True)
    return 0


def _factors() -> Pairs:
    """The paths and values of ``--vary``.

    Raises:
        BadInput: one is not PATH=VALUES.
    """
    pairs = [text.partition("=") for text in OPTIONS.vary]
    for path, equals, values in pairs:
        if not (path and equals and values):
            raise BadInput(f"--vary={path}{equals}{values} must be PATH=VALUE,VALUE, e.g. --vary=model.width=64,128")
    return [(path, values) for path, _, values in pairs]


def _run(overrides: Pairs, spaces: Pairs, asked: Pairs, console: Console) -> int:
    """Run or report the experiment that the flags name. jax is imported from here on."""
    name, arms = OPTIONS.experiment, OPTIONS.arms
    if name not in plan.study_names():
        raise unknown("experiment", name, plan.study_names())
    design = {"vary": _factors(), "again": OPTIONS.again, "variance": OPTIONS.attribute_variance}
    given = [(key, OPTIONS[f"tuning_{key}"].value) for key in TUNING]
    tuning = {"tune": OPTIONS.tune, "tuned": [*spaces, *((key, value) for key, value in given if value is not None)]}
    if OPTIONS.mesh is not None:
        overrides = [*overrides, ("execution.mesh", OPTIONS.mesh)]
    with deferred():
        from experiments import adaptation, dry_run, launchers, runner

        study = runner.load(name, OPTIONS.preset)
    launch = launchers.declared(OPTIONS.launcher, asked)
    if OPTIONS.distributed is not None:
        if launch.options is not None:
            raise BadInput(f"--distributed runs here: leave it out, or --launcher={launch.kind}")
        processes.join(OPTIONS.distributed)
        if not processes.is_first():
            console = Console(quiet=True)
            logging.getLogger("paribus").setLevel(logging.ERROR)
    if OPTIONS.dry_run:
        study = adaptation.adapted(study, overrides, OPTIONS.data_dir)
        resolved = plan.resolve(study, seeds=OPTIONS.seeds, arms=arms, overrides=overrides, **design)
        dry_run.show(
            resolved,
            OPTIONS.data_dir,
            console,
            workdir=OPTIONS.workdir,
            storage=OPTIONS.tuning_storage,
            launch=launch,
            **tuning,
        )
        return 0
    launch.occupy_no_accelerator()
    result = runner.run(
        name,
        preset=OPTIONS.preset,
        seeds=OPTIONS.seeds,
        arms=arms,
        overrides=overrides,
        **design,
        **tuning,
        tuning_storage=OPTIONS.tuning_storage,
        launch=launch,
        workdir=OPTIONS.workdir,
        data_dir=OPTIONS.data_dir,
        report_only=OPTIONS.report_only,
        explain=OPTIONS.explain,
        checkpoint=OPTIONS.checkpoint,
        accept_changed_data=OPTIONS.accept_changed_data,
        deterministic=OPTIONS.deterministic,
        tracker=OPTIONS.tracker,
        profile=OPTIONS.profile,
        only=OPTIONS.only,
        parquet=OPTIONS.parquet,
        console=console,
    )
    return 3 if result.crashed else 0


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks; return the exit status."""
    console, errors = Console(), Console(stderr=True)
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=errors, show_path=False)]
    )
    logger = logging.getLogger("paribus")
    logger.setLevel(logging.INFO)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what Orbax reports there, it also raises
    try:
        overrides, spaces, asked = _parse(arguments)
        if OPTIONS.debug:
            logger.setLevel(logging.DEBUG)
        if OPTIONS.help:
            console.print(_help(), highlight=False, markup=False, soft_wrap=True)
            return 0
        if OPTIONS.list:
            listing.show(console)
            return 0
        if OPTIONS.data is not None:
            with terminable():
                return _describe(overrides, console)
        if OPTIONS.compare is not None:
            with terminable():
                return _compare(console)
        if OPTIONS.publish is not None:
            with terminable():
                return _publish(console)
        if OPTIONS.export is not None:
            with terminable():
                return _export(console)
        if OPTIONS.experiment is None:
            raise BadInput(f"name an experiment: --experiment=NAME, one of {', '.join(plan.study_names())}")
        with terminable():
            return _run(overrides, spaces, asked, console)
    except (BadInput, OSError) as error:
        if OPTIONS.is_parsed() and OPTIONS.debug:
            raise
        errors.print(f"error: {reason(error)}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 2
    except (Interrupted, KeyboardInterrupt):
        errors.print("interrupted; the same command goes on from the last checkpoint", highlight=False)
        return STATUS if processes.count() > 1 else 130
    except Exception as error:
        if processes.count() == 1 or (OPTIONS.is_parsed() and OPTIONS.debug):
            raise
        return of_a_gang(error, errors)


if __name__ == "__main__":
    processes.leave(main(sys.argv[1:]))
