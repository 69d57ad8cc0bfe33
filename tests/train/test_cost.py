"""What a trial costs, against a hand count."""

from train.config import replace
from train.cost import cost
from train.population import Population


def test_the_cost_of_a_trial(base, images):
    config = replace(base, {"optimizer.name": "adam"})
    spent = cost(config, images)
    first, last = 64 * 8, 8 * 3
    assert spent.parameters == first + 8 + last + 3
    assert spent.flops_per_step == 2 * config.training.batch_size * (2 * first + 3 * last)
    adam = 4 * 2 * spent.parameters + 4  # two moments and their count; the schedule's count and two scalars follow
    assert spent.state_bytes == 4 * spent.parameters + adam + 4 + 8


def test_it_is_found_out_once_for_all_values_of_what_is_traced(base, images):
    first = cost(replace(base, {"optimizer.learning_rate": 0.1}), images)
    assert cost(replace(base, {"optimizer.learning_rate": 0.2}), images) is first
    assert cost(replace(base, {"model.width": 9}), images).parameters != first.parameters
    dropped = cost(replace(base, {"model.dropout_rate": 0.5}), images)
    assert dropped.flops_per_step == first.flops_per_step
    assert dropped is not first


def test_a_population_that_divides_the_data_anew_costs_what_its_task_costs(make_trials, images):
    trials = make_trials(seeds=(5,), seeds__split="seed")
    population = Population(trials, (), images)
    assert population.task is not images
    assert population.cost() is cost(trials[0].config, images)  # found out once
    assert population.cost() == cost(trials[0].config, population.task)
