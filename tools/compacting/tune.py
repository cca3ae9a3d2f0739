"""Trains the fitted layers together, on the pictures of their own style transfers."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compacting.fit import CONTENT, DEEPEST, STYLE, Convolutions, activations, network, relative_error
from compacting.pictures import Crops
from nst.features import Features, layer_names
from nst.functional import Moments, content_distance, gram_distance, moments, squared_error
from nst.weights import Weights

Log = Callable[[str], None]

EMPHASIS = (
    {**dict.fromkeys(STYLE, 1.0), CONTENT: 1.5, DEEPEST: 2.0},
    {**dict.fromkeys(STYLE, 1.0), CONTENT: 3.0, DEEPEST: 4.0},
)
"""Weight of a layer's activations in fine-tuning, in the first two rounds and after them; layers that no loss looks at
have UNSEEN."""
UNSEEN = 0.5
GRAM_EMPHASIS = (
    dict(zip(STYLE, (1.0, 1.0, 1.0, 1.0, 2.0), strict=True)),
    dict(zip(STYLE, (1.0, 1.0, 1.0, 2.0, 6.0), strict=True)),
)
"""Weight of a layer's Gram matrix, likewise."""
STYLE_WEIGHT = 10.0
DECAY = 0.4
"""Share of fine-tuning, at its end, in which the learning rate falls."""
REFRESH = 8
"""Steps of a run until its targets are taken anew from the network, which has changed since."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, apart from the teacher and the pictures; the defaults made the bundled file.

    Attributes:
        widths: Channels of each convolution, or None for WIDTHS.
        steps: Fine-tuning steps of each round; a round begins with new runs and a new optimiser.
        crops: Crops for choosing and fitting, the first of `sizes` in size.
        sizes: Sides of the crops to fine-tune on, in pixels, in turn at random.
        pixels: Pixels in one batch.
        rate: Adam's learning rate in the first round; in the end of each round it falls to 2 % along a line.
        relative_rate: In later rounds, the learning rate of a tensor over its root mean square: weights and biases
            differ in size by factors of a thousand.
        seed: Of every random choice.
    """

    widths: tuple[int, ...] | None = None
    steps: tuple[int, ...] = (2500, 1000, 1000)
    crops: int = 128
    sizes: tuple[int, ...] = (128, 192, 256)
    pixels: int = 6 * 128**2
    rate: float = 5e-4
    relative_rate: float = 2e-3
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
        turn: Number of the round, from 0.
    """

    def __init__(
        self,
        teacher: Weights,
        convolutions: Convolutions,
        keep: list[list[int]],
        crops: Crops,
        recipe: Recipe,
        turn: int = 0,
    ) -> None:
        relus = [name for name in layer_names(teacher.blocks) if name.startswith("relu")][: len(keep)]
        self.keep = {name: torch.tensor(kept) for name, kept in zip(relus, keep, strict=True)}
        self.teacher = network(teacher.convolutions, teacher.blocks, relus)
        copies = [tensor.clone(memory_format=torch.preserve_format) for pair in convolutions for tensor in pair]
        self.parameters = [
            nn.Parameter(copy.contiguous(memory_format=torch.channels_last) if copy.ndim == 4 else copy)
            for copy in copies
        ]
        pairs = list(zip(self.parameters[::2], self.parameters[1::2], strict=True))
        self.student = network([(weight, bias) for weight, bias in pairs], teacher.blocks, relus)
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.crops, self.recipe, self.steps = crops, recipe, recipe.steps[turn]
        self.random = random.Random(recipe.seed + turn)
        self.generator = torch.Generator().manual_seed(recipe.seed + turn)
        self.emphasis, self.gram_emphasis = EMPHASIS[turn > 1], GRAM_EMPHASIS[turn > 1]
        self.rates = [recipe.relative_rate * float(mean.square().mean().sqrt()) for mean in self.average]
        if not turn:
            self.rates = [recipe.rate] * len(self.average)
        groups = [{"params": [parameter], "lr": 0.0} for parameter in self.parameters]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
        self.pools = {size: [self._begin(size) for _ in range(3 * self._runs(size))] for size in recipe.sizes}
        for run in (run for pool in self.pools.values() for run in pool):
            run.life = self.random.randint(4, 100)  # so that they do not all end together
        self.turns: dict[int, list[int]] = {size: [] for size in recipe.sizes}

    @property
    def convolutions(self) -> Convolutions:
        """The network so far: a running mean of the weights."""
        copies = [tensor.clone() for tensor in self.average]
        return list(zip(copies[::2], copies[1::2], strict=True))

    def train(self, log: Log) -> None:
        """Takes all steps."""
        losses: list[float] = []
        for step in range(self.steps):
            share = max(min(1.0, (step + 1) / 50, (1 - step / self.steps) / DECAY), 0.02)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * share
            losses.append(self._step())
            decay = min(0.998, (1 + step) / (10 + step))
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                mean.lerp_(parameter.detach(), 1 - decay)
            if (step + 1) % 100 == 0:
                log(f"step {step + 1} of {self.steps}: loss {statistics.fmean(losses[-100:]):.4f}")

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
            life=self.random.randint(8, 120),
        )

    def _draw(self, size: int) -> list[int]:
        """Returns the places in the pool of the runs whose turn it is; a third of a batch is left for plain crops."""
        turns, count = self.turns[size], self._runs(size)
        if len(turns) < count:
            turns[:] = range(len(self.pools[size]))
            self.random.shuffle(turns)
        return [turns.pop() for _ in range(count)]

    def _step(self) -> float:
        size = self.random.choice(self.recipe.sizes)
        pool, places = self.pools[size], self._draw(size)
        plain = [
            self.crops.style(size) if self.random.random() < 0.5 else self.crops.content(size)
            for _ in range(self._batch(size) - len(places))
        ]
        for run in (pool[place] for place in places):
            if run.age % REFRESH == 0:
                run.aim(self.student)
        batch = torch.cat([pool[place].picture for place in places] + plain)
        with torch.no_grad():
            exact = {name: tap[:, self.keep[name]] for name, tap in activations(self.teacher, batch).items()}
        batch.requires_grad_()
        taps = activations(self.student, batch)
        loss = self._loss(taps, exact)
        gradients = torch.autograd.grad(loss, self.parameters, retain_graph=True)
        objectives = [
            pool[place].objective({name: tap[i : i + 1] for name, tap in taps.items()})
            for i, place in enumerate(places)
        ]
        (moves,) = torch.autograd.grad(torch.stack(objectives).sum(), batch)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(self.parameters, 2.0)
        self.optimizer.step()
        for place, move in zip(places, torch.split(moves, 1), strict=False):
            pool[place].step(move)
            if pool[place].age >= pool[place].life:
                pool[place] = self._begin(size)
        return float(loss.detach())

    def _loss(self, taps: dict[str, Tensor], exact: dict[str, Tensor]) -> Tensor:
        """Returns the distance between activations and those that should have been, a scalar."""
        terms = [self.emphasis.get(name, UNSEEN) * relative_error(taps[name], exact[name]).mean() for name in self.keep]
        for name, emphasis in self.gram_emphasis.items():
            grams = [
                gram_distance(moments(tap), moments(target))
                for tap, target in zip(torch.split(taps[name], 1), torch.split(exact[name], 1), strict=True)
            ]
            terms.append(emphasis * torch.stack(grams).mean())
        return torch.stack(terms).sum()
