"""How fast training steps are when nothing keeps them back."""

import math

STRETCH_SECONDS = 1.0
"""Steps are timed over at least so long: the end of a single dispatch is noticed a little early or late."""


class Pace:
    """Finds the fastest stretch of a training, and what all of its steps would take at that pace.

    A step is faster once some trials have come to their end: each number of trials has stretches of its own.
    """

    def __init__(self) -> None:
        self._stretches: dict[int, _Stretches] = {}

    def add(self, trials: int, seconds: float, steps: int) -> None:
        """Count steps that have been taken.

        Args:
            trials: how many were going on.
            seconds: that the steps took.
            steps: their number, at least 1.
        """
        self._stretches.setdefault(trials, _Stretches()).add(seconds, steps)

    @property
    def ideal_seconds(self) -> float:
        """Seconds that all steps so far would take, each as fast as those of the fastest stretch."""
        return sum(stretches.ideal_seconds for stretches in self._stretches.values())


class _Stretches:
    """The steps of one number of trials."""

    def __init__(self) -> None:
        self.seconds, self.steps = 0.0, 0
        self.begun_seconds, self.begun_steps = 0.0, 0
        self.fastest = math.inf

    def add(self, seconds: float, steps: int) -> None:
        self.seconds, self.steps = self.seconds + seconds, self.steps + steps
        self.begun_seconds, self.begun_steps = self.begun_seconds + seconds, self.begun_steps + steps
        if self.begun_seconds >= STRETCH_SECONDS:
            self.fastest = min(self.fastest, self.begun_seconds / self.begun_steps)
            self.begun_seconds, self.begun_steps = 0.0, 0

    @property
    def ideal_seconds(self) -> float:
        return min(self.fastest * self.steps, self.seconds)
