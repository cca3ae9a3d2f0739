"""Processes of a test, which import this module: what they compute together, and the same by one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from nst.distributed.processes import ALONE, Processes
from nst.losses.coarse import CoarseView
from nst.losses.objective import Objective, Term
from nst.losses.statistics import Statistics, over
from nst.losses.terms.standard import standard_terms
from nst.network import weights
from nst.network.features import Features
from nst.optimise.targets import LevelScan
from nst.scene.levels import Level, Painting, Place
from nst.streaming.borders import Borders, Margin
from nst.streaming.scanner import Scanner

WIDTH = 56


class Case(NamedTuple):
    """An objective of a picture, all terms at once."""

    height: int
    padding: Any = "zeros"
    streaming: Any = "off"
    distance: str = "frobenius"
    regions: bool = False
    pooling: Any = "max"
    dtype: torch.dtype = torch.float64
    speeds: tuple[float, ...] = ()


def blobs(height: int, width: int, seed: int, dtype: torch.dtype) -> Tensor:
    small = torch.rand(1, 3, 7, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1).to(dtype)


def terms(case: Case) -> list[Term]:
    layers = {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0}
    matched = 0.3 if case.dtype == torch.float32 else 0.0  # the maps that it weighs by are float32
    return standard_terms(
        {"relu3_2": 1.0}, layers, 1.0, 10.0, 1e-2, style_distance=case.distance, wrap=case.padding == "circular",
        correspondence_layers={"relu1_1": 1.0, "relu3_1": 1.0}, correspondence_weight=matched,
        structure_layers={"relu3_1": 1.0}, structure_weight=0.5,
    )  # fmt: skip


def network_of(case: Case) -> Features:
    layers = Objective(terms(case)).layers
    return Features(weights.load("compact", "imagenet"), layers, case.pooling, case.padding).to(case.dtype)


def prepared(case: Case, processes: Processes) -> tuple[Tensor, Callable[[], Tensor]]:
    """A picture, and what returns its objective, with a coarse view."""
    objectives = [Objective(terms(case)) for _ in range(2)]
    network = network_of(case)
    scanner = Scanner(network, case.streaming, method="direct", processes=processes)
    scan = LevelScan(network, scanner, 0, deque())

    def level(height: int, width: int) -> Level:
        inside = torch.zeros(1, 1, height, width, dtype=case.dtype)
        inside[:, :, : height // 3] = 1
        paintings = [Painting(blobs(60, 50, seed, case.dtype)) for seed in (1, 2)]
        places = [Place((paintings[0],))]
        if case.regions:
            guides = inside, 1 - inside
            places = [Place((x,), "", guide, 0.5) for x, guide in zip(paintings, guides, strict=True)]
        return Level(0, 1, blobs(height, width, 3, case.dtype), tuple(places))

    objective, coarse = objectives
    objective.set_targets(level(case.height, WIDTH), scan)
    view = CoarseView(coarse, scanner, 0, case.padding == "circular")
    view.set_level(level(40, 40), scan)
    noise = torch.randn(1, 3, case.height, WIDTH, generator=torch.Generator().manual_seed(4)).to(case.dtype)
    picture = (blobs(case.height, WIDTH, 3, case.dtype) + noise / 10).clamp(0, 1).requires_grad_()

    def total() -> Tensor:
        values = view.blend(objective.values(scanner.statistics(picture, objective), picture), picture)
        return objective.total(values)

    return picture, total


def value_and_gradient(case: Case, processes: Processes = ALONE) -> tuple[Tensor, Tensor]:
    """The objective of a picture and its gradient."""
    picture, total = prepared(case, processes)
    value = total()
    value.backward()
    assert picture.grad is not None
    return value.detach(), picture.grad


def after_steps(case: Case, steps: int, processes: Processes = ALONE) -> Tensor:
    """The picture after steps of Adam."""
    picture, total = prepared(case, processes)
    optimizer = torch.optim.Adam([picture], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        total().backward()
        optimizer.step()
        picture.data.clamp_(0, 1)
    return picture.detach()


@dataclass(frozen=True)
class Largest(Statistics):
    """Statistics with an addition of their own."""

    value: Tensor

    def __add__(self, other: Largest) -> Largest:
        return Largest(torch.maximum(self.value, other.value))


def moved(height: int, wrap: bool, processes: Processes) -> list[float]:
    """The inner products <fill(x), y> and <x, fold(y)>, summed over all processes, of buffers with margins."""
    share = processes.share(height, 4)
    borders = Borders(share, 6, wrap, processes)
    margin = borders.margin(borders.bands(share.rows)) if share.rows else Margin(0, 0)
    generator = torch.Generator().manual_seed(processes.rank)
    shape = 1, 2, share.rows + sum(margin), 3
    x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    own = slice(margin.above, margin.above + share.rows)
    inside = torch.zeros_like(x)
    inside[:, :, own] = x[:, :, own]
    filled, folded = inside.clone(), y.clone()
    borders.fill(filled, margin)
    borders.fold(folded, margin)
    products = (filled * y).sum(), (inside[:, :, own] * folded[:, :, own]).sum()
    return [float(processes.add(product)) for product in products]


def everything(cases: list[Case], processes: Processes) -> dict[str, Any]:
    """What each process computes."""
    found: dict[str, Any] = {}
    for i, case in enumerate(cases):
        speeds = case.speeds[: processes.count]
        found[f"{i}"] = value_and_gradient(case, Processes(processes.rank, processes.count, 1, speeds))
    if processes.count > 1:
        found["adjoint"] = [moved(height, wrap, processes) for height in (3, 11, 40) for wrap in (False, True)]
        ranks = {"most": Largest(torch.tensor(float(processes.rank)))}
        found["largest"] = float(over(processes, ranks)["most"].value)
        found["measured"] = processes.measured(1.0 + processes.rank).speeds
        scanner = Scanner(network_of(cases[0]), processes=processes)
        scanner.measure_speeds(blobs(40, 40, 5, torch.float64))
        found["speeds"] = scanner.processes.speeds
        found["decided"] = processes.by_first(processes.rank == 0), processes.by_first(processes.rank > 0)
    return found


def _work(rank: int, count: int, folder: Path, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", timedelta(seconds=120), count, rank)
    torch.save(work(*given, Processes(rank, count, count)), folder / f"{rank}.pt")
    dist.destroy_process_group()


def together(count: int, folder: Path, work: Callable[..., Any], *given: Any) -> list[Any]:
    """Calls a function of a module in several processes, with their Processes last, and returns what each returned."""
    spawn(_work, (count, folder, work, given), nprocs=count)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]
