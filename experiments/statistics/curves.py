"""Learning curves: bands around their mean, and the area under each."""

import dataclasses

import numpy as np
from jaxtyping import Float, Real
from scipy import special

from experiments.statistics.bootstrap import RESAMPLES
from experiments.statistics.intervals import CONFIDENCE, mean_interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
    """A mean curve and a band around it, a value for each evaluation.

    Attributes:
        mean: over the trials that have a value there; NaN where none has.
        low: lower end; NaN where fewer than two trials have a value.
        high: upper end.
        n: number of trials that have a value there.
    """

    mean: Float[np.ndarray, " steps"]
    low: Float[np.ndarray, " steps"]
    high: Float[np.ndarray, " steps"]
    n: np.ndarray


def pointwise_band(curves: Float[np.ndarray, "trials steps"]) -> Band:
    """The 95% interval of the mean at each step by itself, as :func:`mean_interval` has it.

    At any one step it covers the mean in 95% of studies; the whole curve in fewer. A trial that diverged counts up
    to its last finite value; ``n`` shows where it is missing.
    """
    finite = np.isfinite(curves)
    n = finite.sum(axis=0)
    columns = [curves[kept, step].astype(np.float64) for step, kept in enumerate(finite.T)]
    intervals = [mean_interval(column) for column in columns]
    return Band(
        mean=np.array([column.mean() if column.size else np.nan for column in columns]),
        low=np.array([interval.low for interval in intervals]),
        high=np.array([interval.high for interval in intervals]),
        n=n,
    )


def simultaneous_band(curves: Float[np.ndarray, "trials steps"], *, resamples: int = RESAMPLES, seed: int = 0) -> Band:
    """A band that covers the whole mean curve in 95% of studies: ``mean ± c sd / sqrt(n)``, one ``c`` for all steps.

    ``c`` is the 95% quantile of ``max_s |t_s|``, the largest t statistic along the curve. Its distribution comes from
    studies of as many curves, each a random combination ``Σ_i w_i (x_i - mean) / sqrt(n - 1)`` of the trials' own
    deviations with standard normal ``w``, so that steps depend on each other as they do in the trials. At a single
    step this gives Student's interval; ``c`` is never below its quantile.

    Only steps at which every trial has a value have a band: a trial that diverged ends it there. Where all trials
    agree the band has no width.

    Source:
        Montiel Olea and Plagborg-Møller (2019), Simultaneous confidence bands: theory, implementation, and an
        application to SVARs, section 2 (sup-t); the studentised wild bootstrap for so few trials.
    """
    trials, steps = curves.shape
    n = np.isfinite(curves).sum(axis=0)
    mean = np.full(steps, np.nan)
    low, high = mean.copy(), mean.copy()
    whole = n == trials
    if trials < 2 or not whole.any():
        return Band(mean=mean, low=low, high=high, n=n)
    values = curves[:, whole].astype(np.float64)
    centre, scale = values.mean(axis=0), values.std(axis=0, ddof=1)
    varies = scale > 8 * np.finfo(np.float64).eps * np.abs(values).max(axis=0)
    deviations = (values - centre)[:, varies] / scale[varies]
    critical = _largest_t(deviations, resamples, seed)
    half = np.where(varies, critical * scale / np.sqrt(trials), 0.0)
    mean[whole], low[whole], high[whole] = centre, centre - half, centre + half
    return Band(mean=mean, low=low, high=high, n=n)


def _largest_t(deviations: Float[np.ndarray, "trials steps"], resamples: int, seed: int) -> float:
    """The 95% quantile of the largest absolute t statistic along simulated curves."""
    trials, steps = deviations.shape
    single = float(special.stdtrit(trials - 1, (1 + CONFIDENCE) / 2))
    if steps < 2:
        return single
    generator = np.random.default_rng(seed)
    largest = np.empty(resamples)
    batch = max(1, 4_000_000 // (trials * steps))
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        simulated = generator.normal(size=(size, trials, trials)) @ deviations
        spread = simulated.std(axis=1, ddof=1)
        t = np.abs(simulated.mean(axis=1)) * np.sqrt(trials) / spread
        largest[start : start + size] = t.max(axis=1)
    return max(single, float(np.quantile(largest, CONFIDENCE)))


def area_under_curve(
    steps: Real[np.ndarray, " steps"], curves: Float[np.ndarray, "trials steps"]
) -> Float[np.ndarray, " trials"]:
    """Mean height of each curve: its area by the trapezoidal rule over the length of its axis.

    Returns:
        NaN for a trial without a value at some step: it diverged or crashed.

    Raises:
        ValueError: fewer than two steps, or steps that do not rise.
    """
    if steps.size < 2 or not (np.diff(steps) > 0).all():
        raise ValueError("an area needs at least two rising steps")
    values = np.where(np.isfinite(curves), curves, np.nan).astype(np.float64)
    return np.trapezoid(values, steps, axis=1) / (steps[-1] - steps[0])
