"""The encoder-decoder: against a loop in PyTorch, step by step, padding, attention weights, counts, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, seq2seq
from models.inputs import Padded, Pair
from models.layers import alignment

S, T, SOURCE, TARGET = 5, 4, 7, 6
SHAPES = Shapes(inputs=(S,), vocabulary=SOURCE, outputs=TARGET, per_position=True, causal=True, target=T)
FRAMES = Shapes(inputs=(S, 3), vocabulary=None, outputs=TARGET, per_position=True, causal=True, target=T)
LENGTHS = np.array([5, 1, 3])
MASK = jnp.asarray(np.arange(S)[None] < LENGTHS[:, None])
TARGET_MASK = jnp.asarray(np.arange(T)[None] < np.array([4, 2, 3])[:, None])
SMALL = {"width": 4, "embedding": 3}
KINDS = {
    "sutskever": {"cell": "lstm", "attention": "none", "bidirectional": False, "reverse_source": True, "depth": 2},
    "bahdanau": {"cell": "gru", "attention": "additive"},
    "bahdanau deep": {"cell": "lstm", "attention": "additive", "depth": 2, "bidirectional": False},
    "luong dot": {"cell": "lstm", "attention": "dot", "bidirectional": False},
    "luong general": {"cell": "gru", "attention": "general"},
    "luong feeding": {"cell": "lstm", "attention": "general", "input_feeding": True, "depth": 2},
    "luong feeding dot": {"cell": "gru", "attention": "dot", "input_feeding": True, "bidirectional": False},
}
every_kind = pytest.mark.parametrize("options", list(KINDS.values()), ids=list(KINDS))


def _inputs(shapes=SHAPES):
    random = np.random.default_rng(0)
    if shapes.vocabulary is None:
        source = jnp.asarray(random.normal(size=(3, *shapes.inputs)))
    else:
        source = jnp.asarray(random.integers(0, SOURCE, (3, S)), "int32")
    return Pair(Padded(source, MASK), Padded(jnp.asarray(random.integers(0, TARGET, (3, T)), "int32"), TARGET_MASK))


def _model(options, shapes=SHAPES, **more):
    return build(seq2seq.Config(**SMALL, **options), shapes, **more)


def _random_variables(model, pair, dtype="float32"):
    random = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5, dtype),
        jax.eval_shape(model.init, jax.random.key(0), pair),
    )


def _logits(model, variables, pair, train=False, rngs=None, **hyperparameters):
    return model.apply(variables, pair, train=train, rngs=rngs or {}, hyperparameters=hyperparameters)[0]


# --- a loop in PyTorch ------------------------------------------------------------------------------------------


def _cell(torch, kind, p, x, state):
    """One step of a recurrent layer, from the equations."""
    z = x @ p["input_kernel"] + p["bias"]
    a = state[0] @ p["recurrent_kernel"]
    if kind == "gru":
        (xr, xu, xn), (ar, au, an) = z.chunk(3, -1), (a + p["recurrent_bias"]).chunk(3, -1)
        r, u = torch.sigmoid(xr + ar), torch.sigmoid(xu + au)
        return ((1 - u) * torch.tanh(xn + r * an) + u * state[0],)
    i, f, g, o = (z + a).chunk(4, -1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _read(torch, kind, p, xs):
    zero = torch.zeros(p["recurrent_kernel"].shape[0], dtype=torch.float64)
    state, states = (zero, zero), []
    for x in xs:
        state = _cell(torch, kind, p, x, state)
        states.append(state)
    return states


def _reference(torch, config, params, source, target):
    """The logits [time, outputs] of one pair without padding: Bahdanau et al. 2015, Luong et al. 2015."""
    encoder, decoder, kind = params["encoder"], params["decoder"], config.cell
    xs = list(encoder["tokens"]["embedding"][source]) if "tokens" in encoder else list(source)
    xs = xs[::-1] if config.reverse_source else xs
    begin = []
    for i in range(config.depth):
        forward = _read(torch, kind, encoder[f"layer_{i}"], xs)
        if config.bidirectional:
            backward = _read(torch, kind, encoder[f"layer_{i}_backward"], xs[::-1])[::-1]
            names = ("hidden", "cell")[: len(backward[0])]
            kernels = [encoder[f"initial_{name}_{i}"]["kernel"] for name in names]
            begin.append(tuple(torch.tanh(part @ k) for part, k in zip(backward[0], kernels, strict=True)))
            xs = [torch.cat([f[0], b[0]]) for f, b in zip(forward, backward, strict=True)]
        else:
            begin.append(forward[-1])
            xs = [state[0] for state in forward]
    memory = torch.stack(xs[::-1] if config.reverse_source else xs)

    def attend(query):
        if config.attention == "additive":
            v, w = decoder["score_vector"], decoder["query_kernel"]
            scores = [v @ torch.tanh(query @ w + h @ encoder["keys"]["kernel"]) for h in memory]
        elif config.attention == "general":
            scores = [query @ (h @ encoder["keys"]["kernel"]) for h in memory]
        else:
            scores = [query @ h for h in memory]
        weights = torch.exp(torch.stack(scores))
        return (weights / weights.sum()) @ memory

    states, fed, logits = begin, torch.zeros(config.width, dtype=torch.float64), []
    for token in target:
        word = decoder["tokens"]["embedding"][token]
        x, context = word, None
        if config.attention == "additive":
            context = attend(states[-1][0])
            x = torch.cat([word, context])
        elif config.input_feeding:
            x = torch.cat([word, fed])
        new = []
        for i in range(config.depth):
            new.append(_cell(torch, kind, decoder[f"layer_{i}"], x, states[i]))
            x = new[-1][0]
        states, top = new, x
        if config.attention == "additive":
            pieces = torch.cat([top, context, word]) @ decoder["readout"]["kernel"]
            top = torch.maximum(pieces[0::2], pieces[1::2])
        elif config.attention != "none":
            fed = top = torch.tanh(torch.cat([attend(top), top]) @ decoder["readout_kernel"])
        logits.append(top @ decoder["logits"]["kernel"] + decoder["logits"]["bias"])
    return torch.stack(logits)


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize(("shapes", "kinds"), [(SHAPES, list(KINDS)), (FRAMES, ["luong dot"])])
def test_outputs_and_gradients_equal_a_loop_in_pytorch(shapes, kinds):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    for kind in kinds:
        with jax.enable_x64(True):
            options, pair = KINDS[kind], _inputs(shapes)
            model = _model(options, shapes)
            variables = _random_variables(model, pair, "float64")
            real = np.asarray(TARGET_MASK)
            cotangent = np.random.default_rng(2).normal(size=(3, T, TARGET)) * real[..., None]

            def total(variables, model=model, pair=pair, cotangent=cotangent):
                y = _logits(model, variables, pair)
                return (y * cotangent).sum(), y

            gradients, y = jax.jit(jax.grad(total, has_aux=True))(variables)
            params = jax.tree.map(lambda leaf: torch.tensor(np.array(leaf), requires_grad=True), variables["params"])
            for row, length in enumerate(LENGTHS):
                source, target = np.array(pair.source.values[row, :length]), np.array(pair.target.values[row])
                source = torch.tensor(source)
                count = int(real[row].sum())
                reference = _reference(torch, seq2seq.Config(**SMALL, **options), params, source, target[:count])
                (reference * torch.tensor(cotangent[row, :count])).sum().backward()
                np.testing.assert_allclose(y[row, :count], reference.detach(), rtol=1e-9, atol=1e-11, err_msg=kind)
            jax.tree.map(
                lambda a, b, kind=kind: np.testing.assert_allclose(a, b.grad, rtol=1e-8, atol=1e-10, err_msg=kind),
                gradients["params"],
                params,
            )


# --- padding, steps, attention ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sutskever", "bahdanau", "luong feeding dot"])
def test_padding_changes_nothing_bit_for_bit(kind):
    model, pair = _model(KINDS[kind]), _inputs()
    variables = _random_variables(model, pair)
    # Tokens beyond the vocabularies.
    other = Pair(
        Padded(jnp.where(MASK, pair.source.values, 100), MASK),
        Padded(jnp.where(TARGET_MASK, pair.target.values, 100), TARGET_MASK),
    )

    @jax.jit
    def run(pair):
        def total(variables):
            y = _logits(model, variables, pair, train=True, rngs={"dropout": jax.random.key(0)}, dropout_rate=0.3)
            return jnp.sum(jnp.sin(y) * TARGET_MASK[..., None]), y

        return jax.grad(total, has_aux=True)(variables)

    (gradients, y), (other_gradients, other_y) = run(pair), run(other)
    np.testing.assert_array_equal(y[TARGET_MASK], other_y[TARGET_MASK])
    jax.tree.map(np.testing.assert_array_equal, gradients, other_gradients)


@pytest.mark.slow
@every_kind
def test_steps_are_the_whole_and_attention_is_a_distribution_over_real_positions(options):
    model, pair = _model(options), _inputs()
    variables = _random_variables(model, pair)

    @jax.jit
    def run(variables):
        carry, parts = model.start(variables, pair.source, length=T), []
        for at, size in ((0, 1), (1, 3)):
            tokens = pair.target.values[:, at : at + size]
            part, carry = model.advance(variables, tokens, carry, train=False, rngs={}, hyperparameters={})
            parts.append(part)
        return carry, jnp.concatenate(parts, 1), *model.inspect(variables, pair, hyperparameters={})

    carry, parts, whole, kept = run(variables)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(carry)} == {3}
    np.testing.assert_allclose(parts[TARGET_MASK], whole[TARGET_MASK], rtol=1e-5, atol=1e-6)
    assert kept["decoder/hidden"].shape == (3, T, 4)
    assert "encoder/layer_0/candidate" in kept
    if options["attention"] == "none":
        return
    weights = kept["decoder/attention_weights"]
    assert weights.shape == (3, T, S)
    np.testing.assert_array_equal(weights * ~MASK[:, None], 0.0)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-6)
    assert float(jnp.std(weights[0])) > 1e-3


def test_scores_and_weights_by_hand():
    queries, keys = jnp.asarray([[[1.0, 2.0]]]), jnp.asarray([[[3.0, 1.0], [0.0, 1.0], [5.0, 5.0]]])
    np.testing.assert_array_equal(alignment.multiplicative_scores(queries, keys), [[[5, 2, 15]]])
    vector = jnp.asarray([2.0, -1.0])
    expected = [[[2 * np.tanh(4) - np.tanh(3), 2 * np.tanh(1) - np.tanh(3), 2 * np.tanh(6) - np.tanh(7)]]]
    np.testing.assert_allclose(alignment.additive_scores(queries, keys, vector), expected, rtol=1e-6)
    mask = jnp.asarray([[True, True, False]])
    weights = alignment.normalise(jnp.asarray([[[5.0, 2.0, 15.0]]]), mask)
    np.testing.assert_allclose(weights, [[[1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3)), 0]]], rtol=1e-6)
    assert not alignment.normalise(jnp.ones((1, 3)), jnp.zeros((1, 3), bool)).any()
    half = alignment.normalise(jnp.ones((1, 1, 3), jnp.bfloat16), mask)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(alignment.contexts(weights, keys)[0, 0], weights[0, 0] @ keys[0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["bahdanau"])
def test_no_output_depends_on_a_later_target(kind):
    """One-hot rows of the target's table stand for its tokens: their gradients show who sees whom."""
    model, pair = _model(KINDS[kind]), _inputs()
    target = jnp.asarray([[0, 1, 2, 3]])
    pair = Pair(Padded(pair.source.values[:1], MASK[:1]), Padded(target, jnp.ones((1, T), bool)))
    variables = _random_variables(model, pair)

    def outputs(table):
        decoder = variables["params"]["decoder"] | {"tokens": {"embedding": table}}
        return _logits(model, {"params": variables["params"] | {"decoder": decoder}}, pair)[0].sum(-1)

    jacobian = jax.jit(jax.jacobian(outputs))(variables["params"]["decoder"]["tokens"]["embedding"])
    influence = np.abs(jacobian).sum(-1)[:, :T]
    assert np.triu(influence, 1).max() == 0
    assert influence[np.tri(T, dtype=bool)].min() > 0


# --- counts, number formats, bad input ----------------------------------------------------------------------------


def _layer(cell, inputs, width):
    return (3 if cell == "gru" else 4) * width * (inputs + width + (2 if cell == "gru" else 1))


@every_kind
def test_parameter_count(options):
    model, pair = _model(options), _inputs()
    params = jax.eval_shape(model.init, jax.random.key(0), pair)["params"]
    config, w, e = seq2seq.Config(**SMALL, **options), 4, 3
    sides = 1 + config.bidirectional
    memory = sides * w
    count = (SOURCE + TARGET) * e + sides * (
        _layer(config.cell, e, w) + (config.depth - 1) * _layer(config.cell, memory, w)
    )
    count += config.bidirectional * config.depth * w * w * (1 if config.cell == "gru" else 2)
    extra = memory if config.attention == "additive" else w * config.input_feeding
    count += _layer(config.cell, e + extra, w) + (config.depth - 1) * _layer(config.cell, w, w)
    count += {"none": 0, "dot": 0, "general": memory * w, "additive": memory * w + w * w + w}[config.attention]
    readout = {"none": 0, "additive": 2 * w * (w + memory + e)}.get(config.attention, w * (w + memory))
    count += readout + TARGET * (w + 1)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bahdanau"])
def test_bfloat16(kind):
    pair, config = _inputs(), seq2seq.Config(width=16, embedding=8, **KINDS[kind])
    full, half = (build(config, SHAPES, compute_dtype=dtype) for dtype in ("float32", "bfloat16"))
    variables = jax.tree.map(lambda leaf: leaf * 0.4, _random_variables(full, pair))

    def run(model, variables):
        def total(variables):
            y = _logits(model, variables, pair)
            return jnp.sin(y).sum(), y

        return jax.jit(jax.grad(total, has_aux=True))(variables)

    (exact, y), (gradients, rounded) = run(full, variables), run(half, variables)
    assert rounded.dtype == jnp.float32
    assert float(jnp.linalg.norm(rounded - y) / jnp.linalg.norm(y)) < 3e-2
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(gradients), strict=True):
        assert b.dtype == jnp.float32
        assert np.isfinite(b).all()
        assert float(jnp.linalg.norm(b - a)) < 0.1 * float(jnp.linalg.norm(a)) + 1e-3
    carry = jax.eval_shape(lambda v: half.start(v, pair.source, length=T), variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry["states"])} == {jnp.dtype("float32")}


def test_dropout_off_draws_nothing_and_zero_changes_nothing():
    model, pair = _model(KINDS["bahdanau deep"]), _inputs()
    variables = _random_variables(model, pair)
    assert "random" not in str(jax.make_jaxpr(lambda v: _logits(model, v, pair, train=True))(variables))
    rngs = {"dropout": jax.random.key(1)}
    still, zero, dropped = jax.jit(
        lambda v: (
            _logits(model, v, pair),
            _logits(model, v, pair, train=True, rngs=rngs, dropout_rate=jnp.float32(0)),
            _logits(model, v, pair, train=True, rngs=rngs, dropout_rate=jnp.float32(0.5)),
        )
    )(variables)
    np.testing.assert_allclose(zero, still, rtol=1e-6, atol=1e-7)
    assert not np.allclose(dropped, still)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "dot"}, "attention=general"),
        ({"input_feeding": True}, "attention=dot or general, not additive"),
        ({"attention": "none", "input_feeding": True}, "not none"),
        ({"attention": "concat"}, "attention"),
        ({"cell": "vanilla"}, "cell"),
        ({"depth": 0}, "depth"),
    ],
)
def test_bad_configurations(options, message):
    with pytest.raises(BadInput, match=message) as error:
        seq2seq.Config(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (Shapes(inputs=(5,), vocabulary=4, outputs=3, per_position=True), "use model 'rnn'"),
        (Shapes(inputs=(5, 4, 2), vocabulary=None, outputs=3, per_position=True, target=4), r"shape \(5, 4, 2\)"),
        (Shapes(inputs=(5,), vocabulary=None, outputs=3, per_position=True, target=4), r"shape \(5,\)"),
    ],
)
def test_bad_shapes(shapes, message):
    with pytest.raises(BadInput, match=message):
        build(seq2seq.Config(), shapes)
