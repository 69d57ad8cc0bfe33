"""How to read a report's table, and how each of its numbers comes about."""

from experiments import formatting
from experiments.report.cells import DAGGER, needs
from experiments.report.summary import Summary
from experiments.report.tuned import Tuned

TESTS = {"sign_flip": "sign-flip", "wilcoxon": "Wilcoxon signed-rank"}
"""The paired tests as a reader knows them."""


_EQUAL = (
    "Whether the arm is as good as equal: yes where the 90% interval of the difference lies within the margin that the "
    "study declares (two one-sided tests at 5%). Not shown does not mean different."
)


_LATENCY = (
    "Milliseconds that the evaluation of one example takes, input and weights on the device, nothing else running: "
    "mean and 95% interval over rounds in which the arms take turns."
)


def origins(summary: Summary) -> tuple[str, ...]:
    """How each column's numbers come about, a sentence or two each, in the order of :func:`headings`."""
    baseline = summary.study.baseline_name
    paired = f"Trials of one seed share data split and data order with the trial of {baseline} of that seed."
    return (
        "One configuration under comparison, run with several seeds.",
        "Seeds whose trial finished. All that is said of the arm's metric rests on these.",
        "Mean and standard deviation over the trials that finished; in brackets a 95% interval of the mean.",
        f"Mean over the paired seeds of arm minus {baseline}, with a 95% interval. {paired}",
        "The difference in units of its own standard deviation over the seeds (Hedges' correction), with a 95% "
        "interval. Around 0.2 is small, around 0.8 large; it says how many seeds a test needs.",
        f"How often chance alone would make a difference at least this large, were the arm and {baseline} the same. "
        f"Corrected over {formatting.count(summary.family, 'comparison')} by Holm's procedure.",
        f"The share of all pairs of a run of the arm and a run of {baseline} in which the arm's is better. Trials that "
        "diverged or crashed count as worst.",
        *([_EQUAL] if summary.study.equivalence_margin is not None else []),
        "Trained parameters.",
        "Floating-point operations of one training step of one trial, as the compiler counts them.",
        "Seconds on the device that a trial trained for: mean and standard deviation over the finished trials.",
        *([_LATENCY] if summary.study.recommends else []),
    )


def legend(summary: Summary) -> tuple[str, ...]:
    """How to read the table, a sentence each."""
    metric, baseline = summary.study.metric, summary.study.baseline_name
    direction = "higher" if metric.higher_is_better else "lower"
    lines = [
        f"{metric.label[0].upper()}{metric.label[1:]}: mean ± standard deviation over seeds, {direction} is better; "
        "in brackets, 95% intervals (Student t, longer towards a long tail; not corrected for the number of "
        "comparisons)."
    ]
    if summary.untrained:
        lines.append("Rows without training: predictions that learn nothing, measured as the models are.")
    if summary.family:
        lines.append(
            f"Difference: arm minus {baseline}, paired by seed. p: two-sided {TESTS[summary.study.test]} test, Holm "
            f"correction over {formatting.count(summary.family, 'comparison')}. P(better): chance that a run of the "
            f"arm is better than an independent run of {baseline}, ties counted half. Effect: the difference in "
            "standard deviations of the paired differences."
        )
        if summary.study.again is not None:
            lines.append(f"A/A: {summary.study.again} is {baseline} under other seeds; what differs there is chance.")
        if any(row.comparison and row.comparison.testable and needs(row.comparison) for row in summary.rows):
            lines.append(
                "Needs: paired seeds with which a difference like the observed one would pass the corrected test with "
                "80% power, if it is what it seems."
            )
        if summary.study.equivalence_margin is not None:
            lines.append("Equal: the 90% interval of the difference lies within the margin (two one-sided tests).")
        lines.append(f"Bold: better than {baseline} with corrected p < 0.05.")
    if summary.registration is not None:
        registered = (
            f"Registered before the first step, {summary.registration.time}, sha256 {summary.registration.digest[:12]}"
        )
        marked = f"; {DAGGER}: arm added after that, exploratory" if summary.exploratory else ""
        lines.append(f"{registered}{marked}.")
    if summary.tuned is not None:
        lines.append(_tuning(summary.tuned))
        if any(row.edges for row in summary.rows):
            lines.append("Edge: the best value of this field is at an end of the range that was tried.")
    return (*lines, *summary.notes)


def _tuning(tuned: Tuned) -> str:
    """How the arms were tuned, in a sentence."""
    trials = sorted({winner.trials for winner in tuned.winners.values() if winner.trials}) or [0]
    each = formatting.count(trials[0], "setting") if len(trials) == 1 else f"{trials[0]} to {trials[-1]} settings"
    pruned = "" if tuned.pruning == "none" else f", hopeless ones stopped early ({tuned.pruning})"
    return (
        f"Each arm was tuned over {each} ({tuned.search} search; {formatting.count(tuned.seeds, 'seed')} and "
        f"{formatting.count(tuned.steps, 'step')} each{pruned}); the best {tuned.column.replace('_', ' ')} was run "
        "again on fresh seeds, and only those count here."
    )
