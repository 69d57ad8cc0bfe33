"""Of which metrics less is better, and of which more. Imports no jax."""

LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_", "mse", "mae", "smape", "mase")
"""Beginnings of the names of metrics of which less is better."""

SHARES = ("accuracy", "macro_f1", "token_accuracy", "string_accuracy", "exact_match")
"""The names of metrics between 0 and 1 of which more is better; they are printed in per cent."""

HIGHER_IS_BETTER = (*SHARES, "bleu")
"""The names of those of which more is."""


def higher_is_better(name: str) -> bool | None:
    """Whether more of a metric is better; None where it is not known.

    Args:
        name: without its split: ``accuracy``.
    """
    if name.startswith(LOWER_IS_BETTER):
        return False
    return True if name in HIGHER_IS_BETTER else None


def is_reached(name: str, value: float, target: float) -> bool:
    """Whether a metric's value is at the target or beyond; a value that is no number never is."""
    return value >= target if higher_is_better(name) else value <= target
