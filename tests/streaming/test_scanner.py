"""The objective in bands of rows against the whole picture, and both against torch's own gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst.distributed.processes import ALONE, Processes, Share
from nst.errors import InputError, RunError
from nst.losses.distance import DISTANCES
from nst.losses.functional import moments
from nst.losses.layers import ContentTarget
from nst.losses.statistics import Moments
from nst.network import weights
from nst.network.features import Features
from nst.run.callbacks import Progress
from nst.streaming.borders import Borders
from nst.streaming.convolutions import Method
from nst.streaming.plan import Plan, choose, streamed, whole
from nst.streaming.scanner import Scanner, scanner_for
from nst.streaming.stages import stages
from nst.streaming.walk import Walk
from tests.helpers import (
    CONTENT,
    STYLE,
    Poison,
    content_losses,
    difference,
    distances,
    fit,
    lbfgs,
    made,
    module,
    noise,
    objective_of,
    pictures,
    random_weights,
    reference,
    run,
    seen,
    set_targets,
)


class Fixed(Scanner):
    """A scanner whose bands a test chooses."""

    rows: tuple[int, ...]

    def plan(self, picture: Tensor, processes: Processes | None = None) -> Plan:
        return Plan(self.rows, 0, 2.0)


def fixed(network: Features, *rows: int) -> Fixed:
    scanner = Fixed(network)
    scanner.rows = rows
    return scanner


@pytest.mark.parametrize("padding", ["zeros", "replicate", "reflect"])
@pytest.mark.parametrize("pooling", ["max", "avg", "l2"])
def test_whole_and_bands_have_torchs_value_and_gradient(pooling: str, padding: str) -> None:
    network, objective, picture = made(pooling=pooling, padding=padding)
    value, gradient = reference(network, objective, picture)
    for scanner in (Scanner(network, "off"), fixed(network, 16, 12, 8, 4), fixed(network, 32, 34, 17, 8)):
        again, found = seen(scanner, objective, picture)
        assert float(again) == pytest.approx(float(value), rel=1e-12)
        assert difference(found, gradient) < 1e-11  # float64, in another order


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_layers_that_have_no_loss_change_nothing(pooling: str) -> None:
    """Targets may need more layers than losses do, also deeper ones."""
    network, objective, picture = made(pooling=pooling)
    value, gradient = seen(Scanner(network, "off"), objective, picture)
    network.layers |= {*network.sequence}
    for scanner in (Scanner(network, "off"), fixed(network, 16, 12, 8, 4)):
        again, found = seen(scanner, objective, picture)
        assert float(again) == pytest.approx(float(value), rel=1e-12) and difference(found, gradient) < 1e-11
    deeper = Features(random_weights("vgg16"), ["relu2_1", "relu4_3"], pooling).double()  # type: ignore[arg-type]  # any name
    shallow = objective_of({"relu2_1": 1.0}, {})
    content_losses(shallow)["relu2_1"].set_target(ContentTarget(deeper(noise(64, 80, 5))["relu2_1"]))
    value, gradient = reference(deeper, shallow, noise(64, 80, 6))
    for scanner in (Scanner(deeper, "off"), fixed(deeper, 16, 12, 8, 4)):
        again, found = seen(scanner, shallow, noise(64, 80, 6))
        assert float(again) == pytest.approx(float(value), rel=1e-12) and difference(found, gradient) < 1e-11


@pytest.mark.parametrize("size", [(70, 61), (64, 48), (33, 17), (97, 61), (65, 40)])
@pytest.mark.parametrize("pooling", ["max", "avg", "l2"])
def test_a_picture_that_tiles_has_torchs_value_and_gradient(pooling: str, size: tuple[int, int]) -> None:
    network, objective, picture = made(size=size, pooling=pooling, padding="circular")
    value, gradient = reference(network, objective, picture)
    small, mixed = fixed(network, 8, 6, 4, 2), fixed(network, 64, 16, size[0], 4)
    for scanner in (Scanner(network, "off"), Scanner(network, "on"), small, fixed(network, 32, 16, 8, 4), mixed):
        again, found = seen(scanner, objective, picture)
        assert float(again) == pytest.approx(float(value), rel=1e-12)
        assert difference(found, gradient) < 1e-11
        taps = network(picture)
        for layer, activations in scanner.activations(picture, network.layers).items():
            torch.testing.assert_close(activations, taps[layer], rtol=1e-12, atol=1e-12)
    assert Scanner(network, "auto", available=1).plan(picture).streams


@pytest.mark.parametrize("height", [32, 33, 34, 63, 64, 65])
def test_pictures_that_just_fill_or_exceed_bands(height: int) -> None:
    network, objective, picture = made(size=(height, 40))
    value, gradient = reference(network, objective, picture)
    again, found = seen(fixed(network, 32, 16, 8, 4), objective, picture)
    assert float(again) == pytest.approx(float(value), rel=1e-12)
    assert difference(found, gradient) < 1e-11


@pytest.mark.parametrize("distance", DISTANCES)
def test_every_distance_in_bands(distance: Any) -> None:
    network, _, picture = made()
    other = objective_of(CONTENT, STYLE, tv_weight=0.1, tv_norm="l2", style_distance=distance)
    painting, photograph = noise(56, 48, 2), noise(70, 61, 1)
    scanner = fixed(network, 16, 12, 8, 4)
    set_targets(other, scanner.activations(photograph, CONTENT), scanner.sums(painting, distances(other)))
    value, gradient = reference(network, other, picture)
    again, found = seen(scanner, other, picture)
    assert float(again) == pytest.approx(float(value), rel=1e-9)
    assert difference(found, gradient) < 1e-6  # the target's factor is of numerical rank


def test_targets_in_bands_are_those_of_the_whole() -> None:
    network, objective, picture = made()
    taps = network(picture)
    scanner = fixed(network, 16, 12, 8, 4)
    for layer, activations in scanner.activations(picture, CONTENT).items():
        torch.testing.assert_close(activations, taps[layer], rtol=1e-12, atol=1e-12)
    for layer, found in scanner.sums(picture, distances(objective)).items():
        assert isinstance(found, Moments)
        torch.testing.assert_close(found.outer, moments(taps[layer]).outer, rtol=1e-10, atol=0)
        assert found.positions == taps[layer].shape[2] * taps[layer].shape[3]


def test_targets_are_kept_in_the_networks_own_precision() -> None:
    network, _, picture = made(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        (target,) = fixed(network, 16, 12, 8, 4).activations(picture, ["relu3_2"]).values()
    assert target.dtype == torch.bfloat16
    assert target.untyped_storage().nbytes() == 2 * target.numel()


def test_the_gradient_is_that_of_differences() -> None:
    network, objective, picture = made(size=(20, 18), pooling="avg")
    scanner = fixed(network, 8, 6, 4, 2)
    direction = noise(20, 18, 4) - 0.5
    _, gradient = seen(scanner, objective, picture)
    up, down = (seen(scanner, objective, picture + step * direction)[0] for step in (1e-6, -1e-6))
    assert float((gradient * direction).sum()) == pytest.approx(float(up - down) / 2e-6, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(640, 768), (389, 517)])
@pytest.mark.parametrize(("method", "tolerance"), [("direct", 1e-5), ("winograd", 1e-2)])
def test_vgg19_in_bands_in_float32(size: tuple[int, int], method: Method, tolerance: float) -> None:
    """Winograd's method rounds more, and by the tiles of a band, so a few ReLUs of a random network turn."""
    layers = {f"relu{i}_1": 1.0 for i in range(1, 6)}
    network = Features(weights.load("vgg19", "random:0"), {*layers, "relu4_2"})
    objective = objective_of({"relu4_2": 1.0}, layers, tv_weight=0.1)
    photograph, painting, picture = (noise(*size, seed).float() for seed in (1, 2, 3))
    scanner = Scanner(network, "off", method=method)
    set_targets(objective, scanner.activations(photograph, ["relu4_2"]), scanner.sums(painting, distances(objective)))
    value, gradient = seen(scanner, objective, picture)
    again, found = seen(Scanner(network, "on", 0.0, method=method), objective, picture)
    assert float(again) == pytest.approx(float(value), rel=1e-5)
    assert difference(found, gradient) < tolerance


def test_bfloat16_in_bands_has_float32_sums() -> None:
    network, objective, picture = made(torch.float32)
    value, gradient = seen(Scanner(network, "off"), objective, picture)
    with torch.autocast("cpu", torch.bfloat16):
        again, found = seen(fixed(network, 16, 12, 8, 4), objective, picture)
    assert found.dtype == again.dtype == torch.float32
    assert float(again) == pytest.approx(float(value), rel=0.02)
    assert 1e-6 < difference(found, gradient) < 0.1  # it was bfloat16, with eight bits


def test_without_a_gradient_nothing_is_kept() -> None:
    network, objective, picture = made()
    kept: list[int] = []

    class Watched(Walk):
        def forward(self, *args: Any) -> None:
            super().forward(*args)
            kept.append(len(self.inputs))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nst.streaming.scanner.Walk", Watched)
        with torch.no_grad():
            Scanner(network).statistics(picture, objective)
        Scanner(network).statistics(picture.requires_grad_(), objective)
    assert kept == [0, 4]


def test_bands_cover_every_row_once() -> None:
    for height in range(1, 70):
        found = Borders(Share(0, (0, height)), 4, wrap=False, processes=ALONE).bands(16)
        assert [row for band in found for row in range(band.start, band.stop)] == list(range(height))
        assert all(band.start % 2 == band.top % 2 == 0 for band in found)
        assert all(max(0, band.start - 4) == band.top and band.bottom <= height for band in found)
        assert max(band.stop - band.start for band in found) <= 16


def test_more_memory_means_less_work() -> None:
    network = Features(weights.load("vgg19", "random:0"), ["relu5_1"])
    cut = stages(network, torch.bfloat16)
    plans = streamed(cut, 4096, 4096)
    best = [min((p.work for p in plans if p.needed <= room << 30), default=99) for room in (2, 4, 8)]
    assert best[0] > best[1] >= best[2] > 1
    assert whole(cut, 4096, 4096).needed > 8 << 30
    assert whole(cut, 4096, 4096).work == 1


def test_the_fastest_plan_that_fits_is_taken() -> None:
    cut = stages(Features(weights.load("vgg19", "random:0"), ["relu5_1"]), torch.bfloat16)
    plans = streamed(cut, 4096, 4096)
    smallest = min(plan.needed for plan in plans)
    for room in (1 << 20, smallest, 2 * smallest, 4 * smallest, 8 * smallest, 10**18):
        found = choose("on", cut, 4096, 4096, room)
        assert found.needed <= max(room, smallest)
        assert all(found.time(room) <= plan.time(room) for plan in plans if plan.needed <= room)
    # the plan of fewest operations fits, but would have to return its memory after each stage
    fewest, room = plans[0], 12 * plans[0].needed // 5
    found = choose("on", cut, 4096, 4096, room)
    assert fewest.returns_memory(room) and not found.returns_memory(room) and found.work > fewest.work
    assert choose("on", cut, 4096, 4096, 3 * fewest.needed) == fewest


def test_the_watch_is_told_of_every_band() -> None:
    network, objective, picture = made()
    scanner, told = fixed(network, 32, 35, 17, 8), list[tuple[int, int]]()
    scanner.on_band = lambda done, of: told.append((done, of))
    seen(scanner, objective, picture)
    assert told == [(i + 1, 12) for i in range(12)]


@pytest.mark.parametrize("streaming", ["on", "off"])
def test_the_screen_shows_the_bands_of_a_long_step(pair: tuple[Path, Path], streaming: Any) -> None:
    shown: list[dict[str, str]] = []
    progress = Progress()
    progress._pause = 0.0  # every step is a long one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nst.run.callbacks.Tqdm.set_postfix", lambda self, postfix, refresh=True: shown.append(postfix))
        run(module(streaming=streaming), pictures(pair, 2), callbacks=[progress], enable_progress_bar=True)
    bands = [postfix["band"] for postfix in shown if "band" in postfix]
    if streaming == "off":
        assert not bands and len(shown) == 2
    else:
        count = len(bands) // 6  # ways through the network: two for targets, and there and back for each step
        assert bands[-2 * count :] == [f"{i + 1}/{2 * count}" for i in range(2 * count)]
        assert "total" in shown[-2] and "band" not in shown[-1]  # losses beside the bands, and no band between steps


def test_too_little_memory_is_refused_with_what_would_do() -> None:
    network, objective, picture = made(size=(600, 500))
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    with pytest.raises(InputError, match=r"--model.memory to be at least (\d+\.\d) [MG]iB for 500×600.*got 1.0 MiB"):
        scanner_for(network, objective, optimizer, picture, 3, "auto", 1 << 20)
    with pytest.raises(InputError, match=r"without --model.streaming"):
        scanner_for(network, objective, optimizer, picture, 3, "off", 1 << 20)


ADAM = ["--model.average", "0.9"]
LBFGS = ["--model.optimizer", "torch.optim.LBFGS", "--model.optimizer.max_iter", "1"]


def last(run: int) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(f"lightning_logs/version_{run}/checkpoints/last.ckpt", weights_only=True)
    return checkpoint


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())


@pytest.mark.parametrize("options", [ADAM, LBFGS], ids=["adam", "lbfgs"])
def test_a_run_in_bands_resumes_to_the_bit(pair: tuple[Path, Path], options: list[str]) -> None:
    in_bands = [*options, "--model.streaming=on", "--data.size=64", "--data.min_size=40", "--data.steps=[2,4]"]
    assert fit(*in_bands) == 0
    for at in ("1", "3"):
        assert fit(*in_bands, "--checkpoints.every_n_steps", "1", "--trainer.max_steps", at) == 0
        assert fit(*in_bands, "--ckpt_path", "last") == 0
    assert [last(run)["global_step"] for run in range(5)] == [6, 1, 6, 3, 6]
    assert same(last(0), last(2)) and same(last(0), last(4))


def test_a_run_goes_on_in_the_bands_that_it_had(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[float] = []
    for steps, free in ((2, 1 << 30), (4, 9 << 30)):  # with more memory than there was before
        monkeypatch.setattr("nst.machine.memory.free", lambda device, free=free: free)
        assert fit("--ckpt_path", "last", steps=steps) == 0 if rooms else fit(steps=steps) == 0
        rooms.append(last(len(rooms))["nst"]["room"])
    assert rooms[0] == rooms[1] < 1 << 30
    assert fit("--ckpt_path", "last", "--model.memory", "8GiB", steps=6) == 0  # but where the user asks for more
    assert last(2)["nst"]["room"] > rooms[0]


def test_a_run_has_no_more_room_than_there_is() -> None:
    network, _, picture = made()
    scanner = Scanner(network, "on")
    needed = sorted(plan.needed for plan in streamed(stages(network, picture.dtype), *picture.shape[2:]))
    too_small = needed[0] - 1
    for there, before, now in ((needed[-1], needed[0], needed[0]), (too_small, needed[-1], too_small)):
        scanner.available = there
        scanner.go_on_with({"room": before}, [picture], same_bands=True)
        assert scanner.available == now


def test_a_run_with_less_room_than_before_keeps_its_bands_and_returns_memory() -> None:
    network, _, picture = made()
    scanner = Scanner(network, "on", available=10**9)
    assert not scanner._walk(picture, ALONE).returns_memory
    plan = scanner.plan(picture)
    scanner.available = plan.needed
    scanner.go_on_with({"room": 10**9}, [picture], same_bands=True)
    assert scanner.plan(picture) == plan
    assert scanner._walk(picture, ALONE).returns_memory


@pytest.mark.parametrize("optimizer", [lambda p: torch.optim.Adam(p, lr=0.02), lbfgs()], ids=["adam", "lbfgs"])
def test_a_run_in_bands_is_one_in_memory(pair: tuple[Path, Path], optimizer: Any) -> None:
    settings = {"optimizer": optimizer, "average": 0.8, "tv_weight": 0.1}
    whole, streamed = (run(module(streaming=x, **settings), pictures(pair, 5)) for x in ("off", "on"))
    assert streamed.guard.lowest == pytest.approx(whole.guard.lowest, rel=1e-3)
    # sums are taken in another order, and Adam divides by small gradients
    assert (streamed.shown - whole.shown).abs().mean() < 1e-3
    assert (streamed.shown - streamed.levels[0].content).abs().mean() > 0.01


def test_a_bad_step_in_bands_is_made_again(pair: tuple[Path, Path]) -> None:
    poison, model = Poison(heals=True), module(streaming="on")
    made = run(model, pictures(pair, 4), callbacks=[poison])
    (optimizer,) = made.trainer.optimizers
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert torch.isfinite(made.picture).all() and not torch.equal(poison.seen[3], poison.seen[2])
    with pytest.raises(RunError, match="style/relu3_1 is nan: stopped"):
        run(module(streaming="on"), pictures(pair, 4), callbacks=[Poison(heals=False)])
