"""Residual networks: what they refuse, and the line that says what would be right."""

import pytest

from models import BadInput, Shapes, build, resnet


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 21}, "depth=21 must be 6n \\+ 2 .*nearest: 20 and 26"),
        ({"depth": 2}, "nearest: 8 and 14"),
        ({"depth": 28}, "6n \\+ 2"),
        ({"depth": 27, "shortcut": "projection"}, "6n \\+ 2 or 6n \\+ 4 .*nearest: 26 and 28"),
        ({"depth": 20, "block": "bottleneck", "form": "imagenet"}, "50 or 101 or 152"),
        ({"form": "imagenet"}, "18 or 34"),
        ({"shortcut": "none", "survival_rate": 0.5}, "survival_rate=0.5 .*identity or projection"),
        ({"normalisation": "group", "norm_groups": 5}, "norm_groups=5 must divide channels=.*nearest: 4 and 8"),
        ({"shortcut": "A"}, "one of identity, projection, none"),
        ({"survival_rate": 0.0}, "survival_rate"),
    ],
)
def test_bad_configurations(fields, message):
    with pytest.raises(BadInput, match=message):
        resnet.Config(**fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": 9, "inputs": (5,)}, "tokens; rnn and transformer"),
        ({"inputs": (30,)}, r"\(30,\); mlp"),
        ({"per_position": True}, "position; rnn and transformer"),
    ],
)
def test_refuses_what_it_cannot_take(change, message):
    shapes = Shapes(**({"inputs": (9, 8, 2), "vocabulary": None, "outputs": 4, "per_position": False} | change))
    with pytest.raises(BadInput, match=message):
        build(resnet.Config(), shapes)
