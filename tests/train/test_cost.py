"""What a trial costs, against a hand count."""

from train.config import replace
from train.cost import cost


def test_the_cost_of_a_trial(base, images):
    config = replace(base, {"optimizer.name": "adam"})
    spent = cost(config, images)
    first, last = 64 * 8, 8 * 3
    assert spent.parameters == first + 8 + last + 3
    assert spent.flops_per_step == 2 * config.training.batch_size * (2 * first + 3 * last)
    adam = 4 * 2 * spent.parameters + 4  # two moments and their count; the schedule's count and two scalars follow
    assert spent.state_bytes == 4 * spent.parameters + adam + 4 + 8
