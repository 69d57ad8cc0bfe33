"""The recurrent network: against PyTorch, causality, counts, dropout, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, rnn

CELLS = ("vanilla", "gru", "lstm")
GATES = {"vanilla": 1, "gru": 3, "lstm": 4}
IMAGE = Shapes(inputs=(5, 4, 2), vocabulary=None, outputs=3, per_position=False)
SEQUENCE = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=True)
TOKENS = Shapes(inputs=(6,), vocabulary=7, outputs=7, per_position=True)


def _inputs(shapes, batch=2, dtype="float32"):
    random = np.random.default_rng(0)
    if shapes.vocabulary is None:
        return jnp.asarray(random.normal(size=(batch, *shapes.inputs)), dtype)
    return jnp.asarray(random.integers(0, shapes.vocabulary, (batch, *shapes.inputs)), "int32")


def _logits(model, variables, x, train=False, rngs=None, **hyperparameters):
    def apply(variables, x, rngs, hyperparameters):
        return model.apply(variables, x, train=train, rngs=rngs, hyperparameters=hyperparameters)[0]

    return jax.jit(apply)(variables, x, rngs or {}, hyperparameters)


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
        y = _logits(model, variables, x)
        cotangent = random.normal(size=y.shape).astype(dtype)
        ours = jax.jit(jax.grad(lambda v: (_logits(model, v, x) * cotangent).sum()))(variables)["params"]

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


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (Shapes(inputs=(6,), vocabulary=None, outputs=3, per_position=False), r"shape \(6,\)"),
        (Shapes(inputs=(6, 2), vocabulary=5, outputs=5, per_position=True), r"shape \(6, 2\)"),
        (Shapes(inputs=(5, 4, 2), vocabulary=None, outputs=3, per_position=True), "every position"),
    ],
)
def test_bad_shapes(shapes, message):
    with pytest.raises(BadInput, match=message):
        build(rnn.Config(), shapes)


@pytest.mark.parametrize("field", [{"width": 0}, {"cell": "elman"}, {"dropout_rate": 1.0}])
def test_bad_configurations(field):
    with pytest.raises(BadInput, match=next(iter(field))):
        rnn.Config(**field)
