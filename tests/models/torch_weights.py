"""Parameters, gradients and running statistics of a Linen tree and of PyTorch modules of the same names."""

import jax
import numpy as np


def tensors(module, batch_stats=False):
    """The tensors of a PyTorch module by our path: ``{("block", "kernel"): weight}``.

    A submodule ``norm`` of ``block`` has the path ``("block", "norm")``. Weights of normalisation are
    our ``scale``, other weights our ``kernel``.
    """
    result = {}
    for name, child in module.named_modules():
        path = tuple(name.split("."))
        is_norm = "Norm" in type(child).__name__
        for attribute, ours in (("weight", "scale" if is_norm else "kernel"), ("bias", "bias")):
            tensor = None if batch_stats else getattr(child, attribute, None)
            if tensor is not None and not any(True for _ in child.children()):
                result[(*path, ours)] = tensor
        for attribute, ours in (("running_mean", "mean"), ("running_var", "var")):
            if batch_stats and getattr(child, attribute, None) is not None:
                result[(*path, ours)] = getattr(child, attribute)
    return result


def paths(tree):
    """The leaves of a tree as NumPy arrays by path: ``{("block", "kernel"): array}``."""
    return {
        tuple(key.key for key in path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def as_ours(array):
    """A weight of PyTorch [features, channels, *kernel_size] as [*kernel_size, channels, features]."""
    array = np.asarray(array)
    return array if array.ndim < 2 else np.moveaxis(array, (0, 1), (-1, -2))


def load(torch, module, tree):
    """Copy our parameters into a PyTorch module. Every tensor of both sides must have its counterpart."""
    ours, theirs = paths(tree), tensors(module)
    assert set(ours) == set(theirs)
    with torch.no_grad():
        for path, tensor in theirs.items():
            array = ours[path]
            array = array if array.ndim < 2 else np.moveaxis(array, (-1, -2), (0, 1))
            assert tuple(array.shape) == tuple(tensor.shape)
            tensor.copy_(torch.tensor(array.copy()))


def assert_close(tree, expected, tolerance):
    """Every leaf agrees to a fraction of the largest value among all expected ones of its kind."""
    ours = paths(tree)
    assert set(ours) == set(expected)
    largest = {}
    for path, tensor in expected.items():
        largest[path[-1]] = max(largest.get(path[-1], 0.0), float(np.abs(np.asarray(tensor)).max()))
    for path, tensor in expected.items():
        scale = tolerance * max(float(np.abs(np.asarray(tensor)).max()), 1e-2 * largest[path[-1]])
        np.testing.assert_allclose(ours[path], as_ours(tensor), rtol=0, atol=scale, err_msg="/".join(path))
