"""Work that the devices were given."""

import pytest

from train.in_flight import InFlight


class Marker:
    """What a program returns, done when it is waited for or said to be."""

    def __init__(self, name, *, done=False):
        self.name, self.done = name, done

    def is_ready(self):
        return self.done

    def block_until_ready(self):
        self.done = True
        return self


@pytest.fixture
def seen():
    return []


@pytest.fixture
def in_flight(seen):
    return InFlight(lambda kind, spent, steps: seen.append((kind, steps)))


def give(in_flight, seen, name, *, done=False, result=False):
    then = (lambda marker: seen.append(f"treated {marker.name}")) if result else None
    in_flight.submit(name, 0.0, 1, Marker(name, done=done), then)


def test_results_are_treated_while_the_devices_have_more_to_do(in_flight, seen):
    give(in_flight, seen, "evaluate", result=True)
    give(in_flight, seen, "step")
    in_flight.wait(leave=1)
    assert seen == [("evaluate", 1), "treated evaluate"]


def test_what_is_done_at_once_is_treated_later(in_flight, seen):
    give(in_flight, seen, "evaluate", done=True, result=True)
    assert seen == [("evaluate", 1)]
    in_flight.wait(leave=1)  # nothing is in flight: the devices would stand idle
    assert seen == [("evaluate", 1)]
    give(in_flight, seen, "step")
    in_flight.wait(leave=1)
    assert seen[1:] == ["treated evaluate"]


def test_no_more_than_one_result_is_left(in_flight, seen):
    for number in range(3):
        give(in_flight, seen, f"evaluation {number}", done=True, result=True)
    in_flight.wait(leave=1)
    assert seen[3:] == ["treated evaluation 0", "treated evaluation 1"]
    in_flight.wait(leave=0)
    assert seen[5:] == ["treated evaluation 2"]


def test_settled_work_is_counted_and_its_results_left(in_flight, seen):
    give(in_flight, seen, "step")
    give(in_flight, seen, "evaluate", result=True)
    in_flight.settle()
    assert seen == [("step", 1), ("evaluate", 1)]
    in_flight.wait(leave=0)
    assert seen[2:] == ["treated evaluate"]


def test_the_oldest_comes_first(in_flight, seen):
    give(in_flight, seen, "first", result=True)
    give(in_flight, seen, "second", done=True, result=True)
    assert seen == []
    in_flight.wait(leave=0)
    assert seen == [("first", 1), ("second", 1), "treated first", "treated second"]
