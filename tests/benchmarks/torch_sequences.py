"""PyTorch twins of models of sequences: convolutions over time, and those of source and target."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from models import encoder_decoder, seq2seq, tcn, text_cnn
from models.base import Shapes


class TCN(nn.Module):
    """Embedding, residual blocks of two dilated causal ``nn.Conv1d`` with weight normalisation, linear logits."""

    def __init__(self, config: tcn.Config, shapes: Shapes) -> None:
        super().__init__()
        assert shapes.vocabulary is not None
        assert config.embedding == config.width
        self.per_position = shapes.per_position
        self.table = nn.Embedding(shapes.vocabulary, config.embedding)
        width, size = config.width, config.kernel_size
        self.blocks = nn.ModuleList(
            nn.ModuleList(weight_norm(nn.Conv1d(width, width, size, dilation=2**block)) for _ in range(2))
            for block in range(config.depth)
        )
        self.pads = [(size - 1) * 2**block for block in range(config.depth)]
        self.logits = nn.Linear(width, shapes.outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens).transpose(1, 2)
        for block, pad in zip(self.blocks, self.pads, strict=True):
            y = x
            for convolution in block:  # type: ignore[attr-defined]
                y = functional.relu(convolution(functional.pad(y, (pad, 0))))
            x = functional.relu(x + y)
        return self.logits(x.transpose(1, 2) if self.per_position else x[:, :, -1])


class TextCNN(nn.Module):
    """Embedding, ``nn.Conv1d`` of several widths, maxima over time, linear logits."""

    def __init__(self, config: text_cnn.Config, shapes: Shapes) -> None:
        super().__init__()
        assert shapes.vocabulary is not None
        self.table = nn.Embedding(shapes.vocabulary, config.embedding)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.embedding, config.channels, size) for size in config.kernel_sizes
        )
        self.logits = nn.Linear(len(config.kernel_sizes) * config.channels, shapes.outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens).transpose(1, 2)
        maxima = [functional.relu(convolution(x).amax(2)) for convolution in self.convolutions]
        return self.logits(torch.cat(maxima, 1))


class Seq2Seq(nn.Module):
    """``nn.GRU`` in both directions, then ``nn.GRUCell`` with additive attention, one step after another.

    What no step needs of the step before, keys of the source and logits, is computed for all steps at once.
    """

    def __init__(self, config: seq2seq.Config, shapes: Shapes) -> None:
        super().__init__()
        assert shapes.vocabulary is not None
        width, embedding = config.width, config.embedding
        self.source = nn.Embedding(shapes.vocabulary, embedding)
        self.target = nn.Embedding(shapes.outputs, embedding)
        self.encoder = nn.GRU(embedding, width, batch_first=True, bidirectional=True)
        self.initial = nn.Linear(width, width, bias=False)
        self.keys = nn.Linear(2 * width, width, bias=False)
        self.query = nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)
        self.cell = nn.GRUCell(embedding + 2 * width, width)
        self.readout = nn.Linear(width + 2 * width + embedding, 2 * width, bias=False)
        self.logits = nn.Linear(width, shapes.outputs)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        values, final = self.encoder(self.source(source))
        keys, state = self.keys(values), torch.tanh(self.initial(final[1]))
        embedded = self.target(target)
        states, contexts = [], []
        for step in embedded.unbind(1):
            scores = self.score(torch.tanh(self.query(state)[:, None] + keys))
            context = torch.bmm(functional.softmax(scores, 1).transpose(1, 2), values)[:, 0]
            state = self.cell(torch.cat([step, context], 1), state)
            states.append(state)
            contexts.append(context)
        pieces = self.readout(torch.cat([torch.stack(states, 1), torch.stack(contexts, 1), embedded], 2))
        return self.logits(pieces.unflatten(2, (-1, 2)).amax(3))


class Attention(nn.Module):
    """Attention of many heads on ``scaled_dot_product_attention``: of a sequence to itself, or to a source."""

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.projections = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(*self.projections(x).chunk(3, 2))

    def mix(self, *projected: Tensor) -> Tensor:
        queries, keys, values = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in projected)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class CrossAttention(Attention):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.queries = nn.Linear(width, width)
        self.projections = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.mix(self.queries(x), *self.projections(memory).chunk(2, 2))


class PostNormBlock(nn.Module):
    """A Transformer block normalised after each sum, of an encoder or of a decoder."""

    def __init__(self, config: encoder_decoder.Config, *, decodes: bool) -> None:
        super().__init__()
        width = config.width
        self.attention = Attention(width, config.heads, causal=decodes)
        self.cross = CrossAttention(width, config.heads) if decodes else None
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if decodes else 2))
        self.feedforward = nn.Sequential(
            nn.Linear(width, config.feedforward), nn.ReLU(), nn.Linear(config.feedforward, width)
        )

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        x = self.norms[0](x + self.attention(x))
        if self.cross is not None:
            x = self.norms[1](x + self.cross(x, memory))
        return self.norms[-1](x + self.feedforward(x))


class EncoderDecoder(nn.Module):
    """The Transformer of source and target; sines and cosines, one table for all tokens.

    Its blocks were a seventh faster than ``nn.TransformerEncoder`` and ``nn.TransformerDecoder``.
    """

    positions: Tensor

    def __init__(self, config: encoder_decoder.Config, shapes: Shapes) -> None:
        super().__init__()
        assert shapes.target is not None
        self.table = nn.Embedding(shapes.outputs, config.width)
        self.encoder = nn.Sequential(*(PostNormBlock(config, decodes=False) for _ in range(config.depth)))
        self.decoder = nn.ModuleList(PostNormBlock(config, decodes=True) for _ in range(config.depth))
        longest = max(shapes.inputs[0], shapes.target)
        angles = torch.arange(longest)[:, None] / 1e4 ** (torch.arange(0, config.width, 2) / config.width)
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], 2).flatten(1))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, x = self.encoder(self._embed(source)), self._embed(target)
        for block in self.decoder:
            x = block(x, memory)
        return functional.linear(x, self.table.weight)

    def _embed(self, tokens: Tensor) -> Tensor:
        return math.sqrt(self.table.embedding_dim) * self.table(tokens) + self.positions[: tokens.shape[1]]
