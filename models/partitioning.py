"""Which axis of a parameter tensor parallelism cuts, and which axes fully sharded storage may cut.

Of a Transformer (Shoeybi et al. 2019, "Megatron-LM", section 3): the first matrix of the perceptron and those of
queries, keys and values by their outputs, the second matrix and that of attention's output by their inputs, so that
each half of a block needs one sum over the devices; tables of tokens and the output layer by the vocabulary.
"""

import re
from collections.abc import Sequence

from models.base import SCANNED

_BY_OUTPUTS = r"(queries_keys_values|cross_queries|cross_keys_values|feedforward_in|(^|/)logits)/(kernel|bias)$"
_BY_INPUTS = r"(attention_out|feedforward_out)/kernel$"
_BY_ROWS = r"(^|/)(tokens|source_tokens|target_tokens)/embedding$"


def tensor_axis(path: str, shape: Sequence[int]) -> int | None:
    """The axis that tensor parallelism cuts; None where every device has the whole parameter.

    Args:
        path: of the parameter, e.g. ``block_0/feedforward_in/kernel``.
        shape: of it.
    """
    if re.search(_BY_OUTPUTS, path):
        return len(shape) - 1
    if re.search(_BY_INPUTS, path) or re.search(_BY_ROWS, path):
        return len(shape) - 2
    return None


def storage_axes(path: str, shape: Sequence[int]) -> list[int]:
    """The axes that fully sharded storage may cut, the longest first.

    Not the axis of blocks that are scanned over: of each block every device would then have all or nothing.

    Args:
        path: of the parameter.
        shape: of it.
    """
    first = 1 if re.search(rf"(^|/){SCANNED}/", path) else 0
    return sorted(range(first, len(shape)), key=lambda axis: (-shape[axis], axis))
