"""The recurrent network: against PyTorch, causality, counts, options, gates by name, dropout, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, rnn
from models.inputs import Padded

CELLS = ("vanilla", "gru", "lstm")
GATES = {"vanilla": 1, "gru": 3, "lstm": 4}
IMAGE = Shapes(inputs=(5, 4, 2), vocabulary=None, outputs=3, per_position=False)
SEQUENCE = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=True)
TOKENS = Shapes(inputs=(6,), vocabulary=7, outputs=7, per_position=True)
LENGTHS = np.array([6, 1, 4])
MASK = jnp.asarray(np.arange(6)[None] < LENGTHS[:, None])
TAGS = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=True)
LABEL = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=False)
CAUSAL = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=True, causal=True)
VARIANTS = (
    "no_input_gate",
    "no_forget_gate",
    "no_output_gate",
    "no_input_activation",
    "no_output_activation",
    "coupled_gates",
    "full_gate_recurrence",
)


def _inputs(shapes, batch=2, dtype="float32"):
    random = np.random.default_rng(0)
    if shapes.vocabulary is None:
        return jnp.asarray(random.normal(size=(batch, *shapes.inputs)), dtype)
    return jnp.asarray(random.integers(0, shapes.vocabulary, (batch, *shapes.inputs)), "int32")


def _logits(model, variables, x, train=False, rngs=None, **hyperparameters):
    def apply(variables, x, rngs, hyperparameters):
        return model.apply(variables, x, train=train, rngs=rngs, hyperparameters=hyperparameters)[0]

    return jax.jit(apply)(variables, x, rngs or {}, hyperparameters)


def _random_variables(model, x, dtype="float32", seed=1):
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5, dtype),
        jax.eval_shape(model.init, jax.random.key(0), x),
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shapes", [IMAGE, SEQUENCE, TOKENS])
def test_shapes_and_parameter_count(cell, shapes):
    config = rnn.Config(cell=cell, width=5, depth=2, embedding=3)
    model, x = build(config, shapes), _inputs(shapes)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    time = shapes.inputs[:1] if shapes.per_position else ()
    assert jax.eval_shape(lambda v: _logits(model, v, x), variables).shape == (2, *time, shapes.outputs)
    table = 0 if shapes.vocabulary is None else 7 * 3
    features = 3 if table else int(np.prod(shapes.inputs[1:]))
    layers = sum(GATES[cell] * 5 * (inputs + 5 + (2 if cell == "gru" else 1)) for inputs in (features, 5))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == table + layers + 6 * shapes.outputs


def test_forget_bias():
    variables = jax.jit(build(rnn.Config(width=4, forget_bias=2.5), IMAGE).init)(jax.random.key(0), _inputs(IMAGE))
    np.testing.assert_array_equal(variables["params"]["layer_0"]["bias"], np.repeat([0, 2.5, 0, 0], 4))


def test_chrono_initialisation():
    """log u with u uniform from 1 to T_max - 1, and its negative; the other biases are 0."""
    init = jax.jit(build(rnn.Config(width=2000, chrono_range=101), IMAGE).init)
    bias = np.asarray(init(jax.random.key(0), _inputs(IMAGE))["params"]["layer_0"]["bias"], np.float64)
    entering, forget, candidate, output = bias.reshape(4, 2000)
    np.testing.assert_array_equal(entering, -forget)
    assert not candidate.any()
    assert not output.any()
    quantiles = np.quantile(np.exp(forget), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quantiles, [1, 25.75, 50.5, 75.25, 100], atol=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "gru", "chrono_range": 100}, "needs cell=lstm with an input and a forget gate"),
        ({"variant": "coupled_gates", "chrono_range": 100}, "needs cell=lstm with an input and a forget gate"),
        ({"chrono_range": 2}, "must be 0 or at least 3"),
    ],
)
def test_chrono_initialisation_needs_its_gates(changes, message):
    with pytest.raises(BadInput, match=message):
        rnn.Config(**changes)


def _module(torch, cell, width, depth, features, params, outputs, dtype):
    """PyTorch's modules with our parameters."""
    kind = {"vanilla": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    layers = kind(features, width, num_layers=depth, batch_first=True, dtype=dtype)
    head = torch.nn.Linear(width, outputs, dtype=dtype)
    names = {
        "input_kernel": "weight_ih",
        "recurrent_kernel": "weight_hh",
        "bias": "bias_ih",
        "recurrent_bias": "bias_hh",
    }
    targets = {}
    for i in range(depth):
        for name, value in params[f"layer_{i}"].items():
            targets[f"layer_{i}", name] = getattr(layers, f"{names[name]}_l{i}"), np.asarray(value)
        if cell != "gru":
            torch.nn.init.zeros_(getattr(layers, f"bias_hh_l{i}"))
    targets["logits", "kernel"] = head.weight, np.asarray(params["logits"]["kernel"])
    targets["logits", "bias"] = head.bias, np.asarray(params["logits"]["bias"])
    with torch.no_grad():
        for parameter, value in targets.values():
            parameter.copy_(torch.tensor(value.T))
    return layers, head, {path: parameter for path, (parameter, _) in targets.items()}


@pytest.mark.reference
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("shapes", "dtype", "tolerance"), [(IMAGE, "float32", 1e-5), (IMAGE, "float64", 1e-10), (TOKENS, "float64", 1e-10)]
)
def test_against_pytorch(cell, shapes, dtype, tolerance):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    with jax.enable_x64(dtype == "float64"):
        model, x = build(rnn.Config(cell=cell, width=5, depth=2, embedding=3), shapes), _inputs(shapes, dtype=dtype)
        random = np.random.default_rng(1)
        variables = jax.tree.map(
            lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5, dtype),
            jax.eval_shape(model.init, jax.random.key(0), x),
        )
        params = variables["params"]
        time = (6,) if shapes.per_position else ()
        cotangent = random.normal(size=(2, *time, shapes.outputs)).astype(dtype)

        def total(variables):
            y = _logits(model, variables, x)
            return (y * cotangent).sum(), y

        gradients, y = jax.jit(jax.grad(total, has_aux=True))(variables)
        ours = gradients["params"]

        inputs = torch.tensor(np.array(x))
        if shapes.vocabulary is not None:
            table = torch.tensor(np.array(params["tokens"]["embedding"]), requires_grad=True)
            inputs = table[inputs.long()]
        inputs = inputs.reshape(*inputs.shape[:2], -1)
        layers, head, targets = _module(
            torch, cell, 5, 2, inputs.shape[-1], params, shapes.outputs, getattr(torch, dtype)
        )
        states = layers(inputs)[0]
        ty = head(states if shapes.per_position else states[:, -1])
        ty.backward(torch.tensor(cotangent))

        pairs = [(y, ty.detach())] + [
            (ours[a][b], parameter.grad.T) for (a, b), parameter in targets.items() if b.endswith("kernel")
        ]
        pairs += [(ours[a][b], parameter.grad) for (a, b), parameter in targets.items() if b.endswith("bias")]
        if shapes.vocabulary is not None:
            pairs.append((ours["tokens"]["embedding"], table.grad))
        for value, reference in pairs:
            reference = reference.numpy()
            np.testing.assert_allclose(value, reference, rtol=0, atol=tolerance * np.abs(reference).max())


@pytest.mark.parametrize("cell", CELLS)
def test_no_output_depends_on_a_later_input(cell):
    model, x = build(rnn.Config(cell=cell, width=4, depth=2), SEQUENCE), _inputs(SEQUENCE, batch=1)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    jacobian = jax.jit(jax.jacobian(lambda x: _logits(model, variables, x)[0].sum(-1)))(x)[:, 0]
    influence = jnp.abs(jacobian).sum(-1)  # [output, input]
    assert float(jnp.triu(influence, 1).max()) == 0.0
    assert float(jnp.where(jnp.tri(6, dtype=bool), influence, 1).min()) > 0.0


def test_an_image_is_read_row_by_row():
    model, x = build(rnn.Config(width=4), IMAGE), _inputs(IMAGE)
    rows = Shapes(inputs=(5, 8), vocabulary=None, outputs=3, per_position=False)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    same = _logits(build(rnn.Config(width=4), rows), variables, x.reshape(2, 5, 8))
    np.testing.assert_array_equal(_logits(model, variables, x), same)


def test_dropout_off_draws_nothing_and_zero_changes_nothing():
    model, x = build(rnn.Config(width=4, depth=2), SEQUENCE), _inputs(SEQUENCE)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    still = _logits(model, variables, x)
    np.testing.assert_array_equal(_logits(model, variables, x, train=True), still)  # no stream is given
    assert "random" not in str(jax.make_jaxpr(lambda x: _logits(model, variables, x, train=True))(x))
    rngs = {"dropout": jax.random.key(1)}
    zero = _logits(model, variables, x, train=True, rngs=rngs, dropout_rate=jnp.float32(0))
    np.testing.assert_array_equal(zero, still)
    dropped = _logits(model, variables, x, train=True, rngs=rngs, dropout_rate=jnp.float32(0.5))
    assert not np.allclose(dropped, still)


# --- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("variant", ["none", *VARIANTS])
def test_parameter_counts_of_the_variants(variant, peephole):
    """Greff et al. 2015, section 2: N inputs, M units; N M + M^2 + M for each block, M for each peephole."""
    n, m = 4, 5
    lost = variant in ("no_input_gate", "no_forget_gate", "no_output_gate", "coupled_gates")
    expected = (4 - lost) * (n * m + m * m + m) + peephole * (3 - lost) * m
    expected += 9 * m * m if variant == "full_gate_recurrence" else 0
    model, x = build(rnn.Config(width=m, variant=variant, peephole=peephole), LABEL), _inputs(LABEL)
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params["layer_0"])) == expected


@pytest.mark.parametrize("bidirectional", [False, True])
def test_all_states_are_read_out_side_by_side(bidirectional):
    """The states are those that the network records; the reading is an affine map of them, padding being zeros."""
    config = rnn.Config(cell="gru", width=5, bidirectional=bidirectional, readout="all")
    model, x = build(config, LABEL), _inputs(LABEL, 3)
    variables, inputs = _random_variables(model, x), Padded(x, MASK)
    outputs, seen = jax.jit(lambda v: model.inspect(v, inputs, hyperparameters={}))(variables)
    names = ["layer_0/hidden", "layer_0_backward/hidden"][: 1 + bidirectional]
    states = np.concatenate([np.asarray(seen[name]) for name in names], axis=-1)
    assert not states[1, 1:].any()
    assert states[1, 0].all()
    kernel, bias = (np.asarray(variables["params"]["logits"][name]) for name in ("kernel", "bias"))
    np.testing.assert_allclose(outputs, states.reshape(3, -1) @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_two_directions_double_the_layers():
    model, x = build(rnn.Config(width=5, depth=2, bidirectional=True), LABEL), _inputs(LABEL)
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    expected = 2 * 4 * (5 * 4 + 25 + 5) + 2 * 4 * (5 * 10 + 25 + 5) + 3 * 10 + 3
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_initialisation_of_the_rectified_network_and_of_coupled_gates():
    config = rnn.Config(
        cell="vanilla", activation="relu", recurrent_init="identity", input_init="small_normal", width=100
    )
    gates = {"variant": "coupled_gates"}, {"variant": "no_forget_gate"}
    models = [build(c, LABEL) for c in (config, *(rnn.Config(width=2, forget_bias=2.0, **gate) for gate in gates))]
    init = jax.jit(lambda key, x: [model.init(key, x)["params"]["layer_0"] for model in models])
    layer, coupled, none = init(jax.random.key(0), _inputs(LABEL))
    np.testing.assert_array_equal(layer["recurrent_kernel"], np.eye(100))
    np.testing.assert_allclose(jnp.std(layer["input_kernel"]), 0.001, rtol=0.15)
    np.testing.assert_array_equal(layer["bias"], np.zeros(100))
    np.testing.assert_array_equal(coupled["bias"], [-2, -2, 0, 0, 0, 0])
    np.testing.assert_array_equal(none["bias"], np.zeros(6))


LSTM_NAMES = {"hidden", "cell", "input_gate", "forget_gate", "candidate", "output_gate"}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"cell": "vanilla"}, {"hidden"}),
        ({"cell": "gru"}, {"hidden", "reset_gate", "update_gate", "candidate"}),
        ({"cell": "lstm"}, LSTM_NAMES),
        ({"variant": "no_input_gate", "peephole": True}, LSTM_NAMES - {"input_gate"}),
    ],
)
def test_gates_and_states_by_name(options, names):
    model = build(rnn.Config(**options, width=4, bidirectional=True), TAGS)
    x = Padded(_inputs(TAGS, batch=3), MASK)
    variables = _random_variables(model, x)
    y, kept, plain = jax.jit(lambda v: (*model.inspect(v, x, hyperparameters={}), _logits(model, v, x)))(variables)
    assert set(kept) == {f"layer_0{side}/{name}" for side in ("", "_backward") for name in names}
    assert {value.shape for value in kept.values()} == {(3, 6, 4)}
    hidden = jnp.concatenate([kept["layer_0/hidden"], kept["layer_0_backward/hidden"]], -1)
    head = variables["params"]["logits"]
    np.testing.assert_allclose(hidden @ head["kernel"] + head["bias"][None, None], y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y, plain, rtol=1e-5, atol=1e-6)
    if "cell" in names and not options.get("variant"):
        for side in ("", "_backward"):
            part = {name: kept[f"layer_0{side}/{name}"] for name in names}
            first = part["output_gate"] * jnp.tanh(part["cell"])
            np.testing.assert_allclose(part["hidden"], first, rtol=1e-5, atol=1e-6)
    gates = [value for name, value in kept.items() if name.endswith("gate")]
    assert all(float(gate.min()) >= 0 and float(gate.max()) <= 1 for gate in gates)


def test_nothing_of_the_gates_is_in_the_program_that_is_not_asked_for_them():
    model, x = build(rnn.Config(width=4), TAGS), _inputs(TAGS)
    variables = _random_variables(model, x)
    loops = [
        str(jax.make_jaxpr(run)(variables)).count("scan[")
        for run in (lambda v: _logits(model, v, x), lambda v: model.inspect(v, x, hyperparameters={}))
    ]
    assert loops == [1, 2]


def test_variational_dropout_draws_one_mask_a_sequence():
    """With an identity in place of what is not asked for, the same units are off at every step."""
    shapes = Shapes(inputs=(50, 8), vocabulary=None, outputs=8, per_position=True)
    x, head = jnp.ones((3, 50, 8)), {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}
    layer = {"input_kernel": jnp.eye(8) * 20, "recurrent_kernel": jnp.zeros((8, 8)), "bias": jnp.zeros(8)}
    variables = {"params": {"layer_0": layer, "logits": head}}
    for variational in (True, False):
        model = build(rnn.Config(cell="vanilla", width=8, variational=variational), shapes)
        y = _logits(model, variables, x, train=True, rngs={"dropout": jax.random.key(0)}, dropout_rate=jnp.float32(0.5))
        constant = bool((y == y[:, :1]).all())
        assert constant == variational
        # Two masks of a half in a row, the input's and the output's; without the first: one.
        np.testing.assert_allclose(jnp.mean(y > 0), 0.25 if variational else 0.5, atol=0.2 if variational else 0.05)
    assert len({np.asarray(row).tobytes() for row in np.asarray(y)}) == 3


def test_recurrent_dropout_drops_the_same_units_at_every_step_of_the_recurrent_product():
    """h_t = relu(h_{t-1} m / 0.5 + x) from x = 1: 1, 3, 7, ... where a unit is kept, 1, 1, 1, ... where not."""
    shapes = Shapes(inputs=(5, 64), vocabulary=None, outputs=64, per_position=True)
    layer = {"input_kernel": jnp.eye(64), "recurrent_kernel": jnp.eye(64), "bias": jnp.zeros(64)}
    variables = {"params": {"layer_0": layer, "logits": {"kernel": jnp.eye(64), "bias": jnp.zeros(64)}}}
    model = build(rnn.Config(cell="vanilla", activation="relu", width=64), shapes)
    rate = {"recurrent_dropout_rate": jnp.float32(0.5)}
    y = _logits(model, variables, jnp.ones((4, 5, 64)), train=True, rngs={"dropout": jax.random.key(0)}, **rate)
    kept = np.asarray(y[:, 1] > 2)
    assert 0.35 < kept.mean() < 0.65
    np.testing.assert_allclose(y, np.where(kept[:, None], 2.0 ** np.arange(1, 6)[None, :, None] - 1, 1), rtol=1e-5)
    still = _logits(model, variables, jnp.ones((4, 5, 64)), **rate)
    np.testing.assert_allclose(still[:, -1], 5.0)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"cell": "gru"}, {"bidirectional": True}])
def test_bfloat16(options):
    shapes = Shapes(inputs=(20, 8), vocabulary=None, outputs=3, per_position=True)
    full, half = (build(rnn.Config(**options, width=16), shapes, compute_dtype=d) for d in ("float32", "bfloat16"))
    x = _inputs(shapes, batch=4)
    variables = jax.tree.map(lambda leaf: leaf * 0.4, _random_variables(full, x))

    def run(model, variables):
        def total(variables):
            y = _logits(model, variables, x)
            return jnp.sin(y).sum(), y

        return jax.jit(jax.grad(total, has_aux=True))(variables)

    (a, y), (b, rounded) = run(full, variables), run(half, variables)
    assert rounded.dtype == jnp.float32
    assert float(jnp.linalg.norm(rounded - y) / jnp.linalg.norm(y)) < 3e-2
    for exact, gradient in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert gradient.dtype == jnp.float32
        assert float(jnp.linalg.norm(gradient - exact) / jnp.linalg.norm(exact)) < 0.1


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ({}, Shapes(inputs=(6,), vocabulary=None, outputs=3, per_position=False), r"shape \(6,\)"),
        ({}, Shapes(inputs=(6, 2), vocabulary=5, outputs=5, per_position=True), r"shape \(6, 2\)"),
        ({}, Shapes(inputs=(5, 4, 2), vocabulary=None, outputs=3, per_position=True), "every position"),
        ({}, Shapes(inputs=(5,), vocabulary=4, outputs=3, per_position=True, causal=True, target=5), "seq2seq"),
        ({"bidirectional": True}, CAUSAL, "set bidirectional=false"),
    ],
)
def test_bad_shapes(options, shapes, message):
    with pytest.raises(BadInput, match=message) as error:
        build(rnn.Config(**options), shapes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "field",
    [
        {"width": 0},
        {"cell": "elman"},
        {"dropout_rate": 1.0},
        {"recurrent_dropout_rate": -0.1},
        {"activation": "relu"},
        {"recurrent_init": "eye"},
        {"variant": "nig"},
        {"peephole": True, "cell": "gru"},
        {"variant": "no_input_gate", "cell": "vanilla"},
    ],
)
def test_bad_configurations(field):
    with pytest.raises(BadInput, match=next(iter(field))):
        rnn.Config(**field)
