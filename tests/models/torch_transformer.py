"""PyTorch's own Transformer layers, and their weights and gradients under our names. Imports torch when called."""

import jax
import jax.numpy as jnp
import numpy as np


def scramble(module, dtype):
    """Random parameters, none of them 0 or 1 as biases and norms begin."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return module.to(getattr(torch, dtype)).train()


def value(parameter):
    return parameter.detach().numpy()


def gradient(parameter):
    return parameter.grad.numpy()


def dense(linear, get):
    kernel = {"kernel": get(linear.weight).T}
    return kernel if linear.bias is None else kernel | {"bias": get(linear.bias)}


def norm(layer, get):
    return {"scale": get(layer.weight), "bias": get(layer.bias)}


def encoder_layer(layer, get):
    """A ``torch.nn.TransformerEncoderLayer`` as one of our blocks."""
    attention = layer.self_attn
    return {
        "queries_keys_values": {"kernel": get(attention.in_proj_weight).T, "bias": get(attention.in_proj_bias)},
        "attention_out": dense(attention.out_proj, get),
        "feedforward_in": dense(layer.linear1, get),
        "feedforward_out": dense(layer.linear2, get),
        "norm_1": norm(layer.norm1, get),
        "norm_2": norm(layer.norm2, get),
    }


def decoder_layer(layer, get):
    """A ``torch.nn.TransformerDecoderLayer`` as one of our blocks; and its part of ``cross_keys_values``."""
    cross = layer.multihead_attn
    width = cross.embed_dim
    kernel, bias = get(cross.in_proj_weight).T, get(cross.in_proj_bias)
    block = encoder_layer(layer, get) | {
        "norm_2": norm(layer.norm3, get),
        "norm_cross": norm(layer.norm2, get),
        "cross_queries": {"kernel": kernel[:, :width], "bias": bias[:width]},
        "cross_attention_out": dense(cross.out_proj, get),
    }
    return block, (kernel[:, width:], bias[width:])


def variables(params):
    return {"params": jax.tree.map(jnp.asarray, params)}


def assert_trees_close(ours, reference, tolerance, floor=0.0):
    """Every array of ours within ``tolerance`` of the largest value of its reference."""
    assert jax.tree.structure(ours) == jax.tree.structure(reference)
    for (path, mine), other in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(reference), strict=True):
        bound = tolerance * max(np.abs(other).max(), floor)
        np.testing.assert_allclose(mine, other, rtol=0, atol=bound, err_msg=jax.tree_util.keystr(path))
