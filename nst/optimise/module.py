"""The optimised image: a LightningModule whose only parameter is the picture."""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from nst.distributed.processes import ALONE, Shares
from nst.distributed.strategy import processes_of
from nst.errors import InputError, check_choice
from nst.losses.coarse import CoarseView
from nst.losses.distance import Normalization
from nst.losses.functional import Norm
from nst.losses.layers import Distance, described
from nst.losses.objective import Objective, Term
from nst.losses.terms.correspondence import Turns
from nst.losses.terms.standard import standard_terms
from nst.machine.memory import return_heap
from nst.network.architecture import Padding, Pooling
from nst.network.features import Features, check_layers
from nst.network.weights import Backbone
from nst.network.weights import load as load_weights
from nst.optimise.guard import TRIES, DivergenceError, Guard
from nst.optimise.loop import LevelModule
from nst.optimise.optimizers import fused, halve, project, resample_state, scheduled, tried
from nst.optimise.pace import Pace
from nst.optimise.resume import FORMAT, check_fits, shown_picture
from nst.optimise.starts import others_weight, start
from nst.optimise.targets import LevelScan, StyleCache, check_levels
from nst.pictures.geometry import extend, resample, trim
from nst.scene.levels import Level, Start
from nst.scene.masks import inner
from nst.streaming.convolutions import Method
from nst.streaming.plan import Streaming
from nst.streaming.scanner import Scanner, scanner_for
from nst.types import Bytes, InputPath, WeightsSource

log = logging.getLogger(__name__)

CONTENT_LAYERS = {"relu4_2": 1.0}
STYLE_LAYERS = {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0, "relu5_1": 1.0}
CORRESPONDENCE_LAYERS = {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0}
STRUCTURE_LAYERS = {"relu4_1": 1.0}
IMAGENET = WeightsSource("imagenet")


class StyleTransfer(LevelModule):
    """Optimises the pixels of a picture until it keeps a photograph's content and wears a painting's style.

    Args:
        backbone: The network that extracts features: `vgg19`, `vgg16`, `compact` (bundled), or `auto`: VGG19 where its
            weights are in the cache or can be downloaded, else `compact`.
        weights: The network's weights: `imagenet` (torchvision's, through torch hub's cache), the path of a `.pth` or
            `.safetensors` state dict, or `random:SEED`.
        pooling: `max`, `avg` or `l2`; the last two are smoother, and scaled to keep the activations' size.
        padding: What surrounds each layer's input: `zeros`, `replicate` or `reflect`; `circular` makes a picture that
            tiles, with a seam that is no rougher than the rest of the picture.
        content_layers: Weight of each content layer by name, such as `relu4_2`; the weights are scaled to sum to 1.
        style_layers: Weight of each style layer by name; the weights are scaled to sum to 1.
        content_weight: Weight of the content term, 0 or more.
        style_weight: Weight of the style term, 0 or more.
        tv_weight: Weight of the total variation, 0 or more; a higher weight gives a smoother picture.
        strength: How far to go from the photograph, in [0, 1]: 1 is the balance that the weights give, 0 the photograph
            itself. In between, the content term weighs 1 / strength³ times as much against the other terms.
        tv_norm: Total variation of absolute (`l1`) or squared (`l2`) differences.
        style_distance: Which statistics of a style layer are compared: DISTANCES.
        normalization: `relative` makes each loss a share of its target's energy, so that a weight means the same at
            every size, layer and network; `gatys` is the paper's scaling (arXiv:1508.06576).
        optimizer: Makes the optimiser of the picture, such as `torch.optim.Adam` or `torch.optim.LBFGS`.
        lr_scheduler: Makes a learning-rate schedule, stepped after each optimiser step.
        average: Decay, in [0, 1), of an exponential average of the pictures of all steps. The average is then shown and
            saved; 0 shows and saves the picture itself.
        init: The picture to start from: `content`, `noise` (faint white noise on gray), `gray`, `style` (noise with the
            painting's colour mean and covariance), or an image file.
        bleed: Width in pixels of a margin that is optimised around the picture and cut off in the end, as printers do:
            the padding of the network's layers leaves a thin frame on the outermost pixels.
        shares: How processes that make the picture together share its rows: `even`, or as fast as each is (`measured`).
        convolution: How a CPU convolves in float32: `direct`, or `winograd`, which is faster on most processors and the
            same within rounding; `auto` is the faster one, or what the checkpoint was made with.
        streaming: Whether the network runs on the picture in bands of rows, one after another, which gives the same
            gradient, takes less memory and more time: `on`, `off`, or `auto`, which means on where memory is short.
        memory: Bound on the memory that a run takes beyond loading torch, such as `6GiB`; by default all free memory.
            The bound decides the bands, so that the same bound gives the same picture to the last bit.
        terms: More terms of the objective, each a class of your own by its `class_path`.
        correspondence_weight: Weight of the correspondence, 0 or more: each place of the picture is drawn to the place
            of a painting that the photograph is most like there, so that subjects survive.
        correspondence_layers: Weight of each layer of the correspondence by name; scaled to sum to 1.
        correspondence_empty: Share of the correspondence's weight, in [0, 1], where the photograph is empty, such as a
            sky, which the painting's moments fill.
        correspondence_cell: Side of the square cells that are matched, 1, 2, 4, 8 or 16 pixels.
        correspondence_turns: Where paintings are searched: as they are (`none`), in their quarter turns as well
            (`quarter`), or in mirror images of these too (`mirror`).
        structure_weight: Weight of the structure term, 0 or more: places that are alike in the photograph stay alike.
        structure_layers: Weight of each layer of the structure term by name; scaled to sum to 1.

    Raises:
        InputError: If a setting is out of range or names an unknown layer.
    """

    mean_picture: Tensor
    averaged: Tensor

    def __init__(
        self,
        backbone: Backbone = "auto",
        weights: WeightsSource = IMAGENET,
        pooling: Pooling = "max",
        padding: Padding = "zeros",
        content_layers: dict[str, float] = CONTENT_LAYERS,
        style_layers: dict[str, float] = STYLE_LAYERS,
        content_weight: float = 1.0,
        style_weight: float = 10.0,
        tv_weight: float = 0.0,
        strength: float = 1.0,
        tv_norm: Norm = "l1",
        style_distance: Distance = "frobenius",
        normalization: Normalization = "relative",
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=0.02),
        lr_scheduler: LRSchedulerCallable | None = None,
        average: float = 0.0,
        init: Start | InputPath = "content",
        bleed: int = 0,
        shares: Shares = "even",
        convolution: Method = "auto",
        streaming: Streaming = "auto",
        memory: Bytes | None = None,
        terms: list[Term] | None = None,
        correspondence_weight: float = 0.0,
        correspondence_layers: dict[str, float] = CORRESPONDENCE_LAYERS,
        correspondence_empty: float = 0.02,
        correspondence_cell: int = 4,
        correspondence_turns: Turns = "quarter",
        structure_weight: float = 0.0,
        structure_layers: dict[str, float] = STRUCTURE_LAYERS,
    ) -> None:
        super().__init__()
        for key, value, choices in (
            ("backbone", backbone, Backbone),
            ("pooling", pooling, Pooling),
            ("padding", padding, Padding),
            ("shares", shares, Shares),
            ("convolution", convolution, Method),
            ("streaming", streaming, Streaming),
        ):
            check_choice(f"model.{key}", value, choices)
        check_layers([*content_layers, *style_layers, *correspondence_layers, *structure_layers])
        if not 0 <= average < 1:
            raise InputError(f"Expected --model.average to be in [0, 1), but got {average}")
        if bleed < 0:
            raise InputError(f"Expected --model.bleed to be 0 pixels or more, but got {bleed}")
        if padding == "circular" and bleed > 0:
            raise InputError(f"Expected --model.bleed to be 0 with --model.padding circular, but got {bleed}")
        others = others_weight(strength, content_weight)
        standard = standard_terms(
            content_layers,
            style_layers,
            content_weight,
            others * style_weight,
            others * tv_weight,
            normalization=normalization,
            tv_norm=tv_norm,
            style_distance=style_distance,
            wrap=padding == "circular",
            correspondence_layers=correspondence_layers,
            correspondence_weight=others * correspondence_weight,
            correspondence_empty=correspondence_empty,
            correspondence_cell=correspondence_cell,
            correspondence_turns=correspondence_turns,
            structure_layers=structure_layers,
            structure_weight=structure_weight,
        )
        self.objective = Objective([*standard, *(terms or [])])
        self.coarse_objective = copy.deepcopy(self.objective)  # with separate targets
        self.style_distance = style_distance
        self.source: tuple[Backbone, str] = (backbone, weights)
        self.pooling: Pooling = pooling
        self.padding: Padding = padding
        self.make_optimizer, self.make_scheduler = optimizer, lr_scheduler
        self.decay, self.init, self.bleed, self.strength = average, init, bleed, strength
        self.features: Features | None = None
        self.scanner: Scanner | None = None
        self.shares: Shares = shares
        self.convolution: Method = convolution
        self.streaming: Streaming = streaming
        self.memory = memory
        self.level: Level | None = None
        self.levels: list[Level] = []
        self.style_cache: StyleCache = deque(maxlen=32)
        self.scan: LevelScan | None = None
        self.coarse: CoarseView | None = None
        self.protected: tuple[Tensor, ...] | None = None
        self.guard, self.pace, self.processes = Guard(self.objective.flags), Pace([]), ALONE
        self.changed = False  # whether the run resumes from the checkpoint of another picture
        self.picture = nn.Parameter(torch.empty(1, 3, 0, 0))
        if average:
            self.register_buffer("mean_picture", torch.empty(1, 3, 0, 0))
            self.register_buffer("averaged", torch.zeros((), dtype=torch.int64))

    # Hooks that Lightning calls, in this order

    def configure_model(self) -> None:
        """Loads the network and sets the picture to the starting picture, once."""
        if self.features is None:
            with self.precision():
                self.prepare(self.trainer.datamodule.levels)  # type: ignore[attr-defined]  # our data module has them

    def configure_optimizers(self) -> Any:
        """Makes the optimiser of the picture and its learning-rate schedule."""
        return scheduled(fused(self.make_optimizer([self.picture])), self.make_scheduler)

    def training_step(self, batch: Level, batch_idx: int) -> Tensor:
        """Evaluates the objective.

        Args:
            batch: The current level.
            batch_idx: Position of the step in the level, from 0.

        Returns:
            The objective times the number of the picture's values, a scalar: so the gradient of a pixel does not shrink
            as pictures grow, and Adam's epsilon and L-BFGS's tolerances mean the same at every size.

        Raises:
            DivergenceError: If the objective is not finite or has risen far.
        """
        values = self.values()
        total = self.objective.total(values)
        if self.logs_now(batch, batch_idx):
            self.log_dict(self.curves(total, values))
        self.guard.check(total, values)
        return total * self.picture.numel()

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Optimizer | LightningOptimizer, optimizer_closure: Any = None
    ) -> None:
        """Makes a step, clips the pixels to [0, 1] and adds the picture to the average.

        A step that does harm is made again from the last good picture, with half the step size.

        Raises:
            RunError: If all attempts do harm; the picture is then the last good picture.
        """
        assert self.level is not None  # begin_level set it
        own = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        for tries in range(1, TRIES + 1):
            self.guard.open(self.picture, own)
            try:
                super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
                project(self.picture, own)
                self.guard.close(self.picture, last=batch_idx + 1 == self.level.steps)
                break
            except DivergenceError as error:
                self.guard.go_back(self.picture, error, again=tries < TRIES)
                halve(own, [config.scheduler for config in self.trainer.lr_scheduler_configs])
                reason = error.reason
        if tries > 1:
            log.info("%s: went back a step, and the learning rate is now %g", reason, own.param_groups[0]["lr"])
        if self.decay:
            self.mean_picture.lerp_(self.picture.detach(), 1 - self.decay)
            self.averaged += 1
        self.pace.ended = self.processes.by_first(self.pace.step(self.level, self.guard.objective))
        if self.pace.ended:
            self.end_level()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the settings and the state that a resumed run checks and restores, and that `nst export` needs."""
        made = {"optimizer": type(self.trainer.optimizers[0]).__name__, "average": self.decay, "bleed": self.bleed}
        assert self.scanner is not None
        made |= {"format": FORMAT, "memory": self.memory and int(self.memory), "weights": dict(self.objective.weights)}
        made |= {"pace": self.pace.state_dict(), **self.guard.state_dict()}
        checkpoint["nst"] = made | self.scanner.state_dict()

    def check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises an InputError unless a checkpoint fits this run; changes nothing."""
        optimizer = type(self.make_optimizer([self.picture])).__name__
        check_fits(checkpoint, {"optimizer": optimizer, "average": self.decay, "bleed": self.bleed}, self.levels)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores a checkpoint that fits this run; raises an InputError for any other checkpoint."""
        self.check_checkpoint(checkpoint)
        state, made = checkpoint["state_dict"], checkpoint["nst"]
        for name in self.state_dict():
            getattr(self, name).data = state[name].clone()
        self.pace.load_state_dict(made["pace"])
        # the lowest value of another objective says nothing of this objective
        same = not self.changed and made.get("weights") in (None, self.objective.weights)
        self.guard.load_state_dict(made if same else {})
        assert self.scanner is not None
        with self.precision():
            pictures = (extend(level.content.to(self.device), self.bleed) for level in self.levels)
            self.scanner.go_on_with(made, pictures, same_bands=made.get("memory", 0) == self.memory)
        super().on_load_checkpoint(checkpoint)

    def on_fit_end(self) -> None:
        """Returns the freed memory that steps have kept for each other."""
        return_heap()

    # Methods that the hooks call

    def prepare(self, levels: Sequence[Level]) -> None:
        """Loads the network, checks every level, and sets the picture to the starting picture of the first level.

        Raises:
            InputError: If the network cannot be loaded, or a picture is too small for it or too large for the memory.
        """
        if self.features is None:
            self.features = Features(load_weights(*self.source), self.objective.layers, self.pooling, self.padding)
        self.levels, self.guard = list(levels), Guard(self.objective.flags)
        self.pace = Pace(levels, self.pace.spent)
        check_levels(levels, self.features, self.objective)
        optimizer = tried(self.make_optimizer, self.make_scheduler, self.picture)
        largest = extend(levels[-1].content, self.bleed)
        # the picture, its gradient and the guard's copy; the average, the photograph with its margin, and masks
        copies = 3 + bool(self.decay) + bool(self.bleed) + levels[-1].weight_maps
        small = None if levels[-1].coarse is None else extend(levels[-1].coarse.content, self.bleed)
        where = self.trainer.strategy.root_device if self._trainer else None
        self.processes = processes_of(self.trainer) if self._trainer else self.processes
        memory = self.streaming, self.memory, small, where, self.convolution, self.processes
        self.scanner = scanner_for(self.features, self.objective, optimizer, largest, copies, *memory)
        self.scan = LevelScan(self.features, self.scanner, self.bleed, self.style_cache)
        self.coarse = CoarseView(self.coarse_objective, self.scanner, self.bleed, self.padding == "circular")
        self._put(extend(self._apply_strength(start(self.init, levels[0]), levels[0]), self.bleed))

    def begin_level(self, level: Level) -> None:
        """Brings the picture and the optimiser state to a level's size, and computes the level's targets."""
        size, shape, shown = (level.height, level.width), self.picture.shape, self.shown
        if shown.shape[2:] != size:
            return_heap()
            held = self._apply_strength(resample(shown, size, "bicubic", self.padding == "circular").clamp(0, 1), level)
            self._put(extend(held, self.bleed))
            for optimizer in self.trainer.optimizers:
                resample_state(optimizer, shape, size, self.bleed, self.padding == "circular")
        self.processes.take_first(self.picture.data)
        if self.shares == "measured" and self.scanner is not None:
            self.scanner.measure_speeds(self.picture)
        self.set_targets(level)

    def begin_steps(self) -> None:
        """Resets what the guard and the pace know of the level before."""
        self.guard.begin()
        self.pace.begin()

    @property
    def ended_early(self) -> bool:
        """Whether the level is over, though it has steps left."""
        return self.pace.ended

    def _apply_strength(self, picture: Tensor, level: Level) -> Tensor:
        """Blends a level's starting picture, (1, 3, H, W), with the photograph: `strength` is the start's share."""
        return picture if self.strength == 1 else torch.lerp(level.content.to(picture), picture, self.strength)

    def _put(self, picture: Tensor) -> None:
        """Replaces the picture by another picture, (1, 3, H, W), and begins a new average."""
        self.picture.data = picture
        self.picture.grad = None
        if self.decay:
            self.mean_picture = torch.zeros_like(picture)
            self.averaged.zero_()

    def set_targets(self, level: Level) -> None:
        """Computes the targets of a level."""
        assert self.scan is not None and self.coarse is not None  # prepare comes first
        with self.precision(), torch.no_grad():
            self.objective.set_targets(level, self.scan)
            self.coarse.set_level(level.coarse, self.scan)
        self.protected = None
        if level.keep_mask is not None:
            inside = inner(level.keep_mask)
            self.protected = tuple(extend(x.to(self.device), self.bleed) for x in (level.content, inside))
        self.level = level

    def values(self) -> dict[str, Tensor]:
        """Returns the values of the objective's terms for the current picture, unweighted scalars by name."""
        assert self.scanner is not None and self.coarse is not None
        # the network sees the kept part of the photograph, which has no gradient, but for its rim
        picture = self.picture if self.protected is None else torch.lerp(self.picture, *self.protected)
        values = self.objective.values(self.scanner.statistics(picture, self.objective), picture)
        return self.coarse.blend(values, trim(picture, self.bleed))

    def curves(self, total: Tensor, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the curves to log: the total, the weighted sums of content and style, and every unweighted value."""
        logged = {"total": total, **self.objective.sums(values), **values}
        return {name: value.detach() for name, value in logged.items()}

    @property
    def shown(self) -> Tensor:
        """The picture to show and save, (1, 3, H, W) in [0, 1]: the average if the run keeps an average."""
        return shown_picture(self.state_dict(), self.decay, self.bleed)


# the docstring is the help of the command line
StyleTransfer.__doc__ = (StyleTransfer.__doc__ or "").replace("DISTANCES", described())
