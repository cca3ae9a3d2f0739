"""Adam over the scales of a picture, and changes to an optimiser between steps: a trial, another picture size, clipped
pixels, a halved step."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as nnf
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nst.errors import InputError
from nst.machine.numerics import plain
from nst.pictures.geometry import extend, resample, trim


class LaplacianAdam(Optimizer):
    """Adam in the coefficients of a picture's Laplacian pyramid, so that large shapes move as readily as pixels.

    A picture is the sum of pictures at several scales, each half as large as the one before, scaled up. Adam keeps
    moments of the gradient of each scale's coefficients and makes a step of its own in each; the sum of the steps moves
    the pixels. So the parameter is the picture itself, and the coefficients, which clipping would make untrue, need not
    be kept.

    Args:
        params: Pictures, (1, 3, H, W).
        lr: Learning rate of the coefficients at the finest scale; a pixel moves by the sum over scales.
        betas: Decays of the averages of the gradient and of its square.
        eps: Added to the root of the averaged square.
        scales: The number of scales; fewer for a picture so small that no scale under SMALLEST pixels follows.
        ratio: Learning rate of a scale over that of the next finer one.

    Raises:
        ValueError: If a setting is out of range.

    Source:
        Burt and Adelson, "The Laplacian pyramid as a compact image code" (1983); coefficients that are optimised as in
        Kolkin et al., arXiv:2203.13215. We scale up linearly, by (1, 3, 3, 1) / 4.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        scales: int = 4,
        ratio: float = 1.0,
    ) -> None:
        if not (lr >= 0 and eps > 0 and ratio >= 0 and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(f"lr {lr}, betas {betas}, eps {eps} or ratio {ratio} is out of range")
        if scales < 1:
            raise ValueError(f"scales must be 1 or more, and not {scales}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "scales": scales, "ratio": ratio})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Makes a step; the closure, if any, evaluates the objective and its gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for picture in group["params"]:
                if picture.grad is not None:
                    with plain(picture.device):
                        picture -= self._move(picture.grad, self.state[picture], **group)
        return loss

    def _move(
        self,
        gradient: Tensor,
        state: dict[str, Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        scales: int,
        ratio: float,
        **_: Any,
    ) -> Tensor:
        """Updates the moments, and returns what to take away from the pixels."""
        count = state["step"] = state.get("step", 0) + 1
        sizes: list[Sequence[int]] = []
        moves: list[Tensor] = []
        for scale in range(scales):
            if scale:
                gradient = scaled_up_adjoint(gradient)
            sizes.append(gradient.shape[2:])
            first, second = (state.setdefault(f"{name}_{scale}", torch.zeros_like(gradient)) for name in ("avg", "sq"))
            first.lerp_(gradient, 1 - betas[0])
            second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
            root = (second / (1 - betas[1] ** count)).sqrt_().add_(eps)
            moves.append((first / root).mul_(lr * ratio**scale / (1 - betas[0] ** count)))
            if min(gradient.shape[2:]) < SMALLEST:
                break
        move = moves.pop()
        while moves:
            move = scaled_up(move, sizes[len(moves) - 1]) + moves.pop()
        return move


SMALLEST = 8
"""Pixels of a scale's shorter side under which no smaller scale follows."""


def scaled_up(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """Scales (1, C, h // 2 + 2, w // 2 + 2) up to size h, w, linearly, around the middle of the coarse picture."""
    wide = nnf.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return wide[:, :, 1 : 1 + size[0], 1 : 1 + size[1]]


def scaled_up_adjoint(fine: Tensor) -> Tensor:
    """Returns the gradient of the coarse picture of `scaled_up` from the gradient of the fine picture, (1, C, h, w)."""
    height, width = fine.shape[2:]
    padded = nnf.pad(fine, (2, 4 - width % 2, 2, 4 - height % 2))
    return _summed(_summed(padded, 2), 3)


def _summed(x: Tensor, dim: int) -> Tensor:
    """Returns the sums by (1, 3, 3, 1) / 4 of each four positions along a dimension, at every other position."""
    first, second, third, fourth = x.unfold(dim, 4, 2).unbind(-1)
    return (second + third).mul_(0.75).add_(first + fourth, alpha=0.25)


def tried(make_optimizer: OptimizerCallable, make_scheduler: LRSchedulerCallable | None, picture: Tensor) -> Optimizer:
    """Makes the optimiser of a picture, (1, 3, H, W), and checks that its schedule can be made and stepped.

    Raises:
        InputError: If the optimiser or the learning-rate schedule does not take its settings.
    """
    with _explained("optimizer"):
        optimizer = make_optimizer([picture])
    if make_scheduler is not None:
        with _explained("lr_scheduler"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a schedule that is stepped before its optimiser
            schedule = make_scheduler(make_optimizer([nn.Parameter(torch.zeros(1))]))
            schedule.step(1.0) if isinstance(schedule, ReduceLROnPlateau) else schedule.step()
    return optimizer


FUSES = ("cuda",)
"""Types of devices on which torch's Adam is faster in one kernel than in a dozen."""


def fused(optimizer: Optimizer) -> Optimizer:
    """Has torch's Adam make its step in one kernel where that is faster, unless its settings say how it is made."""
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        for group in optimizer.param_groups:
            free = not any(group[key] for key in ("fused", "foreach", "capturable", "differentiable"))
            if free and group["fused"] is None and all(x.device.type in FUSES for x in group["params"]):
                group["fused"] = True
    return optimizer


def scheduled(optimizer: Optimizer, make_scheduler: LRSchedulerCallable | None) -> Any:
    """Returns an optimiser with its learning-rate schedule, stepped after each step, as Lightning takes them."""
    if make_scheduler is None:
        return optimizer
    scheduler = make_scheduler(optimizer)
    config: dict[str, Any] = {"scheduler": scheduler, "interval": "step"}
    if hasattr(scheduler, "monitor"):
        config["monitor"] = scheduler.monitor
    return {"optimizer": optimizer, "lr_scheduler": config}


@contextmanager
def _explained(key: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # torch's classes check their settings each in its own way
        raise InputError(
            f"Expected --model.{key} to be one that works with its settings, but it says: "
            f"{error or type(error).__name__}; change --model.{key}.*"
        ) from None


@torch.no_grad()
def resample_state(
    optimizer: Optimizer, shape: torch.Size, size: tuple[int, int], margin: int = 0, wrap: bool = False
) -> None:
    """Resamples the optimiser state to another picture size.

    Tensors of the picture's shape are interpolated: first moments bicubically, second moments bilinearly, so that
    second moments stay positive (as in style-transfer-pytorch). The state of L-BFGS is cleared: its pairs of steps and
    gradient changes belong to the smaller picture's objective, and say little of the curvature of the new objective. So
    is the state of LaplacianAdam, whose scales are others then.

    Args:
        optimizer: The optimiser of the picture, changed in place.
        shape: The picture's shape before, with its margin, (1, 3, H, W).
        size: The new height and width, without the margin.
        margin: Width of the margin, before and after.
        wrap: Whether the picture tiles.
    """
    if isinstance(optimizer, torch.optim.LBFGS | LaplacianAdam):
        optimizer.state.clear()
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer._numel_cache = None  # it counts the picture's values once
        return
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == shape:
                mode = "bilinear" if "sq" in name else "bicubic"
                state[name] = extend(resample(trim(value, margin), size, mode, wrap), margin)


@torch.no_grad()
def project(picture: Tensor, optimizer: Optimizer) -> None:
    """Clips the pixels to [0, 1], and adds the clipping to the step that L-BFGS remembers.

    L-BFGS takes the next change of the gradient for the effect of its last step; the change is the effect of the step
    and of the clipping. With the clipping in the remembered step, the curvature estimates stay true to the objective.

    Args:
        picture: The picture, (1, 3, H, W), changed in place.
        optimizer: The optimiser that made the step.
    """
    inside = picture.clamp(0, 1)
    if isinstance(optimizer, torch.optim.LBFGS):
        memory_ = optimizer.state[picture]
        if memory_.get("d") is not None and memory_.get("t"):
            memory_["d"] += (inside - picture).flatten() / memory_["t"]
    picture.copy_(inside)


def halve(optimizer: Optimizer, schedulers: Iterable[object] = ()) -> None:
    """Halves the learning rate, now and in the schedules to come, and clears the optimiser state.

    Args:
        optimizer: The optimiser, changed in place.
        schedulers: The learning-rate schedules of the optimiser.
    """
    optimizer.state.clear()
    for group in optimizer.param_groups:
        group |= {key: group[key] / 2 for key in ("lr", "initial_lr") if key in group}
    for scheduler in schedulers:
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]
