"""The options that every Transformer of the house has, and what follows from them alone."""

import dataclasses
from typing import Annotated, Literal

from flax import linen as nn

from models.base import BadInput, Configuration, Static, Traced, check_divides
from models.layers.normalisation import LayerNorm, RMSNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackConfig(Configuration):
    """Options of a stack of Transformer blocks.

    Attributes:
        width: length of the vector at each position.
        depth: number of blocks.
        heads: attention heads in each block.
        feedforward: hidden units of each block's perceptron; 0 leaves perceptron and its norm out (as in Olsson et al.
            2022, "In-context learning and induction heads", and Arora et al. 2023).
        activation: nonlinearity of the perceptron. The gated ones have a second product beside the
            first (Shazeer 2020, section 2): as many parameters as another one has then need two
            thirds of the hidden units.
        dropout_rate: on embeddings, attention weights and the outputs of all branches (GPT-2).
        use_bias: whether the dense layers of the blocks and the input projection have biases.
        initialisation: of the kernels. ``lecun``: normal of variance 1 / inputs (LeCun et al. 1998,
            section 4.6), which suits every width. ``gpt2``: normal of deviation 0.02 (Radford et al.
            2019; Devlin et al. 2019), which suits widths near 1,000 and leaves narrow networks slow to start.
        scale_residual: kernels that write into the residual stream begin smaller by the square root of
            the number of branches that do (Radford et al. 2019, section 2.3).
        normalisation: ``layer`` (Ba et al. 2016) or ``rms`` (Zhang and Sennrich 2019).
        norm_position: ``pre``: ``x + branch(norm(x))`` and one more norm at the end (Xiong et al. 2020,
            figure 1b). ``post``: ``norm(x + branch(x))`` (Vaswani et al. 2017, section 3.1).
        positions: how a block knows the order. ``learned``: a vector for each position, added to the
            embedding (Gehring et al. 2017; GPT-2, BERT, ViT). ``sinusoidal``: the same of sines and cosines
            (Vaswani et al. 2017, section 3.5). ``rotary``: queries and keys are turned (Su et al. 2021).
            ``alibi``: scores fall with distance (Press et al. 2022). ``none``. All but ``learned`` read
            sequences of any length.
        qk_norm: normalise the queries and the keys of each head (Dehghani et al. 2023, section 2.1), with a
            scale that the heads share.
        key_size: length of a head's queries and keys; None is width / heads (Vaswani et al. 2017, table 3 B).
        value_size: length of a head's values; None is width / heads.
        kv_heads: heads of keys and values, each shared by heads / kv_heads heads of queries (Ainslie et
            al. 2023); 1 is multi-query attention (Shazeer 2019). None is as many as ``heads``.
        embedding_norm: normalise the sum of the embeddings (Devlin et al. 2019, as released).
        embedding_scale: multiply the vectors of tokens by sqrt(width) (Vaswani et al. 2017, section 3.4); the
            table then begins with deviation 1 / sqrt(width), as released with that paper, instead of 0.02.
        scan_layers: one block compiled once and scanned over, its parameters stacked along a first axis
            under ``blocks``; otherwise blocks ``block_0``, ``block_1``, ... Same function of the same
            parameters, faster to compile; the initial draws differ.
        remat: keep only the input of each block for the backward pass, and compute the rest again
            (Chen et al. 2016).
    """

    width: Annotated[int, Static(ge=1)] = 64
    depth: Annotated[int, Static(ge=1)] = 2
    heads: Annotated[int, Static(ge=1)] = 4
    feedforward: Annotated[int, Static(ge=0)] = 256
    activation: Annotated[Literal["gelu", "gelu_tanh", "relu", "swiglu", "geglu"], Static()] = "gelu_tanh"
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0
    use_bias: Annotated[bool, Static()] = True
    initialisation: Annotated[Literal["lecun", "gpt2"], Static()] = "lecun"
    scale_residual: Annotated[bool, Static()] = True
    normalisation: Annotated[Literal["layer", "rms"], Static()] = "layer"
    norm_position: Annotated[Literal["pre", "post"], Static()] = "pre"
    positions: Annotated[Literal["learned", "sinusoidal", "rotary", "alibi", "none"], Static()] = "learned"
    qk_norm: Annotated[bool, Static()] = False
    key_size: Annotated[int | None, Static(ge=1)] = None
    value_size: Annotated[int | None, Static(ge=1)] = None
    kv_heads: Annotated[int | None, Static(ge=1)] = None
    embedding_norm: Annotated[bool, Static()] = False
    embedding_scale: Annotated[bool, Static()] = False
    scan_layers: Annotated[bool, Static()] = False
    remat: Annotated[bool, Static()] = False

    def validate(self) -> None:
        """Heads share the width equally unless their sizes are given; groups of heads are equal."""
        if self.key_size is None or self.value_size is None:
            check_divides("heads", self.heads, "width", self.width, otherwise="or give key_size and value_size")
        if self.kv_heads is not None:
            check_divides("kv_heads", self.kv_heads, "heads", self.heads)
        key_size = sizes(self).key
        if self.positions == "rotary" and key_size % 2:
            raise BadInput(
                f"positions='rotary' turns pairs: the {key_size} components of a query must be an even number; "
                f"key_size={key_size - 1 or 2} or {key_size + 1} would be"
            )
        if self.positions == "sinusoidal" and self.width % 2:
            raise BadInput(
                f"positions='sinusoidal' is pairs of sines and cosines: width={self.width} must be even; "
                f"{self.width + 1} would be"
            )


@dataclasses.dataclass(frozen=True)
class HeadSizes:
    """How many heads of keys and values there are, and the lengths of a key and of a value."""

    kv_heads: int
    key: int
    value: int


def sizes(config: StackConfig) -> HeadSizes:
    """The sizes of the heads, with what the configuration leaves out filled in."""
    share = config.width // config.heads
    return HeadSizes(
        config.heads if config.kv_heads is None else config.kv_heads,
        share if config.key_size is None else config.key_size,
        share if config.value_size is None else config.value_size,
    )


def kernel_init(config: StackConfig, scale: float = 1.0) -> nn.initializers.Initializer:
    """The initialiser that the configuration names, its deviation multiplied by ``scale``. Biases begin at 0."""
    if config.initialisation == "gpt2":
        return nn.initializers.normal(0.02 * scale)
    return nn.initializers.variance_scaling(scale**2, "fan_in", "normal")


TABLE_INIT = nn.initializers.normal(0.02)
"""GPT-2's initialisation of the tables of tokens and positions (Radford et al. 2019)."""


def table_init(config: StackConfig) -> nn.initializers.Initializer:
    """The initialiser of a table of tokens."""
    return nn.initializers.normal(config.width**-0.5) if config.embedding_scale else TABLE_INIT


def norm(config: StackConfig, name: str | None) -> LayerNorm | RMSNorm:
    """The normalisation that the configuration names."""
    return LayerNorm(name=name) if config.normalisation == "layer" else RMSNorm(name=name)
