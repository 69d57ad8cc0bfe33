"""The collectives of a step: every notation of the compiled text, and real programs against counts by hand."""

import dataclasses

import jax
import pytest

from models import transformer
from train import communication, mesh_account, meshes
from train.communication import Amount, of_step
from train.config import Trial, replace, traced_paths
from train.population import Population


def program(*lines, head=""):
    """The text of a program of 8 devices with these instructions."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"HloModule test, num_partitions=8\n\n{head}\nENTRY %main (p: f32[10]) -> f32[10] {{\n{body}\n}}\n"


@pytest.mark.parametrize(
    ("line", "kind", "sent"),
    [
        ("%a = f32[10]{0} all-reduce(%p), replica_groups={{0,1},{2,3}}, to_apply=%add", "all-reduce", 2 * 1 / 2 * 40),
        ("%a = f32[10]{0} all-reduce(%p), replica_groups={}, to_apply=%add", "all-reduce", 2 * 7 / 8 * 40),
        ("%a = bf16[2,5]{1,0} all-gather(%p), replica_groups=[2,4]<=[8], dimensions={0}", "all-gather", 3 / 4 * 20),
        ("%a = f32[10] all-gather(%p), replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}", "all-gather", 1 / 2 * 40),
        ("%a = f32[3]{0} reduce-scatter(%p), replica_groups=[2,4]<=[8], to_apply=%add", "reduce-scatter", 3 * 12),
        (
            "%a = f32[10]{0} all-gather(%p), replica_groups=mesh['x'=2,'y'=4] {'y'}, dimensions={0}",
            "all-gather",
            3 / 4 * 40,
        ),
        (
            "%a = f32[10]{0} all-gather(%p), replica_groups=mesh['x'=4,'y'=2], device_ids=([2,4]T(1,0)) {'x','y'}",
            "all-gather",
            7 / 8 * 40,
        ),
        (
            "%a = f32[] all-reduce(%p), replica_groups=mesh['x'=8] {'x':(2)4}, to_apply=%add",
            "all-reduce",
            2 * 3 / 4 * 4,
        ),
        (
            "%a = (f32[10]{0}, /*index=1*/s8[4]{0}) all-to-all(%p, %p), replica_groups={{0,1,2,3}}",
            "all-to-all",
            3 / 4 * 44,
        ),
        ("%a = f32[10]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}", "collective-permute", 40),
        ("%a = f32[10]{0} collective-permute(%p), source_target_pairs={{0,0},{1,1}}", "collective-permute", 0),
        (
            "%a = (f32[10]{0}, f32[40]{0}) all-gather-start(%p), replica_groups=[2,4]<=[8], dimensions={0}",
            "all-gather",
            3 / 4 * 160,
        ),
        (
            "%a = ((f32[1], f32[2]), (f32[4], f32[8])) all-gather-start(%p, %p), replica_groups=[2,4]<=[8]",
            "all-gather",
            3 / 4 * 48,
        ),
        (
            "%a = f32[10]{0} all-reduce-start(%p), replica_groups=[1,8]<=[8], to_apply=%add",
            "all-reduce",
            2 * 7 / 8 * 40,
        ),
        (
            "%a = (f32[10]{0}, f32[10]{0}, u32[], u32[]) collective-permute-start(%p), source_target_pairs={{0,1}}",
            "collective-permute",
            40,
        ),
    ],
)
def test_each_notation(line, kind, sent):
    assert of_step(program("%p = f32[10]{0} parameter(0)", f"ROOT {line}")) == {kind: Amount(1, pytest.approx(sent))}


GATHER = "all-gather(%p), replica_groups=[1,8]<=[8], dimensions={0}"
NESTED = f"""%layer (p: f32[10]) -> f32[10] {{
  %p = f32[10]{{0}} parameter(0)
  ROOT %a = f32[80]{{0}} {GATHER}
}}

%three (p: f32[10]) -> pred[] {{
  %p = f32[10]{{0}} parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(3)
  ROOT %c = pred[] compare(%i, %n), direction=LT
}}

%little (p: f32[10]) -> f32[10] {{
  %p = f32[10]{{0}} parameter(0)
  ROOT %a = f32[8]{{0}} {GATHER}
}}

%step (p: f32[10]) -> f32[10] {{
  %p = f32[10]{{0}} parameter(0)
  %w = f32[10]{{0}} while(%p), condition=%unknown, body=%layer, backend_config={{"known_trip_count":{{"n":"5"}}}}
  %v = f32[10]{{0}} while(%p), condition=%three, body=%layer
  %b = f32[10]{{0}} conditional(%p, %p), branch_computations={{%little, %layer}}
  ROOT %f = f32[10]{{0}} fusion(%p), kind=kLoop, calls=%little
}}

%unknown (p: f32[10]) -> pred[] {{
  %p = f32[10]{{0}} parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] get-tuple-element(%p), index=1
  ROOT %c = pred[] compare(%i, %n), direction=LT
}}
"""


def test_a_step_is_a_round_of_the_loop_of_unknown_length():
    steps = "%w = f32[10]{0} while(%p), condition=%unknown, body=%step"
    text = program("%p = f32[10]{0} parameter(0)", f"%before = f32[80]{{0}} {GATHER}", f"ROOT {steps}", head=NESTED)
    large, small = 7 / 8 * 320, 7 / 8 * 32
    # 5 rounds of one loop, 3 of the other, the branch that sends more, and the fusion; not what comes before.
    assert of_step(text) == {"all-gather": Amount(5 + 3 + 1 + 1, pytest.approx(9 * large + small))}


def test_a_loop_around_the_steps_takes_each_of_its_rounds():
    lanes = NESTED + (
        "\n%lane (p: f32[10]) -> f32[10] {\n  %p = f32[10]{0} parameter(0)\n"
        "  ROOT %w = f32[10]{0} while(%p), condition=%unknown, body=%layer\n}\n"
    )
    loop = 'while(%p), condition=%three, body=%lane, backend_config={"known_trip_count":{"n":"4"}}'
    text = program("%p = f32[10]{0} parameter(0)", f"ROOT %w = f32[10]{{0}} {loop}", head=lanes)
    assert of_step(text)["all-gather"].count == 4


@pytest.fixture
def account_of(quickly_compiled):
    def account(task, config, mesh):
        config = replace(config, {"execution.mesh": mesh})
        return mesh_account.of_trials([Trial(arm="a", seed=0, config=config)], traced_paths([config]), task)

    return account


SCALAR = 4 * 2 * 1 / 2
"""What a device of two sends to sum one number."""


def test_data_parallelism_sums_one_gradient(account_of, images, base):
    found = account_of(images, base, "data:2")
    assert set(found.traffic) == {"all-reduce"}
    gradient = 2 * 1 / 2 * found.parameters
    assert gradient <= found.sent <= gradient + 4 * SCALAR  # the loss and the weight of the batch


def test_fully_sharded_storage_gathers_what_it_keeps_in_parts(account_of, images, base):
    found = account_of(images, replace(base, {"model.width": 64}), "fsdp:2")
    # Only the first kernel is large enough; nothing asks for the gradient of its inputs, so one pass needs it.
    kernel = 64 * 64 * 4
    assert found.parameters == kernel / 2 + 4 * (64 + 64 * 3 + 3)
    assert found.traffic["all-gather"].sent == 1 / 2 * kernel


@pytest.mark.parametrize(
    ("remat", "sums"), [pytest.param(False, 4, marks=pytest.mark.slow), pytest.param(True, 5, marks=pytest.mark.slow)]
)
def test_tensor_parallelism_sums_twice_forward_and_twice_backward(account_of, text, base, remat, sums):
    """Shoeybi et al. 2019, section 3; with rematerialisation attention's output is summed once more."""
    batch, time, width, depth = 4, 6, 32, 3
    model = transformer.Config(width=width, depth=depth, heads=4, feedforward=64, scan_layers=True, remat=remat)
    one, more = (
        account_of(text, dataclasses.replace(base, model=dataclasses.replace(model, depth=each)), "tensor:2")
        for each in (depth, 2 * depth)
    )
    activation = 2 * 1 / 2 * batch * time * width * 4
    difference = more.traffic["all-reduce"].sent - one.traffic["all-reduce"].sent
    assert difference == pytest.approx(depth * sums * activation, rel=0.02)


def test_the_account_is_that_of_the_population_that_runs(account_of, text, base):
    config = dataclasses.replace(base, model=transformer.Config(width=32, depth=1, heads=2, feedforward=64))
    config = replace(config, {"execution.mesh": "fsdp:2"})
    trials = [Trial(arm="a", seed=0, config=config)]
    abstract = account_of(text, config, "fsdp:2")
    population = Population(trials, traced_paths([config]), text)
    assert dataclasses.replace(mesh_account.of_population(population), compile_seconds=0) == dataclasses.replace(
        abstract, compile_seconds=0
    )
    states = population.init()
    held = sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(states.params)
        for shard in leaf.addressable_shards
        if shard.device.id == 0
    )
    assert abstract.parameters == held
    assert (
        abstract.memory
        == abstract.parameters + abstract.optimizer + abstract.other + abstract.data + abstract.temporaries
    )
    assert communication.total(abstract.traffic) == abstract.sent > 0


def test_shapes_alone_bring_nothing_to_a_device(images, base):
    with meshes.shapes_only():
        population = Population([Trial(arm="a", seed=0, config=base)], traced_paths([base]), images)
    assert {type(leaf).__name__ for leaf in jax.tree.leaves((population.lanes, population.splits.resident))} == {
        "ShapeDtypeStruct"
    }


@pytest.mark.slow
def test_rows_that_are_streamed_lie_where_they_are_used(images, base, quickly_compiled):
    found = []
    for limit in (1.0, 0.0):
        config = replace(base, {"execution.mesh": "data:2", "execution.stream_above_gib": limit})
        population = Population([Trial(arm="a", seed=0, config=config)], traced_paths([config]), images)
        source = population.splits.training(0)
        if limit == 0:
            rows = source.rows["inputs"]
            assert rows.sharding.shard_shape(rows.shape)[2] == rows.shape[2] / 2 == base.training.batch_size / 2
        found.append(population.advance(population.init(), 0, 5)[0].loss_sum)
        population.splits.close()
    assert found[0] == found[1]
