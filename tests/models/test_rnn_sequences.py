"""Sequences that a recurrent network reads: of different length, in two directions, in chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, rnn
from models.inputs import Padded

LENGTHS = np.array([6, 1, 4])
MASK = jnp.asarray(np.arange(6)[None] < LENGTHS[:, None])
TAGS = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=True)
LABEL = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=False)
CAUSAL = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=True, causal=True)
WORDS = Shapes(inputs=(6,), vocabulary=7, outputs=3, per_position=False)


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


@pytest.mark.reference
@pytest.mark.parametrize(
    ("cell", "shapes"), [("vanilla", LABEL), ("relu", TAGS), ("gru", LABEL), ("lstm", TAGS), ("lstm", LABEL)]
)
def test_two_directions_and_padding_against_pytorch(cell, shapes):
    torch = pytest.importorskip("torch")
    pack, pad = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    with jax.enable_x64(True):
        options = {"cell": "vanilla", "activation": "relu"} if cell == "relu" else {"cell": cell}
        model = build(rnn.Config(**options, width=5, depth=2, bidirectional=True), shapes)
        x = Padded(_inputs(shapes, batch=3, dtype="float64"), MASK)
        variables = _random_variables(model, x, "float64")
        params = variables["params"]
        real = np.asarray(MASK)[..., None] if shapes.per_position else 1.0
        cotangent = np.random.default_rng(2).normal(size=(3, 6, 3) if shapes.per_position else (3, 3)) * real

        kind = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}.get(cell, torch.nn.RNN)
        more = {"nonlinearity": "relu"} if cell == "relu" else {}
        layers = kind(4, 5, num_layers=2, bidirectional=True, batch_first=True, dtype=torch.float64, **more)
        head = torch.nn.Linear(10, 3, dtype=torch.float64)
        names = {"input_kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"}
        names["recurrent_bias"] = "bias_hh"
        targets = {}
        for i, (ours, theirs) in ((i, pair) for i in range(2) for pair in (("", ""), ("_backward", "_reverse"))):
            if cell != "gru":
                torch.nn.init.zeros_(getattr(layers, f"bias_hh_l{i}{theirs}"))
            for name in params[f"layer_{i}{ours}"]:
                targets[f"layer_{i}{ours}", name] = getattr(layers, f"{names[name]}_l{i}{theirs}")
        targets |= {("logits", "kernel"): head.weight, ("logits", "bias"): head.bias}
        with torch.no_grad():
            for (module, name), parameter in targets.items():
                parameter.copy_(torch.tensor(np.asarray(params[module][name]).T))
        inputs = torch.tensor(np.array(x.values), requires_grad=True)
        states, final = layers(pack(inputs, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False))
        final = final[0] if cell == "lstm" else final
        ty = head(pad(states, batch_first=True)[0] if shapes.per_position else torch.cat([final[-2], final[-1]], 1))
        ty.backward(torch.tensor(cotangent))

        def total(variables, values):
            y = _logits(model, variables, Padded(values, MASK))
            return (y * cotangent).sum(), y

        (ours, by_input), y = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(variables, x.values)
        np.testing.assert_allclose(y, ty.detach(), rtol=0, atol=1e-10 * float(ty.detach().abs().max()))
        pairs = [(ours["params"][module][name], p.grad.numpy().T) for (module, name), p in targets.items()]
        for value, reference in [*pairs, (by_input, inputs.grad.numpy())]:
            np.testing.assert_allclose(value, reference, rtol=0, atol=1e-10 * float(np.abs(reference).max()))


MANY = [
    {"cell": "vanilla", "bidirectional": True},
    {"cell": "gru", "bidirectional": True},
    {"cell": "lstm", "bidirectional": True, "variational": True, "dropout_rate": 0.3, "recurrent_dropout_rate": 0.3},
    {"cell": "lstm", "dropout_rate": 0.3},
    {"cell": "lstm", "variant": "full_gate_recurrence", "peephole": True},
]


@pytest.mark.parametrize(
    ("options", "shapes"), [(MANY[0], WORDS), (MANY[1], TAGS), (MANY[2], TAGS), (MANY[3], WORDS), (MANY[4], TAGS)]
)
def test_padding_changes_nothing_bit_for_bit(options, shapes):
    model = build(rnn.Config(**options, width=4, depth=2, embedding=3), shapes)
    x = _inputs(shapes, batch=3)
    real = MASK.reshape(*MASK.shape, *(1,) * (x.ndim - 2))
    # A number that is none, and tokens that are beyond the vocabulary.
    other = jnp.where(real, x, jnp.nan if shapes.vocabulary is None else 100)
    variables = _random_variables(model, x)
    rngs = {"dropout": jax.random.key(1)}

    @jax.jit
    def run(values):
        def total(variables):
            y = _logits(model, variables, Padded(values, MASK), train=True, rngs=rngs)
            return jnp.sum(jnp.sin(y) * (MASK[..., None] if shapes.per_position else 1)), y

        return jax.grad(total, has_aux=True)(variables)

    (gradients, y), (other_gradients, other_y) = run(x), run(other)
    if shapes.per_position:
        y, other_y = y[MASK], other_y[MASK]
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(y, other_y)
    jax.tree.map(np.testing.assert_array_equal, gradients, other_gradients)


@pytest.mark.parametrize("options", [{"cell": "gru", "bidirectional": True}, {"variant": "full_gate_recurrence"}])
def test_a_padded_sequence_is_the_sequence_alone(options):
    """Of each length by itself, without a mask; outputs at padding come from a zero hidden state."""
    model = build(rnn.Config(**options, width=4, depth=2), TAGS)
    label = build(rnn.Config(**options, width=4, depth=2), LABEL)
    x = _inputs(TAGS, batch=3)
    variables = _random_variables(model, x)

    @jax.jit
    def run(variables):
        rows = [Padded(x, MASK), *(x[row : row + 1, :length] for row, length in enumerate(LENGTHS))]
        return [(_logits(model, variables, row), _logits(label, variables, row)) for row in rows]

    (padded, labels), *alone = run(variables)
    for row, (length, (tags, tag)) in enumerate(zip(LENGTHS, alone, strict=True)):
        np.testing.assert_allclose(padded[row, :length], tags[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(labels[row], tag[0], rtol=1e-5, atol=1e-6)
    bias = variables["params"]["logits"]["bias"]
    np.testing.assert_array_equal(padded[1, 1:], jnp.broadcast_to(bias[None], (5, 3)))


def _advance(model, variables, x, carry):
    return model.advance(variables, x, carry, train=False, rngs={}, hyperparameters={})


STEPWISE = [
    {"cell": "vanilla"},
    {"cell": "gru"},
    {"cell": "lstm"},
    {"variant": "coupled_gates", "peephole": True},
    {"variant": "full_gate_recurrence"},
]


@pytest.mark.parametrize(
    ("options", "compute_dtype"), [*((options, "float32") for options in STEPWISE), ({"cell": "gru"}, "bfloat16")]
)
def test_chunks_are_the_whole_sequence(options, compute_dtype):
    model = build(rnn.Config(**options, width=4, depth=2), CAUSAL, compute_dtype=compute_dtype)
    x = _inputs(CAUSAL, batch=3)
    variables = _random_variables(model, x)

    @jax.jit
    def run(variables):
        carry = start = model.start(variables, 3, length=6)
        parts = []
        for size in (3, 2, 1):
            at = sum(part.shape[1] for part in parts)
            part, carry = _advance(model, variables, x[:, at : at + size], carry)
            parts.append(part)
        return start, jnp.concatenate(parts, 1), _logits(model, variables, x)

    start, chunks, whole = run(variables)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(start)} == {3}
    assert {leaf.dtype for leaf in jax.tree.leaves(start)} == {jnp.dtype("float32")}
    # Products of another number of rows, and loops of one step, may round otherwise.
    tolerance = 1e-6 if compute_dtype == "float32" else 0.02
    np.testing.assert_allclose(chunks, whole, rtol=0, atol=tolerance * np.abs(whole).max())


@pytest.mark.parametrize("options", [{"cell": "gru"}, {"cell": "lstm"}, {"variant": "full_gate_recurrence"}])
def test_the_carry_passes_padding_by(options):
    model = build(rnn.Config(**options, width=4, depth=2), LABEL)
    x = _inputs(LABEL, batch=3)
    variables = _random_variables(model, x)

    @jax.jit
    def run(variables):
        start = model.start(variables, 3, length=6)
        expected, whole = _advance(model, variables, Padded(x, MASK), start)
        _, first = _advance(model, variables, Padded(x[:, :3], MASK[:, :3]), start)
        y, second = _advance(model, variables, Padded(x[:, 3:], MASK[:, 3:]), first)
        return expected, y, whole, first, second

    expected, y, whole, first, second = run(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), second, whole)
    # The row that ended in the first chunk is as it was, bit for bit.
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), second, first)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"cell": "lstm"}, {"peephole": True}])
def test_truncated_backpropagation_stops_at_the_chunk_and_the_carry_can_be_differentiated(options):
    model = build(rnn.Config(**options, width=4), CAUSAL)
    x = _inputs(CAUSAL, batch=2)
    variables = _random_variables(model, x)

    def first(variables):
        return _advance(model, variables, x[:, :3], model.start(variables, 2, length=6))[1]

    def second(variables, carry):
        return jnp.sin(_advance(model, variables, x[:, 3:], carry)[0]).sum()

    def both(variables, stop):
        carry = first(variables)
        return second(variables, jax.lax.stop_gradient(carry) if stop else carry)

    def whole(variables):
        y = model.apply(variables, x, train=False, rngs={}, hyperparameters={})[0]
        return jnp.sin(y[:, 3:]).sum()

    through, stopped, full, alone = jax.jit(
        lambda v: (
            jax.grad(both)(v, False),
            jax.grad(both)(v, True),
            jax.grad(whole)(v),
            jax.grad(second)(v, first(v)),
        )
    )(variables)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, through, full)
    jax.tree.map(close, alone, stopped)
    kernel = [g["params"]["layer_0"]["recurrent_kernel"] for g in (through, stopped)]
    assert float(jnp.abs(kernel[0] - kernel[1]).max()) > 1e-3


def test_two_directions_cannot_be_read_step_by_step():
    model, x = build(rnn.Config(width=4, bidirectional=True), TAGS), _inputs(TAGS)
    variables = _random_variables(model, x)
    with pytest.raises(BadInput, match="bidirectional=false"):
        model.start(variables, 2, length=6)
