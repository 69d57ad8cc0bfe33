"""Whole Transformers against the same models of PyTorch's layers: outputs and every gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import Shapes, build, encoder_decoder, transformer
from models.inputs import Padded, Pair
from tests.models import torch_transformer as reference

pytestmark = pytest.mark.reference

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
WIDTH, TIME, TOKENS = 8, 6, 7
SIZES = {"width": WIDTH, "heads": 2, "feedforward": 12, "depth": 1}
LENGTHS = np.array([TIME, 4, 1])
MASK = np.arange(TIME)[None] < LENGTHS[:, None]


def _layers(torch, kind="Encoder", *, pre, activation="gelu", depth=1):
    layer = getattr(torch.nn, f"Transformer{kind}Layer")
    return torch.nn.ModuleList(
        layer(WIDTH, 2, 12, 0.0, activation, batch_first=True, norm_first=pre) for _ in range(depth)
    )


def _compare(model, params, gradients, inputs, cotangent, theirs, tolerance):
    """Outputs, then gradients of their product with the cotangent. ``params`` and ``gradients`` are PyTorch's."""

    def product(variables):
        outputs = model.apply(variables, inputs, train=True, rngs={}, hyperparameters={})[0]
        return (outputs * cotangent).sum(), outputs

    (_, outputs), ours = jax.jit(jax.value_and_grad(product, has_aux=True))(reference.variables(params))
    weight = np.broadcast_to(cotangent != 0, outputs.shape)  # padded positions may hold anything
    reference.assert_trees_close(outputs * weight, theirs * weight, tolerance)
    # The gradient of the keys' biases is zero but for rounding; other gradients of this tree are not small.
    reference.assert_trees_close(ours["params"], gradients, tolerance, floor=0.1)


@DTYPES
def test_decoder_as_gpt(dtype, tolerance):
    torch = pytest.importorskip("torch")
    twin = torch.nn.ModuleDict(
        {
            "tokens": torch.nn.Embedding(TOKENS, WIDTH),
            "positions": torch.nn.Embedding(TIME, WIDTH),
            "blocks": _layers(torch, pre=True),
            "norm": torch.nn.LayerNorm(WIDTH),
        }
    )
    reference.scramble(twin, dtype)

    def tree(get):
        blocks = {f"block_{i}": reference.encoder_layer(layer, get) for i, layer in enumerate(twin["blocks"])}
        return blocks | {
            "tokens": {"embedding": get(twin["tokens"].weight)},
            "positions": get(twin["positions"].weight),
            "norm": reference.norm(twin["norm"], get),
        }

    random = np.random.default_rng(0)
    tokens = random.integers(0, TOKENS, (3, TIME))
    cotangent = random.normal(size=(3, TIME, TOKENS)).astype(dtype)
    params = tree(reference.value)
    x = twin["tokens"](torch.tensor(tokens)) + twin["positions"].weight
    mask = torch.nn.Transformer.generate_square_subsequent_mask(TIME, dtype=x.dtype)
    for layer in twin["blocks"]:
        x = layer(x, src_mask=mask, is_causal=True)
    theirs = twin["norm"](x) @ twin["tokens"].weight.T
    theirs.backward(torch.tensor(cotangent))
    with jax.enable_x64(dtype == "float64"):
        config = transformer.Config(**SIZES, activation="gelu", tie_embeddings=True)
        shapes = Shapes(inputs=(TIME,), vocabulary=TOKENS, outputs=TOKENS, per_position=True, causal=True)
        inputs = jnp.asarray(tokens, "int32")
        gradients = tree(reference.gradient)
        _compare(build(config, shapes), params, gradients, inputs, cotangent, reference.value(theirs), tolerance)


def _bert(torch):
    return torch.nn.ModuleDict(
        {
            "tokens": torch.nn.Embedding(TOKENS, WIDTH),
            "positions": torch.nn.Embedding(TIME, WIDTH),
            "segments": torch.nn.Embedding(2, WIDTH),
            "embedding_norm": torch.nn.LayerNorm(WIDTH),
            "blocks": _layers(torch, pre=False),
        }
    )


def _bert_tree(twin, get):
    blocks = {f"block_{i}": reference.encoder_layer(layer, get) for i, layer in enumerate(twin["blocks"])}
    return blocks | {
        "tokens": {"embedding": get(twin["tokens"].weight)},
        "segments": {"embedding": get(twin["segments"].weight)},
        "positions": get(twin["positions"].weight),
        "embedding_norm": reference.norm(twin["embedding_norm"], get),
    }


BERT_TOKENS = np.array([[3, 1, 4, 2, 5, 2], [6, 2, 1, 3, 2, 2], [5, 4, 4, 4, 4, 4]])
BERT_SEGMENTS = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
"""The separator is 2, and ends its segment; the second row has three, and two vectors of segments."""
BERT = {**SIZES, "activation": "gelu", "norm_position": "post", "embedding_norm": True, "segments": 2, "separator": 2}


def _bert_body(torch, twin):
    x = twin["tokens"](torch.tensor(BERT_TOKENS)) + twin["positions"].weight
    x = twin["embedding_norm"](x + twin["segments"](torch.tensor(BERT_SEGMENTS)))
    for layer in twin["blocks"]:
        x = layer(x, src_key_padding_mask=torch.tensor(~MASK))
    return x


@pytest.mark.slow
@DTYPES
def test_masked_language_model_as_bert(dtype, tolerance):
    torch = pytest.importorskip("torch")
    twin = _bert(torch)
    twin["head_dense"], twin["head_norm"] = torch.nn.Linear(WIDTH, WIDTH), torch.nn.LayerNorm(WIDTH)
    twin["bias"] = torch.nn.Embedding(1, TOKENS)
    reference.scramble(twin, dtype)

    def tree(get):
        return _bert_tree(twin, get) | {
            "head_dense": reference.dense(twin["head_dense"], get),
            "head_norm": reference.norm(twin["head_norm"], get),
            "logits_bias": get(twin["bias"].weight)[0],
        }

    cotangent = np.random.default_rng(0).normal(size=(3, TIME, TOKENS)).astype(dtype) * MASK[..., None]
    params = tree(reference.value)
    x = twin["head_norm"](torch.nn.functional.gelu(twin["head_dense"](_bert_body(torch, twin))))
    theirs = x @ twin["tokens"].weight.T + twin["bias"].weight
    theirs.backward(torch.tensor(cotangent))
    with jax.enable_x64(dtype == "float64"):
        config = transformer.Config(**BERT, head="masked_language_model", tie_embeddings=True)
        shapes = Shapes(inputs=(TIME,), vocabulary=TOKENS, outputs=TOKENS, per_position=True)
        inputs = Padded(jnp.asarray(BERT_TOKENS, "int32"), jnp.asarray(MASK))
        gradients = tree(reference.gradient)
        _compare(build(config, shapes), params, gradients, inputs, cotangent, reference.value(theirs), tolerance)


@DTYPES
def test_classifier_as_bert(dtype, tolerance):
    torch = pytest.importorskip("torch")
    twin = _bert(torch)
    twin["pooler"], twin["logits"] = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 3)
    reference.scramble(twin, dtype)

    def tree(get):
        return _bert_tree(twin, get) | {name: reference.dense(twin[name], get) for name in ("pooler", "logits")}

    cotangent = np.random.default_rng(0).normal(size=(3, 3)).astype(dtype)
    params = tree(reference.value)
    theirs = twin["logits"](torch.tanh(twin["pooler"](_bert_body(torch, twin)[:, 0])))
    theirs.backward(torch.tensor(cotangent))
    with jax.enable_x64(dtype == "float64"):
        config = transformer.Config(**BERT, pooling="first")
        shapes = Shapes(inputs=(TIME,), vocabulary=TOKENS, outputs=3, per_position=False)
        inputs = Padded(jnp.asarray(BERT_TOKENS, "int32"), jnp.asarray(MASK))
        gradients = tree(reference.gradient)
        _compare(build(config, shapes), params, gradients, inputs, cotangent, reference.value(theirs), tolerance)


@DTYPES
def test_image_patches_as_vit(dtype, tolerance):
    """The patches are PyTorch's convolution of stride 2."""
    torch = pytest.importorskip("torch")
    twin = torch.nn.ModuleDict(
        {
            "project": torch.nn.Conv2d(3, WIDTH, 2, 2),
            "class_token": torch.nn.Embedding(1, WIDTH),
            "positions": torch.nn.Embedding(7, WIDTH),
            "blocks": _layers(torch, pre=True),
            "norm": torch.nn.LayerNorm(WIDTH),
            "logits": torch.nn.Linear(WIDTH, 3),
        }
    )
    reference.scramble(twin, dtype)

    def tree(get):
        blocks = {f"block_{i}": reference.encoder_layer(layer, get) for i, layer in enumerate(twin["blocks"])}
        kernel = get(twin["project"].weight).transpose(2, 3, 1, 0).reshape(12, WIDTH)
        return blocks | {
            "project": {"kernel": kernel, "bias": get(twin["project"].bias)},
            "class_token": get(twin["class_token"].weight)[0],
            "positions": get(twin["positions"].weight),
            "norm": reference.norm(twin["norm"], get),
            "logits": reference.dense(twin["logits"], get),
        }

    random = np.random.default_rng(0)
    images, cotangent = random.normal(size=(2, 4, 6, 3)).astype(dtype), random.normal(size=(2, 3)).astype(dtype)
    params = tree(reference.value)
    x = twin["project"](torch.tensor(images).permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
    x = torch.cat([twin["class_token"].weight.expand(2, 1, WIDTH), x], 1) + twin["positions"].weight
    for layer in twin["blocks"]:
        x = layer(x)
    theirs = twin["logits"](twin["norm"](x)[:, 0])
    theirs.backward(torch.tensor(cotangent))
    with jax.enable_x64(dtype == "float64"):
        config = transformer.Config(**SIZES, activation="gelu", pooling="class_token", patch_size=2)
        shapes = Shapes(inputs=(4, 6, 3), vocabulary=None, outputs=3, per_position=False)
        gradients = tree(reference.gradient)
        model = build(config, shapes)
        _compare(model, params, gradients, jnp.asarray(images), cotangent, reference.value(theirs), tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("pre", "dtype", "tolerance"), [(False, "float32", 1e-5), (True, "float64", 1e-10)])
def test_encoder_decoder_as_vaswani(pre, dtype, tolerance):
    torch = pytest.importorskip("torch")
    twin = torch.nn.ModuleDict(
        {
            "tokens": torch.nn.Embedding(TOKENS, WIDTH),
            "encoder": _layers(torch, pre=pre, activation="relu"),
            "decoder": _layers(torch, "Decoder", pre=pre, activation="relu", depth=2),
            "encoder_norm": torch.nn.LayerNorm(WIDTH),
            "decoder_norm": torch.nn.LayerNorm(WIDTH),
        }
    )
    reference.scramble(twin, dtype)

    def tree(get):
        encoder = {f"block_{i}": reference.encoder_layer(layer, get) for i, layer in enumerate(twin["encoder"])}
        pairs = [reference.decoder_layer(layer, get) for layer in twin["decoder"]]
        decoder = {f"block_{i}": block for i, (block, _) in enumerate(pairs)}
        kernel, bias = (np.concatenate([cross[i] for _, cross in pairs], axis=-1) for i in (0, 1))
        if pre:
            encoder["norm"] = reference.norm(twin["encoder_norm"], get)
            decoder["norm"] = reference.norm(twin["decoder_norm"], get)
        return {
            "tokens": {"embedding": get(twin["tokens"].weight)},
            "encoder": encoder,
            "decoder": decoder,
            "cross_keys_values": {"kernel": kernel, "bias": bias},
        }

    random = np.random.default_rng(0)
    source, target = random.integers(0, TOKENS, (3, TIME)), random.integers(0, TOKENS, (3, 5))
    target_mask = np.arange(5)[None] < np.array([[3], [5], [4]])
    cotangent = random.normal(size=(3, 5, TOKENS)).astype(dtype) * target_mask[..., None]
    params = tree(reference.value)
    angles = np.arange(TIME)[:, None] / 10_000 ** (np.arange(0, WIDTH, 2) / WIDTH)
    table = torch.tensor(
        np.stack([np.sin(angles), np.cos(angles)], -1).reshape(TIME, WIDTH), dtype=getattr(torch, dtype)
    )
    memory = twin["tokens"](torch.tensor(source)) * WIDTH**0.5 + table
    padding = torch.tensor(~MASK)
    for layer in twin["encoder"]:
        memory = layer(memory, src_key_padding_mask=padding)
    memory = twin["encoder_norm"](memory) if pre else memory
    x = twin["tokens"](torch.tensor(target)) * WIDTH**0.5 + table[:5]
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=x.dtype)
    for layer in twin["decoder"]:
        x = layer(x, memory, tgt_mask=mask, memory_key_padding_mask=padding)
    theirs = (twin["decoder_norm"](x) if pre else x) @ twin["tokens"].weight.T
    theirs.backward(torch.tensor(cotangent))
    with jax.enable_x64(dtype == "float64"):
        position = "pre" if pre else "post"
        sizes = SIZES | {"depth": 2, "encoder_depth": 1}
        config = encoder_decoder.Config(**sizes, norm_position=position, dropout_rate=0.0)
        shapes = Shapes(inputs=(TIME,), vocabulary=TOKENS, outputs=TOKENS, per_position=True, target=5)
        inputs = Pair(
            Padded(jnp.asarray(source, "int32"), jnp.asarray(MASK)),
            Padded(jnp.asarray(target, "int32"), jnp.asarray(target_mask)),
        )
        gradients = tree(reference.gradient)
        _compare(build(config, shapes), params, gradients, inputs, cotangent, reference.value(theirs), tolerance)
