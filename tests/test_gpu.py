"""What a CUDA GPU alone can show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nst.losses.distance import DISTANCES
from nst.optimise.guard import LAG
from nst.optimise.optimizers import LaplacianAdam
from tests.devices import Unwaited
from tests.helpers import fit, module, pictures, run
from tests.optimise.test_guard import Hiccup

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]

GPU: dict[str, Any] = {"accelerator": "gpu", "devices": 1}


@contextmanager
def unwaited() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_step_waits_for_nothing(distance: str, precision: str, pair: tuple[Path, Path]) -> None:
    watch = Unwaited(unwaited)
    more: dict[str, Any] = {"correspondence_weight": 0.3, "structure_weight": 0.1, "average": 0.9, "bleed": 8}
    model = module(style_distance=distance, tv_weight=0.05, optimizer=LaplacianAdam, **more)
    run(model, pictures(pair, 3 * LAG), callbacks=[watch], precision=precision, **GPU)
    assert watch.kinds == ["cuda"] * 3 * LAG


@pytest.mark.parametrize("distance", DISTANCES)
def test_steps_are_those_of_the_cpu(distance: str, pair: tuple[Path, Path]) -> None:
    def steady(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.02, eps=10.0)  # which does not blow rounding up

    here, there = (
        run(module(optimizer=steady, style_distance=distance), pictures(pair, 3), **where).shown.cpu()
        for where in ({}, GPU)
    )
    assert (here - there).abs().mean() < 1e-3


@pytest.mark.parametrize("streaming", ["on", "off"])
def test_a_resumed_run_ends_in_the_same_picture(streaming: str, pair: tuple[Path, Path]) -> None:
    words = ["--trainer.accelerator", "gpu", "--model.streaming", streaming]
    assert fit(*words, "--output", "straight.png", steps=9) == 0
    assert fit(*words, steps=4) == 0
    assert fit(*words, "--ckpt_path", "last", "--output", "resumed.png", steps=9) == 0
    assert np.array_equal(np.asarray(Image.open("resumed.png")), np.asarray(Image.open("straight.png")))


def test_a_step_that_did_harm_is_undone(pair: tuple[Path, Path]) -> None:
    watch = Hiccup()
    run(module(), pictures(pair, 4 + LAG), callbacks=[watch], **GPU)
    assert all(torch.equal(watch.seen[i], watch.seen[0]) for i in range(2, 2 + LAG))
    assert watch.rates == [0.02] * (2 + LAG) + [0.01] * 2
    assert not torch.equal(watch.seen[-1], watch.seen[0]) and watch.seen[-1].isfinite().all()
