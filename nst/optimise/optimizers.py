"""Changes to the picture's optimiser between steps: a trial, another picture size, clipped pixels, a halved step."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nst.errors import InputError
from nst.pictures.geometry import extend, resample, trim


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
    gradient changes belong to the smaller picture's objective, and say little of the curvature of the new objective.

    Args:
        optimizer: The optimiser of the picture, changed in place.
        shape: The picture's shape before, with its margin, (1, 3, H, W).
        size: The new height and width, without the margin.
        margin: Width of the margin, before and after.
        wrap: Whether the picture tiles.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.state.clear()
        optimizer._numel_cache = None  # L-BFGS counts the picture's values once
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
