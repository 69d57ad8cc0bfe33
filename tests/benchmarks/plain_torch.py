"""A plain PyTorch script, as a researcher writes it: one training of one model on 28 x 28 images of digits.

    python tests/benchmarks/plain_torch.py MODEL LEARNING_RATE SEED STEPS DATA.npz RESULTS.jsonl

It imports nothing of Paribus. ``DATA.npz`` has ``train_inputs`` (bytes [examples, 28, 28, 1]), ``train_targets`` and
the same of ``validation`` and ``test``. The result is a line with the number of parameters and the accuracies.
Models, batches, Adam, warm-up and cosine are those of the study ``architectures``; one thread.
"""

import json
import math
import sys

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH, EVALUATION_BATCH = 64, 1000


class LSTM(nn.Module):
    """Over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(28, 64, batch_first=True)
        self.logits = nn.Linear(64, 10)
        nn.init.zeros_(self.layer.bias_hh_l0.requires_grad_(False))  # one bias a gate, as the other side has it

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.layer(images[:, 0])[0][:, -1])


class Block(nn.Module):
    """A pre-normalised Transformer block."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.GELU(approximate="tanh"), nn.Linear(feedforward, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        parts = self.project(self.norm_1(x)).view(batch, time, 3, self.heads, width // self.heads)
        mixed = functional.scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4))
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        return x + self.feedforward(self.norm_2(x))


class Transformer(nn.Module):
    """Over patches of 7 x 7 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Unfold(7, stride=7)
        self.inputs = nn.Linear(49, 48)
        self.positions = nn.Parameter(0.02 * torch.randn(16, 48))
        self.blocks = nn.Sequential(Block(48, 4, 96), Block(48, 4, 96))
        self.norm, self.logits = nn.LayerNorm(48), nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.inputs(self.patches(images).transpose(1, 2)) + self.positions
        return self.logits(self.norm(self.blocks(x)).mean(1))


def model(name: str) -> nn.Module:
    if name == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
        )
    if name == "cnn":
        first = (nn.Conv2d(1, 8, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2))
        second = (nn.Conv2d(8, 16, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2))
        return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(784, 10))
    return {"lstm": LSTM, "transformer": Transformer}[name]()


def load(path: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Standardised images [examples, 1, 28, 28] and classes of each split."""
    arrays = np.load(path)
    train = arrays["train_inputs"] / 255
    mean, scale = train.mean(), train.std()
    result = {}
    for split in ("train", "validation", "test"):
        images = torch.from_numpy(((arrays[f"{split}_inputs"] / 255 - mean) / scale).astype(np.float32))
        result[split] = images.movedim(3, 1).contiguous(), torch.from_numpy(arrays[f"{split}_targets"]).long()
    return result


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, classes: Tensor) -> float:
    parts = zip(images.split(EVALUATION_BATCH), classes.split(EVALUATION_BATCH), strict=True)
    right = sum(int((network(some).argmax(1) == wanted).sum()) for some, wanted in parts)
    return right / len(classes)


def main(name: str, rate: float, seed: int, steps: int, data: str, results: str) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    splits = load(data)
    images, classes = splits["train"]
    network = model(name)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate, fused=True)
    warm = steps // 10

    def factor(step: int) -> float:
        return step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    order, place = torch.randperm(len(classes)), 0
    for step in range(steps):
        if step % max(1, steps // 10) == 0:
            accuracy(network, *splits["validation"])
        if place + BATCH > len(classes):
            order, place = torch.randperm(len(classes)), 0
        indices = order[place : place + BATCH]
        place += BATCH
        loss = functional.cross_entropy(network(images[indices]), classes[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    scores = {split: accuracy(network, *splits[split]) for split in ("validation", "test")}
    line = {"model": name, "seed": seed, "parameters": sum(part.numel() for part in trained), **scores}
    with open(results, "a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    words = sys.argv[1:]
    main(words[0], float(words[1]), int(words[2]), int(words[3]), words[4], words[5])
