"""models/base.py: what a configuration accepts, what it answers to what it does not, and plugins."""

import dataclasses
import math
import sys
import textwrap
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import (
    BadInput,
    Configuration,
    Static,
    Traced,
    check_divides,
    coerce,
    describe,
    fields,
    plugin,
    plugin_names,
    unknown,
)


@dataclass(frozen=True, kw_only=True)
class Inner(Configuration):
    size: Annotated[int, Static(ge=1)] = 3


@dataclass(frozen=True, kw_only=True)
class Sample(Configuration):
    width: Annotated[int, Static(ge=1, le=1024)] = 8
    rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0
    scale: Annotated[float, Traced(gt=0)] = 1.0
    betas: Annotated[tuple[float, ...], Traced(ge=0, lt=1)] = (0.9, 0.999)
    widths: Annotated[tuple[int, ...], Static(ge=1)] = ()
    kind: Annotated[Literal["relu", "gelu"], Static()] = "relu"
    bias: Annotated[bool, Static()] = True
    clip: Annotated[float | None, Traced(gt=0)] = None
    label: Annotated[str, Static()] = ""
    inner: Inner = Inner()

    def validate(self) -> None:
        if self.label == "wide" and self.width < 100:
            raise BadInput(f"label='wide' needs width of at least 100, not {self.width}")


def one_line(error: pytest.ExceptionInfo[BadInput]) -> str:
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


def test_the_defaults_are_valid():
    assert Sample() == Sample(width=8)
    assert hash(Sample()) == hash(Sample(width=8))


def test_a_configuration_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sample().width = 3
    with pytest.raises(TypeError):
        Sample(3)


def test_fields_says_static_traced_or_nested():
    found = fields(Sample)
    assert list(found) == [field.name for field in dataclasses.fields(Sample)]
    assert found["width"].kind == Static(ge=1, le=1024)
    assert found["width"].annotation is int
    assert found["rate"].kind == Traced(ge=0, lt=1, off=0.0)
    assert found["inner"].kind is None
    assert found["inner"].annotation is Inner


def test_a_field_without_a_mark_is_an_error_of_the_programmer():
    @dataclass(frozen=True, kw_only=True)
    class Unmarked(Configuration):
        width: int = 3

    with pytest.raises(TypeError, match="width must be annotated"):
        Unmarked()


@pytest.mark.parametrize(
    ("changes", "stored"),
    [
        ({"rate": 0}, {"rate": 0.0}),
        ({"betas": [0, 0.5]}, {"betas": (0.0, 0.5)}),
        ({"widths": [1, 2]}, {"widths": (1, 2)}),
        ({"betas": ()}, {"betas": ()}),
        ({"clip": 2}, {"clip": 2.0}),
        ({"clip": None}, {"clip": None}),
        ({"kind": "gelu"}, {"kind": "gelu"}),
        ({"width": 1024}, {"width": 1024}),
        ({"inner": Inner(size=5)}, {"inner": Inner(size=5)}),
    ],
)
def test_accepted_values_are_stored_as_the_annotated_type(changes, stored):
    config = Sample(**changes)
    for name, value in stored.items():
        assert getattr(config, name) == value
        assert type(getattr(config, name)) is type(value)
        if isinstance(value, tuple):
            assert [type(item) for item in getattr(config, name)] == [type(item) for item in value]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width=0 must be at least 1"),
        ({"width": 1025}, "width=1025 must be at most 1024"),
        ({"width": 8.0}, "width=8.0 must be an integer"),
        ({"width": True}, "width=True must be an integer"),
        ({"width": "8"}, "width='8' must be an integer"),
        ({"width": None}, "width=None must be an integer"),
        ({"rate": -0.25}, "rate=-0.25 must be at least 0"),
        ({"rate": 1.0}, "rate=1.0 must be less than 1"),
        ({"rate": True}, "rate=True must be a number"),
        ({"rate": "high"}, "rate='high' must be a number"),
        ({"rate": math.nan}, "rate=nan must be a number, not nan"),
        ({"scale": 0}, "scale=0.0 must be greater than 0"),
        ({"scale": math.inf}, "scale=inf must be finite"),
        ({"betas": (0.5, 1.5)}, "betas=1.5 must be less than 1"),
        ({"betas": 0.5}, "betas=0.5 must be numbers separated by commas"),
        ({"betas": "0.5"}, "betas='0.5' must be numbers separated by commas"),
        ({"widths": (1, 2.5)}, "widths=(1, 2.5) must be integers separated by commas"),
        ({"widths": (3, 0)}, "widths=0 must be at least 1"),
        ({"kind": "tanh"}, "kind='tanh' must be one of relu, gelu"),
        ({"kind": ["relu"]}, "kind=['relu'] must be one of relu, gelu"),
        ({"bias": 1}, "bias=1 must be true or false"),
        ({"clip": 0.0}, "clip=0.0 must be greater than 0"),
        ({"clip": "off"}, "clip='off' must be a number or none"),
        ({"label": 3}, "label=3 must be text"),
        ({"inner": 3}, "inner=3 must be of type Inner"),
        ({"label": "wide"}, "label='wide' needs width of at least 100, not 8"),
        ({"label": "two\nlines", "width": 0}, "width=0 must be at least 1"),
    ],
)
def test_refused_values_are_answered_in_one_line(changes, message):
    with pytest.raises(BadInput) as error:
        Sample(**changes)
    assert one_line(error) == message


def test_replace_checks_again():
    with pytest.raises(BadInput, match="must be at least 1"):
        dataclasses.replace(Sample(), width=0)


def test_the_message_shows_the_value_that_was_given():
    """Rounded, a value just out of range would look allowed: `width=1e+06 must be at most 1e+06`."""

    @dataclass(frozen=True, kw_only=True)
    class Long(Configuration):
        steps: Annotated[int, Static(le=10_000_000)] = 1

    with pytest.raises(BadInput) as error:
        Long(steps=10_000_001)
    assert one_line(error) == "steps=10000001 must be at most 10000000"


def test_a_number_too_long_for_a_float_is_refused():
    with pytest.raises(BadInput) as error:
        Sample(rate=10**400)
    assert one_line(error).startswith("rate=1000")


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_rate_is_accepted_exactly_when_in_range(value):
    if 0 <= value < 1:
        assert Sample(rate=value).rate == value
    else:
        with pytest.raises(BadInput) as error:
            Sample(rate=value)
        assert one_line(error).startswith("rate=")


@given(st.lists(st.integers(-3, 5)))
def test_every_element_of_a_tuple_must_be_in_range(values):
    if all(value >= 1 for value in values):
        assert Sample(widths=values).widths == tuple(values)
    else:
        with pytest.raises(BadInput):
            Sample(widths=values)


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.lists(st.integers()),
        st.dictionaries(st.text(), st.none()),
    ),
    st.sampled_from([field.name for field in dataclasses.fields(Sample)]),
)
def test_any_value_gives_a_configuration_or_one_line(value, name):
    message = None
    try:
        config = Sample(**{name: value})
        assert dataclasses.replace(config) == config
    except BadInput as error:
        message = str(error)
    assert message is None or (message and "\n" not in message)


@given(st.integers(-(2**52), 2**52))
def test_coerce_keeps_an_int_and_makes_it_a_float_where_asked(value):
    assert coerce(value, int) is value
    assert type(coerce(value, float)) is float
    assert coerce(value, float) == value


def test_coerce_takes_the_part_of_a_union_that_fits():
    assert type(coerce(3, int | float)) is int
    assert type(coerce(3.0, int | float)) is float
    assert coerce(None, int | None) is None
    with pytest.raises(TypeError):
        coerce("3", int | None)


def test_coerce_does_not_mistake_numbers_for_choices():
    assert coerce(2, Literal[1, 2]) == 2
    for value in (True, 1.0):
        with pytest.raises(TypeError):
            coerce(value, Literal[1, 2])


def test_a_tuple_of_fixed_length_is_an_error_of_the_programmer():
    @dataclass(frozen=True, kw_only=True)
    class Pair(Configuration):
        sizes: Annotated[tuple[int, int], Static()] = (1, 2)

    with pytest.raises(TypeError, match="tuple of any length"):
        Pair()


def test_the_off_value_is_allowed_even_when_infinite():
    @dataclass(frozen=True, kw_only=True)
    class Clipping(Configuration):
        norm: Annotated[float, Traced(gt=0, off=math.inf)] = math.inf

    assert Clipping().norm == math.inf
    with pytest.raises(BadInput, match="norm=-inf must be greater than 0"):
        Clipping(norm=-math.inf)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an integer"),
        (float, "a number"),
        (bool, "true or false"),
        (str, "text"),
        (tuple[int, ...], "integers separated by commas"),
        (tuple[Literal["a", "b"], ...], "values separated by commas, each one of a, b"),
        (Literal["a", "b"], "one of a, b"),
        (float | None, "a number or none"),
        (tuple[int, ...] | None, "integers separated by commas or none"),
    ],
)
def test_describe(annotation, words):
    assert describe(annotation) == words


@pytest.mark.parametrize(
    ("bounds", "allowed", "refused"),
    [
        (Static(ge=1), [1, 2], [0, math.nan]),
        (Static(gt=1), [2, 1.001], [1, 0]),
        (Static(le=1), [1, -5], [2]),
        (Static(lt=1), [0], [1]),
        (Static(ge=0, le=1), [0, 1], [-1, 2]),
        (Traced(), [0, -1e30], [math.nan, math.inf, -math.inf]),
    ],
)
def test_bounds(bounds, allowed, refused):
    assert [bounds.complaint(value) for value in allowed] == [None] * len(allowed)
    assert all(bounds.complaint(value) for value in refused)


def test_unknown_names_the_nearest_and_all_valid_names():
    error = unknown("model", "transfomer", ["mlp", "transformer", "cnn"])
    assert isinstance(error, BadInput)
    assert str(error) == "unknown model 'transfomer'; did you mean 'transformer'? Valid: cnn, mlp, transformer"
    assert str(unknown("model", "zzz", ["mlp", "cnn"])) == "unknown model 'zzz'. Valid: cnn, mlp"
    assert str(unknown("model", "MLP", ["mlp", "cnn"])) == "unknown model 'MLP'; did you mean 'mlp'? Valid: cnn, mlp"
    assert str(unknown("model", "a", [])) == "unknown model 'a'. Valid: none"


@given(st.text(), st.lists(st.text(alphabet="abc", min_size=1)))
def test_unknown_is_one_line(name, choices):
    assert "\n" not in str(unknown("arm", name, choices))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of plugins in a temporary folder; importing `broken` would fail."""
    folder = tmp_path / "sample_plugins"
    folder.mkdir()
    config = """
        from dataclasses import dataclass
        from typing import Annotated
        from models.base import Configuration, Static

        @dataclass(frozen=True, kw_only=True)
        class Config(Configuration):
            width: Annotated[int, Static()] = 1
    """
    files = {
        "__init__": "",
        "good": config,
        "another": config,
        "broken": "import no_such_module_anywhere\nclass Config: pass\n",
        "shared": "def Config(): pass\n",
        "nested": "class Other:\n    class Config: pass\n",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    yield "sample_plugins"
    for name in [name for name in sys.modules if name.partition(".")[0] == "sample_plugins"]:
        del sys.modules[name]
    plugin_names.cache_clear()


def test_plugins_are_found_by_file_name_without_importing_them(package):
    assert plugin_names(package) == ("another", "broken", "good")
    assert not any(name.startswith("sample_plugins.") for name in sys.modules)


def test_a_plugin_is_imported_by_name(package):
    module = plugin(package, "good", kind="sample")
    assert module.Config().width == 1
    assert module.Config().name == "good"


@pytest.mark.parametrize("name", ["goof", "shared", "good.py", "../good", "", "__init__"])
def test_an_unknown_plugin_is_answered_in_one_line(package, name):
    with pytest.raises(BadInput) as error:
        plugin(package, name, kind="sample")
    assert "Valid: another, broken, good" in one_line(error)


def test_the_packages_of_plugins_can_be_listed():
    for package in ("models", "train.data", "train.optimizers", "train.schedules"):
        names = plugin_names(package)
        assert names == tuple(sorted(names))
        assert "base" not in names
        assert "__init__" not in names


@pytest.mark.parametrize(
    ("size", "total", "nearest"), [(3, 64, "2 and 4"), (7, 12, "6 and 12"), (100, 6, "6"), (5, 7, "1 and 7")]
)
def test_the_nearest_divisors_are_named(size, total, nearest):
    check_divides("heads", total, "width", total)
    with pytest.raises(BadInput, match=f"^heads={size} must divide width={total}; nearest: {nearest}$"):
        check_divides("heads", size, "width", total)


def test_a_number_of_twenty_digits_is_refused_at_once():
    with pytest.raises(BadInput, match="nearest: 1 and"):
        check_divides("heads", 10**19 + 1, "width", 10**20 + 39)
