"""The affine layer, with a weight gradient formulated for the backend it runs on."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from models.layers import direct, native
from models.layers.partitioning import by_head, gathered, is_partitioned, tensor_parts
from models.partitioning import tensor_axis

_LARGE = 2**18
"""Elements of a kernel from which on XLA's product is faster: its gradient no longer fits a second-level cache."""


@jax.custom_vjp
def matmul(
    x: Float[Array, "*batch inputs"], kernel: Float[Array, "inputs features"]
) -> Float[Array, "*batch features"]:
    """``x @ kernel``, whose kernel gradient is ``transpose(x) @ g`` over all leading axes at once.

    A product that contracts the first axis of both operands runs at half to two thirds of the speed on
    CPU. There it is machine code (``layers/direct.py``), or where that does not fit or the kernel is large,
    the transpose is written out before the product. Other backends get the plain form.

    Args:
        x: inputs with any leading axes.
        kernel: the matrix.
    """
    return jnp.matmul(x, kernel)


def _matmul_forward(x: Any, kernel: Any) -> tuple[Any, tuple[Any, Any]]:
    return jnp.matmul(x, kernel), (x, kernel)


def _matmul_backward(residuals: tuple[Any, Any], g: Any) -> tuple[Any, Any]:
    x, kernel = residuals
    if is_partitioned():  # examples that are cut along the second axis cannot stay so where axes are joined
        leading = tuple(range(x.ndim - 1))
        kernel_gradient = jax.lax.dot_general(x, g, ((leading, leading), ((), ())))
        return jnp.matmul(g, kernel.T).astype(x.dtype), kernel_gradient.astype(kernel.dtype)
    rows = math.prod(x.shape[:-1])
    kernel_gradient = jax.lax.platform_dependent(
        x.reshape(rows, x.shape[-1]), g.reshape(rows, g.shape[-1]), cpu=_on_cpu, default=_plain
    )
    return jnp.matmul(g, kernel.T).astype(x.dtype), kernel_gradient.astype(kernel.dtype)


def _on_cpu(x: Any, g: Any) -> Any:
    features = g.shape[-1]
    if features % 2 == 0 and native.fits(features // 2, x.dtype) and x.shape[-1] * features <= _LARGE:
        return direct.transposed_product(x, g)
    # Without the barrier XLA folds the transpose back into the product.
    return jax.lax.optimization_barrier(jnp.copy(x.T)) @ g


def _plain(x: Any, g: Any) -> Any:
    return x.T @ g


matmul.defvjp(_matmul_forward, _matmul_backward)


class Dense(nn.Module):
    """Affine map of the last axis: ``y = x kernel + bias``.

    Attributes:
        features: size of the last axis of the outputs.
        use_bias: whether there is a bias.
        kernel_init: initialiser of ``kernel`` [inputs, features]. The default is LeCun's normal
            (variance 1 / inputs; LeCun et al. 1998, "Efficient BackProp", section 4.6).
        bias_init: initialiser of ``bias`` [features].
        heads: how many heads the inputs are made of, each of which one device must have whole; None: they are none.
    """

    features: int
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()
    heads: int | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch features"]:
        """Apply the map to the last axis of ``x``."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = matmul(x, gathered(kernel, tensor_axis(self._name("kernel"), kernel.shape), self.heads))
        if not self.use_bias:
            return y
        bias = self.param("bias", self.bias_init, (self.features,))
        bias = gathered(bias, tensor_axis(self._name("bias"), bias.shape))
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))

    def _name(self, parameter: str) -> str:
        return "/".join((*self.path, parameter))


class HeadsDense(nn.Module):
    """Affine map of the last axis to several groups of heads: one kernel and one product for all.

    Where heads lie on different devices, the columns of the kernel are put into another order for the product: a
    part of all of them is then a part of each group (Shoeybi et al. 2019, section 3).

    Attributes:
        groups: (number of heads, features of one) of each group, such as queries, keys and values.
        use_bias: whether there is a bias.
        kernel_init: initialiser of ``kernel`` [inputs, features of all].
    """

    groups: tuple[tuple[int, int], ...]
    use_bias: bool
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "batch time inputs"], *, joined: bool = False) -> list[Array]:
        """The heads of each group, [batch, time, heads, size].

        Args:
            x: inputs.
            joined: give one array instead, [batch, time, features of all], where heads lie on one device.
        """
        sizes = [heads * size for heads, size in self.groups]
        ends = [sum(sizes[: number + 1]) for number in range(len(sizes) - 1)]
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], sum(sizes)))
        bias = self.param("bias", nn.initializers.zeros_init(), (sum(sizes),)) if self.use_bias else None
        parts = tensor_parts(*(heads for heads, _ in self.groups))
        if parts == 1:
            y = matmul(x, gathered(kernel))
            y = y if bias is None else y + gathered(bias)[None, None]
            if joined:
                return [y]
            found = jnp.split(y, ends, axis=-1)
        else:
            y = matmul(x, gathered(_by_part(kernel, ends, parts), 1))
            y = y if bias is None else y + gathered(_by_part(bias, ends, parts), 0)[None, None]
            y = y.reshape(*x.shape[:2], parts, -1)
            found = jnp.split(y, [end // parts for end in ends], axis=-1)
        heads = (each.reshape(*x.shape[:2], *group) for each, group in zip(found, self.groups, strict=True))
        return [by_head(each) for each in heads]


def _by_part(weights: Array, ends: list[int], parts: int) -> Array:
    """Groups of columns, cut into parts each: the first part of every group, then the second of every group, ..."""
    groups = jnp.split(weights, ends, axis=-1)
    cut = [each.reshape(*each.shape[:-1], parts, -1) for each in groups]
    return jnp.concatenate(cut, axis=-1).reshape(weights.shape)
