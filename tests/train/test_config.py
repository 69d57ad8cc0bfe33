"""Configurations: paths, overrides, round trips, and what each digest and key depends on."""

import dataclasses
import itertools
import json
import math
import subprocess
import sys
import types
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import BadInput, Static, Traced, plugin, plugin_names
from train.config import (
    SECTIONS,
    Config,
    Trial,
    bind,
    differences,
    digest,
    from_dict,
    leaves,
    listing,
    parse_overrides,
    paths,
    program_key,
    replace,
    to_dict,
    to_json,
    traced_paths,
    values,
)

COMBINATIONS = list(itertools.product(*(plugin_names(package) for package, _ in SECTIONS.values())))
"""Every choice of one file from each section; drawn from."""
_USUAL = ("digits", "mlp", "adamw", "constant")
ONE_BY_ONE = sorted(
    {
        (*_USUAL[:place], name, *_USUAL[place + 1 :])
        for place, (package, _) in enumerate(SECTIONS.values())
        for name in plugin_names(package)
    }
)
"""Every file once, among the usual ones."""


def assemble(*names):
    return Config(
        **{
            section: plugin(package, name, kind=kind).Config()
            for name, (section, (package, kind)) in zip(names, SECTIONS.items(), strict=True)
        }
    )


BASE = assemble(*_USUAL)

# Beartype, which checks types in tests, looks at one element of a list at random.
beartype_draws = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")


def draws(annotation, kind):
    """A strategy for values of an annotated field; some may be out of its range."""
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if isinstance(annotation, types.UnionType):
        return st.one_of(*(draws(part, kind) for part in get_args(annotation)))
    if get_origin(annotation) is tuple:
        return st.lists(draws(get_args(annotation)[0], kind), max_size=3).map(tuple)
    if annotation is float:
        off = getattr(kind, "off", None)
        return st.floats(0, 0.999) | st.floats(allow_nan=False) | st.just(0.0 if off is None else off)
    strategies = {int: st.integers(1, 2**40), bool: st.booleans(), str: st.sampled_from(["bias$", "inf", "", "é\n,"])}
    return st.none() if annotation is type(None) else strategies[annotation]


@st.composite
def configs(draw):
    config = assemble(*draw(st.sampled_from(COMBINATIONS)))
    for path in draw(st.lists(st.sampled_from(sorted(dict(leaves(config)))), max_size=6)):
        field = dict(leaves(config))[path].field
        try:
            config = replace(config, {path: draw(draws(field.annotation, field.kind))})
        except BadInput:
            continue
    return config


@pytest.mark.parametrize("names", ONE_BY_ONE, ids="-".join)
def test_every_file_survives_json(names):
    config = assemble(*names)
    again = from_dict(json.loads(to_json(config)))
    assert again == config
    assert to_json(again) == to_json(config)
    assert "\n" not in to_json(config)


@beartype_draws
@given(configs())
def test_any_configuration_survives_json(config):
    again = from_dict(json.loads(to_json(config)))
    assert again == config
    assert digest(again) == digest(config)
    assert program_key(again) == program_key(config)


@pytest.mark.slow
@beartype_draws
@given(configs())
def test_any_configuration_can_be_spelled_as_overrides(config):
    def spell(value):
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    overrides = [(path, spell(value)) for path, value in values(config).items()]
    assert replace(BASE, parse_overrides(BASE, overrides)) == config
    assert replace(BASE, parse_overrides(BASE, overrides[::-1])) == config


def test_paths_name_every_leaf_and_every_section():
    known = paths(BASE)
    assert {"model.name", "model.width", "optimizer.b1", "regularisation.clip_norm", "execution.spread"} <= set(known)
    assert "model.name" not in dict(leaves(BASE))
    assert values(BASE) == {path: leaf.value for path, leaf in known.items()}
    assert known["model.width"].value == BASE.model.width
    assert list(values(BASE))[:4] == [f"{section}.name" for section in SECTIONS]


def test_replace_changes_what_it_names_and_nothing_else():
    config = replace(BASE, {"model.width": 7, "training.steps": 9})
    changed = {path for path, value in values(config).items() if values(BASE)[path] != value}
    assert changed == {"model.width", "training.steps"}
    assert replace(BASE, {}) == BASE


def test_fields_that_must_fit_each_other_change_together():
    transformer = replace(BASE, {"model.name": "transformer"})
    assert replace(transformer, {"model.heads": 5, "model.width": 35}).model.heads == 5
    assert replace(BASE, {"training.steps": 10, "schedule.warmup_steps": 9}).schedule.warmup_steps == 9


def test_another_name_drops_what_belonged_to_the_old_one():
    config = replace(BASE, {"optimizer.b1": 0.5, "optimizer.learning_rate": 0.7})
    sgd = replace(config, {"optimizer.name": "sgd"})
    assert sgd.optimizer == plugin("train.optimizers", "sgd", kind="optimizer").Config()
    assert "optimizer.b1" not in values(sgd)
    assert replace(config, {"optimizer.name": "adamw"}) == config  # the same name keeps all
    both = replace(config, {"optimizer.learning_rate": 0.2, "optimizer.name": "sgd"})
    assert (both.optimizer.name, both.optimizer.learning_rate) == ("sgd", 0.2)
    with pytest.raises(BadInput, match=r"optimizer\.b1"):
        replace(config, {"optimizer.name": "sgd", "optimizer.b1": 0.2})


def test_a_whole_section_can_be_replaced():
    training = dataclasses.replace(BASE.training, steps=3)
    config = replace(BASE, {"training": training, "training.batch_size": 5})
    assert config.training == dataclasses.replace(training, batch_size=5)


def test_a_section_renamed_and_set_at_once_is_checked_only_as_a_whole():
    """The default warm-up of inverse_square_root is longer than this training; the one that is asked for is not."""
    short = replace(BASE, {"training.steps": 50})
    overrides = [("schedule.warmup_steps", "5"), ("schedule.name", "inverse_square_root")]
    config = replace(short, parse_overrides(short, overrides))
    assert (config.schedule.name, config.schedule.warmup_steps) == ("inverse_square_root", 5)
    with pytest.raises(BadInput, match="warmup_steps=100 must be less than"):
        parse_overrides(short, overrides[1:])


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("model.width", "1_000", 1000),
        ("model.activation", "tanh", "tanh"),
        ("optimizer.learning_rate", "1e-2", 0.01),
        ("regularisation.clip_norm", "inf", math.inf),
        ("execution.spread", "No", False),
        ("execution.spread", "1", True),
        ("data.train_examples", "none", None),
        ("data.train_examples", "50", 50),
        ("model.name", "mlp", "mlp"),
    ],
)
def test_overrides_are_typed_by_their_field(path, text, value):
    result = parse_overrides(BASE, [(path, text)])[path]
    assert result == value
    assert type(result) is type(value)


def test_tuples_are_numbers_separated_by_commas():
    overrides = [("model.channels", "(8, 16,32)"), ("model.name", "cnn")]
    assert parse_overrides(BASE, overrides)["model.channels"] == (8, 16, 32)


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("5,3", (5, 3)), ("(5, 3)", (5, 3))])
def test_a_field_of_two_types_takes_the_one_that_is_spelled(text, value):
    overrides = [("model.name", "cnn"), ("model.kernel_size", text)]
    assert parse_overrides(BASE, overrides)["model.kernel_size"] == value


@pytest.mark.parametrize(
    ("overrides", "needed"),
    [
        ({"model.widht": "3"}, ["'model.widht'", "did you mean 'model.width'?"]),
        ({"modell.width": "3"}, ["did you mean 'model.width'?"]),
        ({"width": "3"}, ["unknown configuration path 'width'"]),
        ({"model": "cnn"}, ["unknown configuration path 'model'"]),
        ({"training.name": "x"}, ["unknown configuration path 'training.name'"]),
        ({"": "3"}, ["unknown configuration path ''"]),
        ({"model.name": "cnnn"}, ["unknown model 'cnnn'", "did you mean 'cnn'?", "transformer"]),
        ({"data.name": "digit"}, ["unknown data set", "did you mean 'digits'?"]),
        ({"optimizer.name": "adma"}, ["unknown optimizer", "did you mean 'adam"]),
        ({"schedule.name": "cosin"}, ["unknown schedule", "did you mean 'cosine'"]),
        ({"optimizer.name": "sgd", "optimizer.b1": "0.9"}, ["unknown configuration path 'optimizer.b1'"]),
        ({"model.width": "wide"}, ["--config.model.width='wide' must be an integer"]),
        ({"model.width": "3.5"}, ["must be an integer"]),
        ({"model.width": "3\n4\n5"}, ["must be an integer"]),
        ({"model.width": ""}, ["must be an integer"]),
        ({"model.width": "9" * 5000}, ["must be an integer"]),
        ({"model.width": "0"}, ["model.width=0 must be at least 1"]),
        ({"model.dropout_rate": "1"}, ["model.dropout_rate=1.0 must be less than 1"]),
        ({"model.dropout_rate": "-0.1"}, ["must be at least 0"]),
        ({"model.dropout_rate": "nan"}, ["must be a number"]),
        ({"optimizer.learning_rate": "0"}, ["must be greater than 0"]),
        ({"optimizer.learning_rate": "inf"}, ["must be finite"]),
        ({"optimizer.learning_rate": "fast"}, ["must be a number"]),
        ({"regularisation.clip_norm": "-inf"}, ["must be greater than 0"]),
        ({"regularisation.undecayed": "(bias"}, ["must be a regular expression"]),
        ({"regularisation.undecayed": "a\n(bias"}, ["must be a regular expression"]),
        ({"model.activation": "reluu"}, ["must be one of relu, gelu, tanh"]),
        ({"execution.spread": "maybe"}, ["must be true or false"]),
        ({"execution.strategy": "fast"}, ["must be one of auto, measured, vectorised, sequential"]),
        ({"data.train_examples": "all"}, ["must be an integer or none"]),
        ({"schedule.warmup_steps": "1000"}, ["schedule.warmup_steps=1000", "training.steps=1000"]),
        ({"model.name": "transformer", "model.heads": "3"}, ["heads=3 must divide width=64"]),
        ({"model.name": "cnn", "model.channels": "8,x"}, ["must be integers separated by commas"]),
    ],
)
def test_a_bad_override_is_one_line_that_says_what_would_be_right(overrides, needed):
    with pytest.raises(BadInput) as caught:
        parse_overrides(BASE, list(overrides.items()))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert all(text in message for text in needed), message


def test_an_override_given_twice_is_refused():
    with pytest.raises(BadInput, match=r"--config\.model\.width is given twice"):
        parse_overrides(BASE, [("model.width", "3"), ("model.width", "3")])


def changed(content, path, value):
    copy = json.loads(json.dumps(content))
    *outer, last = path.split(".")
    inner = copy
    for key in outer:
        inner = inner[key]
    if value is KeyError:
        del inner[last]
    else:
        inner[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "needed"),
    [
        ("modle", {}, "did you mean 'model'"),
        ("model.widht", 3, "did you mean 'model.width'"),
        ("model.name", "cnnn", "did you mean 'cnn'"),
        ("model.name", KeyError, "name"),
        ("model.width", "3", "must be an integer"),
        ("model", KeyError, "model"),
        ("model", 3, "model"),
        ("training.steps", 0, "must be at least 1"),
        ("optimizer.learning_rate", "inf", "must be finite"),
    ],
)
def test_a_damaged_document_is_bad_input(path, value, needed):
    with pytest.raises(BadInput, match=needed):
        from_dict(changed(to_dict(BASE), path, value))


def _another(value):
    """A value that nearly any field of this type takes."""
    if isinstance(value, bool):
        return not value
    return 2 if isinstance(value, int) else 0.25


def test_the_digest_names_what_is_computed():
    assert digest(replace(BASE, {"execution.strategy": "sequential", "execution.spread": False})) == digest(BASE)
    # Without groups there are no factors to change, without normalised residual layers no branches to scale.
    grouped = replace(BASE, {"groups.patterns": ("kernel",), "model.residual": True, "model.normalisation": "layer"})
    for path in set(values(BASE)) - {path for path in values(BASE) if path.startswith("execution.")}:
        other = {
            "data.name": "sotu",
            "model.name": "rnn",
            "optimizer.name": "sgd",
            "schedule.name": "cosine",
            "data.train_examples": 70,
            "data.permutation_seed": 3,
            "regularisation.undecayed": "bias$",
            "model.activation": "tanh",
            "model.normalisation": "batch",
            "model.widths": (3, 3),
            "data.standardisation": "image",
            "data.crop": 20,
            "training.target_metric": "accuracy",
            "training.compute_dtype": "bfloat16",
            "training.loss_scale": 2.0,
            "data.label_noise_kind": "any",
            "training.rematerialise": "everything",
            "initialisation.kernels": "he_normal",
            "initialisation.pattern": "bias$",
            "initialisation.zeros": "bias$",
            "groups.patterns": ("bias$",),
            "groups.learning_rates": (2.0,),
            "groups.weight_decays": (2.0,),
            "diagnostics.noise_scale_parts": 4,
            **dict.fromkeys(("seeds.init", "seeds.order", "seeds.noise"), 3),
            "seeds.split": "seed",
        }.get(path, _another(values(grouped)[path]))
        assert digest(replace(grouped, {path: other})) != digest(grouped), path


@given(st.sampled_from(sorted(values(BASE))), st.data())
def test_one_program_serves_exactly_the_configurations_that_differ_in_traced_values(path, data):
    field = paths(BASE)[path].field
    try:
        config = replace(BASE, {path: data.draw(draws(field.annotation, field.kind))})
    except BadInput:
        return
    same = config == BASE or isinstance(field.kind, Traced)
    assert isinstance(field.kind, Static | Traced)
    assert (program_key(config) == program_key(BASE)) == same


def test_a_name_alone_makes_another_program():
    """SGD with its defaults and momentum-free momentum must not share a key, nor any two names."""
    keys = {program_key(replace(BASE, {"optimizer.name": name})) for name in plugin_names("train.optimizers")}
    assert len(keys) == len(plugin_names("train.optimizers"))


def test_mechanisms_that_are_off_in_all_are_left_out():
    off = ("model.dropout_rate", "regularisation.label_smoothing", "regularisation.l1", "regularisation.clip_norm")
    always = ("optimizer.learning_rate", "optimizer.b1", "optimizer.b2", "optimizer.eps")
    assert not set(off) & set(traced_paths([BASE]))
    assert set(always) <= set(traced_paths([BASE, BASE]))
    assert "optimizer.weight_decay" in traced_paths([BASE])
    assert "optimizer.weight_decay" not in traced_paths([replace(BASE, {"optimizer.weight_decay": 0.0})])
    for path in off:
        one = replace(BASE, {path: 0.5})
        assert set(traced_paths([BASE, one])) - set(traced_paths([BASE])) == {path}
        assert set(traced_paths([one, BASE])) == set(traced_paths([BASE, one]))
    assert not any(path.startswith(("training.", "execution.", "data.")) for path in traced_paths([BASE]))


def test_bind_lets_the_programs_arguments_stand_in():
    bound = bind(BASE.optimizer, {"learning_rate": "traced"})
    assert (bound.learning_rate, bound.b1) == ("traced", BASE.optimizer.b1)


def test_a_trial_is_named_by_arm_and_seed():
    assert Trial(arm="cnn", seed=3, config=BASE).id == "cnn-s3"


def test_configurations_need_no_jax():
    code = "import sys, train.config as c, models.base; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_differences_name_the_fields_old_and_new(base):
    old = to_dict(base)
    assert differences(old, old) == []
    new = to_dict(replace(base, {"training.steps": 7, "execution.max_lanes": 3}))
    assert differences(old, new) == [f"training.steps {base.training.steps} -> 7"]
    renamed = to_dict(replace(base, {"model.name": "cnn"}))
    assert differences(old, renamed) == ["model.name mlp -> cnn"]
    # A version without a field, or without a section.
    older = {**old, "training": {name: value for name, value in old["training"].items() if name != "accumulation"}}
    assert differences(older, old) == ["training.accumulation absent -> 1"]
    del older["augmentation"]
    assert "augmentation.mixup_alpha absent -> 0.0" in differences(older, old)
    listed = differences(json.loads(json.dumps(old)), old)
    assert listed == [], "tuples are the lists that JSON makes of them"


def test_a_listing_says_each_difference_once():
    lines = [f"a.{letter} 1 -> 2" for letter in "uvwxyz"]
    assert listing({"one": lines[:2], "two": lines[1:2]}) == "a.u 1 -> 2 in one; a.v 1 -> 2 in one, two"
    assert listing({"one": lines}, most=2) == "a.u 1 -> 2 in one; a.v 1 -> 2 in one; and 4 more"
    names = dict.fromkeys("pqrst", lines[:1])
    assert listing(names) == "a.u 1 -> 2 in p, q, r and 2 more"
    assert listing({"one": []}) == ""
