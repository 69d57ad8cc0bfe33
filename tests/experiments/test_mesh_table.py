"""What a run on a mesh says of its memory and communication, before it runs."""

from rich.console import Console

from experiments import mesh_table, plan
from experiments.__main__ import main
from train import data
from train.communication import Amount
from train.config import Trial, replace, traced_paths
from train.mesh_account import Account
from train.population import Population

ACCOUNT = Account(
    mesh="data:4,fsdp:2",
    devices=8,
    parameters=1_000_000,
    optimizer=2_000_000,
    other=8,
    data=30_000,
    temporaries=70_000_000,
    traffic={"all-reduce": Amount(3, 1_750_000.0), "all-gather": Amount(20, 500_000.0)},
    compile_seconds=1.0,
)


def test_the_table_has_every_figure():
    console = Console(width=200)
    with console.capture() as capture:
        console.print(mesh_table.table({"a, b (4)": ACCOUNT}))
    text = capture.get()
    for figure in (
        "a, b (4)",
        "data:4,fsdp:2",
        "1.00 MB",
        "2.00 MB",
        " 8 B",
        "30.0 kB",
        "70.0 MB",
        "73.0 MB",
        "2.25 MB",
    ):
        assert figure in text


def test_the_line_names_the_collectives():
    text = mesh_table.line(ACCOUNT)
    assert "each of 8 devices holds 1.00 MB of parameters" in text
    assert text.endswith("in a step it sends 2.25 MB: all-reduce 3 (1.75 MB), all-gather 20 (500 kB)")


def test_dry_run_shows_what_a_mesh_takes(capsys, tmp_path):
    changes = ["--experiment=architectures", "--preset=smoke", "--arms=mlp", "--config.execution.mesh=data:2"]
    assert main([*changes, "--dry_run", f"--workdir={tmp_path}"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "memory and communication of each device" in text
    assert "all-reduce" in text
    assert mesh_table.SOURCES in text
    assert list(tmp_path.iterdir()) == []


def test_without_a_mesh_there_is_nothing_to_say(capsys, tmp_path):
    assert (
        main(["--experiment=architectures", "--preset=smoke", "--arms=mlp", "--dry_run", f"--workdir={tmp_path}"]) == 0
    )
    assert "memory and communication" not in capsys.readouterr().out


def test_a_run_on_a_mesh_is_announced(caplog, quickly_compiled):
    config = plan.resolve(plan.load("architectures", "smoke")).configs["mlp"]
    for mesh in ("", "data:2"):
        changed = replace(config, {"execution.mesh": mesh})
        trials = [Trial(arm="mlp", seed=0, config=changed)]
        with caplog.at_level("INFO", logger="paribus"):
            mesh_table.announce(Population(trials, traced_paths([changed]), data.load(changed.data, None)))
    assert [record.getMessage().count("mesh data:2: each of 2 devices") for record in caplog.records] == [1]
