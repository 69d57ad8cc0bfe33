"""The pace of training steps."""

import pytest

from train.pace import Pace


def test_the_fastest_stretch_sets_the_pace():
    pace = Pace()
    for seconds in (4.0, 2.0, 3.0):
        pace.add(8, seconds, 100)
    assert pace.ideal_seconds == pytest.approx(300 * 2.0 / 100)


def test_short_dispatches_are_timed_together():
    pace = Pace()
    for _ in range(5):
        pace.add(8, 0.5, 10)  # noticed late
        pace.add(8, 0.1, 10)  # and so this one early
        pace.add(8, 0.5, 10)
    assert pace.ideal_seconds == pytest.approx(150 * 1.1 / 30)


def test_what_took_less_than_a_stretch_is_its_own_ideal():
    pace = Pace()
    pace.add(8, 0.25, 10)
    pace.add(8, 0.125, 30)
    assert pace.ideal_seconds == 0.375


def test_fewer_trials_have_a_pace_of_their_own():
    pace = Pace()
    pace.add(8, 8.0, 10)
    pace.add(2, 2.0, 10)
    pace.add(2, 4.0, 10)
    assert pace.ideal_seconds == 8.0 + 4.0


def test_nothing_done_takes_no_time():
    assert Pace().ideal_seconds == 0
