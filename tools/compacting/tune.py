"""Trains the fitted layers together, on the pictures of their own style transfers."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compacting.fit import CONTENT, DEEPEST, STYLE, TAPS, Convolutions, activations, network, relative_error
from compacting.pictures import Crops
from nst.losses.distances.frobenius import gram_distance
from nst.losses.functional import moments, squared_error
from nst.losses.layers import content_distance
from nst.losses.statistics import Moments
from nst.network.architecture import Weights, layer_names
from nst.network.features import Features

Log = Callable[[str], None]

EMPHASIS = {**dict.fromkeys(STYLE, 1.0), CONTENT: 3.0, DEEPEST: 4.0}
"""Weight of a layer's activations in fine-tuning; layers that no loss looks at have UNSEEN."""
UNSEEN = 0.4
GRAM_EMPHASIS = dict(zip(STYLE, (1.0, 1.0, 1.0, 2.0, 6.0), strict=True))
"""Weight of a layer's Gram matrix, likewise."""
STYLE_WEIGHT = 10.0
DECAY = 0.6
"""Share of fine-tuning, at its end, in which the learning rate falls."""
REFRESH = 8
"""Steps of a run until its targets are taken anew from the network, which has changed since."""
LONG = 0.25
"""Share of the runs that go on for hundreds of steps, as those do that are given time."""
MUON_RMS = 0.2
"""Root mean square of Muon's steps at a learning rate of 1 (`match_rms_adamw`)."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, apart from the teacher and the pictures; the defaults made the bundled file.

    Attributes:
        widths: Channels of each convolution, or None for WIDTHS.
        steps: Fine-tuning steps.
        crops: Crops for choosing and fitting, the first of `sizes` in size.
        sizes: Sides of the crops to fine-tune on, in pixels, in turn at random.
        pixels: Pixels in one batch.
        rate: Learning rate of a tensor over its root mean square: weights and biases differ in size by factors of a
            thousand. In the end it falls to 2 % along a line.
        seed: Of every random choice.
    """

    widths: tuple[int, ...] | None = None
    steps: int = 5000
    crops: int = 128
    sizes: tuple[int, ...] = (128, 192, 256)
    pixels: int = 6 * 128**2
    rate: float = 3e-3
    seed: int = 0


@dataclass
class Run:
    """One style transfer under way.

    Attributes:
        picture: (1, 3, S, S).
        photograph: (1, 3, S, S).
        painting: (1, 3, S, S).
        weights: Of the content and of each style layer.
        rate: Adam's learning rate, in levels of [0, 1].
        life: Steps until a new run takes its place.
    """

    picture: Tensor
    photograph: Tensor
    painting: Tensor
    weights: dict[str, float]
    rate: float
    life: int
    age: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    square: Tensor = field(default_factory=lambda: torch.zeros(()))
    content: Tensor = field(default_factory=lambda: torch.zeros(()))
    style: dict[str, Moments] = field(default_factory=dict)

    @torch.no_grad()
    def aim(self, features: Features) -> None:
        """Takes the targets from a network: its activations of the photograph, its moments of the painting."""
        self.content = activations(features, self.photograph)[CONTENT]
        taps = activations(features, self.painting)
        self.style = {name: moments(taps[name]) for name in STYLE}

    def objective(self, taps: dict[str, Tensor]) -> Tensor:
        """Returns the weighted distances of activations, each (1, C, h, w), from this run's targets, a scalar."""
        style = [gram_distance(moments(taps[name]), self.style[name]) * self.weights[name] for name in STYLE]
        energy = self.content.square().sum()
        content = content_distance(squared_error(taps[CONTENT], self.content), energy)
        return self.weights[CONTENT] * content + STYLE_WEIGHT * torch.stack(style).mean()

    def step(self, gradient: Tensor) -> None:
        """Takes one step of Adam (betas 0.9, 0.99) with a gradient like the picture."""
        self.age += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.99 * self.square + 0.01 * gradient.square()
        scale = (self.square / (1 - 0.99**self.age)).sqrt() + 1e-8
        self.picture = (self.picture - self.rate * self.mean / (1 - 0.9**self.age) / scale).clamp(0, 1)


class FineTuner:
    """Trains a pruned network on the pictures of its own style transfers.

    Args:
        teacher: The full network.
        convolutions: The pruned network, up to DEEPEST.
        keep: For each of its layers the teacher's channels.
        crops: Where runs begin.
        recipe: The settings.
    """

    def __init__(
        self,
        teacher: Weights,
        convolutions: Convolutions,
        keep: list[list[int]],
        crops: Crops,
        recipe: Recipe,
    ) -> None:
        relus = [name for name in layer_names(teacher.blocks) if name.startswith("relu")][: len(keep)]
        self.keep = {name: torch.tensor(kept) for name, kept in zip(relus, keep, strict=True)}
        self.teacher = network(teacher.convolutions, teacher.blocks, relus)
        self.weights = [nn.Parameter(weight.clone(memory_format=torch.channels_last)) for weight, _ in convolutions]
        self.biases = [nn.Parameter(bias.clone()) for _, bias in convolutions]
        self.weights[0].requires_grad_(False)  # the first layer is the teacher's own
        self.biases[0].requires_grad_(False)
        pairs: Convolutions = list(zip(self.weights, self.biases, strict=True))
        self.student = network(pairs, teacher.blocks, relus)
        self.runner = network(pairs, teacher.blocks, TAPS)
        self.average = [(weight.detach().clone(), bias.detach().clone()) for weight, bias in pairs]
        self.crops, self.recipe = crops, recipe
        self.random = random.Random(recipe.seed)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.matrices = [nn.Parameter(_matrix(weight.detach())) for weight in self.weights[1:]]
        self.muon = torch.optim.Muon(
            [{"params": [matrix], "top": recipe.rate * _rms(matrix) / MUON_RMS} for matrix in self.matrices],
            momentum=0.9,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adam = torch.optim.Adam(
            [{"params": [bias], "top": recipe.rate * _rms(bias)} for bias in self.biases[1:]], betas=(0.9, 0.98)
        )
        self.pools = {size: [self._begin(size) for _ in range(3 * self._runs(size))] for size in recipe.sizes}
        for run in (run for pool in self.pools.values() for run in pool):
            run.life = self.random.randint(4, 100)  # so that they do not all end together
        self.turns: dict[int, list[int]] = {size: [] for size in recipe.sizes}

    @property
    def convolutions(self) -> Convolutions:
        """The network so far: a running mean of the weights."""
        return [(weight.clone(), bias.clone()) for weight, bias in self.average]

    def train(self, log: Log) -> None:
        """Takes all steps."""
        losses, steps = list[float](), self.recipe.steps
        for step in range(steps):
            share = max(min(1.0, (step + 1) / 50, (1 - step / steps) / DECAY), 0.02)
            for group in (*self.muon.param_groups, *self.adam.param_groups):
                group["lr"] = group["top"] * share
            self._advance()
            losses.append(self._step())
            decay = min(0.998, (1 + step) / (10 + step))
            with torch.no_grad():
                for means, now in zip(self.average, zip(self.weights, self.biases, strict=True), strict=True):
                    for mean, tensor in zip(means, now, strict=True):
                        mean.lerp_(tensor, 1 - decay)
            if (step + 1) % 100 == 0:
                log(f"step {step + 1} of {steps}: loss {statistics.fmean(losses[-100:]):.4f}")

    def _batch(self, size: int) -> int:
        return max(2, round(self.recipe.pixels / size**2))

    def _runs(self, size: int) -> int:
        return self._batch(size) - self._batch(size) // 3

    def _begin(self, size: int) -> Run:
        content, style = self.crops.content(size), self.crops.style(size)
        start, chance = content, self.random.random()
        if chance > 0.8:
            start = 0.5 * content + 0.5 * style.flip(2)
        elif chance > 0.65:
            start = torch.rand(content.shape, generator=self.generator)
        even = self.random.random() < 0.7
        weights = {name: 1.0 if even else self.random.uniform(0, 2) for name in STYLE}
        weights[CONTENT] = self.random.choice((0.0, 0.3, 1.0, 1.0, 1.0, 3.0))
        return Run(
            picture=start,
            photograph=content,
            painting=style,
            weights=weights,
            rate=self.random.choice((0.02, 0.03, 0.05)),
            life=self.random.randint(120, 600) if self.random.random() < LONG else self.random.randint(8, 120),
        )

    def _draw(self, size: int) -> list[int]:
        """Returns the places in the pool of the runs whose turn it is, with targets that are not old.

        A third of a batch is left for plain crops.
        """
        turns, count = self.turns[size], self._runs(size)
        if len(turns) < count:
            turns[:] = range(len(self.pools[size]))
            self.random.shuffle(turns)
        places = [turns.pop() for _ in range(count)]
        for run in (self.pools[size][place] for place in places):
            if run.age % REFRESH == 0:
                run.aim(self.runner)
        return places

    def _advance(self) -> None:
        """Takes a step of pixels alone, so that the next step of weights meets newer pictures."""
        size = self.random.choice(self.recipe.sizes)
        places = self._draw(size)
        batch = torch.cat([self.pools[size][place].picture for place in places]).requires_grad_()
        self._move(size, places, batch, activations(self.runner, batch))

    def _move(self, size: int, places: list[int], batch: Tensor, taps: dict[str, Tensor]) -> None:
        """Moves the pixels of the runs at `places`, the first of a batch whose activations are given."""
        runs = [self.pools[size][place] for place in places]
        objectives = [run.objective({name: tap[i : i + 1] for name, tap in taps.items()}) for i, run in enumerate(runs)]
        (moves,) = torch.autograd.grad(torch.stack(objectives).sum(), batch)
        for place, run, move in zip(places, runs, torch.split(moves, 1), strict=False):
            run.step(move)
            if run.age >= run.life:
                self.pools[size][place] = self._begin(size)

    def _step(self) -> float:
        """Takes a step of weights, and one of pixels."""
        size = self.random.choice(self.recipe.sizes)
        places = self._draw(size)
        plain = [
            self.crops.style(size) if self.random.random() < 0.5 else self.crops.content(size)
            for _ in range(self._batch(size) - len(places))
        ]
        batch = torch.cat([self.pools[size][place].picture for place in places] + plain)
        with torch.no_grad():
            exact = {name: tap[:, self.keep[name]] for name, tap in activations(self.teacher, batch).items()}
        batch.requires_grad_()
        taps = activations(self.student, batch)
        loss = self._loss(taps, exact)
        tuned = [*self.weights[1:], *self.biases[1:]]
        for tensor, gradient in zip(tuned, torch.autograd.grad(loss, tuned, retain_graph=True), strict=True):
            tensor.grad = gradient
        for matrix, weight in zip(self.matrices, self.weights[1:], strict=True):
            assert weight.grad is not None
            matrix.grad = _matrix(weight.grad)
        self._move(size, places, batch, taps)
        self.muon.step()  # through the matrices, which share the weights' memory
        self.adam.step()
        return float(loss.detach())

    def _loss(self, taps: dict[str, Tensor], exact: dict[str, Tensor]) -> Tensor:
        """Returns the distance between activations and those that should have been, a scalar."""
        terms = [EMPHASIS.get(name, UNSEEN) * relative_error(taps[name], exact[name]).mean() for name in self.keep]
        for name, emphasis in GRAM_EMPHASIS.items():
            grams = [
                gram_distance(moments(tap), moments(target))
                for tap, target in zip(torch.split(taps[name], 1), torch.split(exact[name], 1), strict=True)
            ]
            terms.append(emphasis * torch.stack(grams).mean())
        return torch.stack(terms).sum()


def _matrix(weight: Tensor) -> Tensor:
    """Returns a weight, (D, C, 3, 3) with the channels last in memory, as the matrix (D, 9·C) in the same memory."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().square().mean().sqrt())
