"""Progress: shares and times, on a terminal and in a log."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from experiments import progress
from experiments.progress import StudyProgress, clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599.7, "1:00:00"), (3600 * 25 + 62, "25:01:02")],
)
def test_a_duration_is_written_like_a_clock(seconds, text):
    assert clock(seconds) == text


@given(st.integers(0, 10**6))
def test_a_clock_can_be_read_back(seconds):
    parts = [int(part) for part in clock(seconds).split(":")]
    assert sum(part * 60**power for power, part in enumerate(reversed(parts))) == seconds


@pytest.fixture
def now(monkeypatch):
    """A clock that the test moves."""
    time = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: time[0])
    return time


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def test_time_left_follows_the_speed_so_far(now):
    with StudyProgress(1000.0, console(terminal=False)) as study:
        study.begin("mlp", 1.0)
        assert study.seconds_left() is None
        now[0] += 10
        study.advance(100)
        assert study.seconds_left() == pytest.approx(90)
        # Steps of another arm weigh what they cost.
        study.begin("cnn", 4.0)
        now[0] += 10
        study.advance(100)
        assert study.seconds_left() == pytest.approx(500 * 20 / 500)


def test_work_of_an_earlier_run_is_no_speed(now):
    with StudyProgress(1000.0, console(terminal=False)) as study:
        study.skip(900.0)
        study.begin("mlp", 1.0)
        now[0] += 10
        study.advance(50)
        assert study.seconds_left() == pytest.approx(10)
        now[0] += 10
        study.advance(60)
        assert study.seconds_left() == 0


def test_a_log_gets_a_line_every_ten_seconds(now, caplog):
    with caplog.at_level(logging.INFO, "paribus"), StudyProgress(100.0, console(terminal=False)) as study:
        study.begin("mlp (8 trials)", 1.0)
        for _ in range(25):
            now[0] += 1
            study.advance(2)
    assert len(caplog.messages) == 2
    assert caplog.messages[-1] == "mlp (8 trials): 40% of the study, 0:20 elapsed, 0:30 left"


def test_a_terminal_gets_a_bar_and_no_log(now, caplog):
    terminal = console(terminal=True)
    with caplog.at_level(logging.INFO, "paribus"), StudyProgress(100.0, terminal) as study:
        study.begin("mlp (8 trials)", 1.0)
        now[0] += 30
        study.advance(50)
        study._bar.refresh()
        assert "50%" in terminal.file.getvalue()
        assert "0:30 left" in terminal.file.getvalue()
    assert caplog.messages == []


def test_a_study_without_work_left_shows_no_error(now):
    with StudyProgress(0.0, console(terminal=True)) as study:
        study.skip(0.0)
        study.begin("nothing", 0.0)
        study.advance(1)
        assert study.seconds_left() is None
