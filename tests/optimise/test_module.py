"""The optimised image: parity with a plain loop, exact resume, projection, starts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from nst.errors import InputError
from nst.losses import functional as F
from nst.losses.distance import DISTANCES
from nst.network.features import Features
from nst.network.weights import load
from nst.optimise import optimizers
from nst.optimise.module import StyleTransfer
from nst.optimise.optimizers import project, resample_state
from nst.optimise.resume import shown_picture
from nst.optimise.starts import start
from nst.pictures.geometry import resample, shrink
from nst.scene.data import PictureData
from nst.scene.levels import Level, Painting, Place
from nst.streaming.scanner import Scanner
from nst.types import InputPath, Pixels
from tests.helpers import draw, lbfgs, module, pictures, run, seam, style_losses


def test_the_picture_is_the_only_parameter_and_the_network_is_not_saved(pair: tuple[Path, Path]) -> None:
    assert len(list(module().parameters())) == 1
    trained = run(module(average=0.9), pictures(pair, 2))
    assert [name for name, _ in trained.named_parameters()] == ["picture"]
    assert set(trained.state_dict()) == {"picture", "mean_picture", "averaged"}
    assert set(run(module(), pictures(pair, 1)).state_dict()) == {"picture"}


def steady(params: Iterator[Tensor]) -> torch.optim.Optimizer:
    """Adam with an epsilon of a gradient's usual size, here about 10.

    With a small one it blows the rounding of small gradients up to whole steps, and processors round differently.
    """
    return torch.optim.Adam(params, lr=0.02, eps=10.0)


def plain_loop(level: Level, steps: int) -> Tensor:
    """What anybody would write: no Lightning, no modules of ours but the network."""
    style_layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    network = Features(load("vgg16", "random:0"), [*style_layers, "relu4_2"])

    def gram(x: Tensor) -> Tensor:
        flat = x[0].permute(1, 2, 0).flatten(0, 1)
        return flat.T @ flat / flat.shape[0]

    with torch.no_grad():
        content = network(level.content)["relu4_2"]
        style = {name: gram(x) for name, x in network(level.style).items() if name in style_layers}
    picture = level.content.clone().requires_grad_()
    optimizer = steady(iter([picture]))
    for _ in range(steps):
        optimizer.zero_grad()
        taps = network(picture)
        loss = ((taps["relu4_2"] - content) ** 2).sum() / (content**2).sum()
        for name, target in style.items():
            loss = loss + 10 / 5 * ((gram(taps[name]) - target) ** 2).sum() / (target**2).sum()
        (loss * picture.numel()).backward()
        optimizer.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
    return picture.detach()


def test_trainer_and_plain_loop_make_the_same_picture(pair: tuple[Path, Path]) -> None:
    data = pictures(pair, 6)
    trained = run(module(optimizer=steady), data)
    # the sums are taken in another order, and where one leaves a ReLU on its other side all is a little different
    change = (trained.shown - plain_loop(data.levels[0], 6)).abs()
    assert change.mean() < 1e-4 and change.max() < 1e-2
    assert (trained.shown - data.levels[0].content).abs().mean() > 0.01  # it did move


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_is_made_in_one_kernel_where_that_is_faster(
    kind: Any, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[Any] = []

    class Watch(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
            ways.append(trainer.optimizers[0].param_groups[0]["fused"])

    def made(**settings: Any) -> Tensor:
        model = module(optimizer=lambda x: kind(x, lr=0.02, eps=10.0, **settings))
        return run(model, pictures(pair, 4), callbacks=[Watch()]).shown

    plain = made()
    monkeypatch.setattr(optimizers, "FUSES", ("cpu",))  # where torch has the kernel too
    torch.testing.assert_close(made(), plain, rtol=0, atol=1e-3)  # a step is 0.02
    made(fused=False)
    made(foreach=True)
    assert ways == [None, True, False, None]


def test_losses_fall(pair: tuple[Path, Path]) -> None:
    for optimizer in (lambda p: torch.optim.Adam(p, lr=0.02), lbfgs(), lbfgs(line_search_fn="strong_wolfe")):
        made = run(module(optimizer=optimizer), pictures(pair, 15))
        with torch.no_grad():
            after = made.objective.total(made.values())
            made.prepare(made.levels)  # back to the start
            assert after < 0.7 * made.objective.total(made.values())


def test_the_gradient_of_a_value_does_not_shrink_with_the_picture(pair: tuple[Path, Path]) -> None:
    sizes = []
    for size in (32, 128):
        data = PictureData(InputPath(pair[0]), InputPath(pair[1]), Pixels(size), steps=1)
        data.setup()
        model = module()
        model.prepare(data.levels)
        model.set_targets(data.levels[0])
        model.logs_now = lambda *_: False  # type: ignore[method-assign]  # there is no trainer
        loss = model.training_step(data.levels[0], 0)
        (gradient,) = torch.autograd.grad(loss, model.picture)
        sizes.append(float(gradient.abs().mean()))
    assert 0.3 < sizes[1] / sizes[0] < 3  # without the factor it is below 0.06


def test_the_average_is_adams_kind(pair: tuple[Path, Path]) -> None:
    seen: list[Tensor] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            assert isinstance(pl_module, StyleTransfer)
            seen.append(pl_module.picture.detach().clone())

    made = run(module(average=0.8), pictures(pair, 5), callbacks=[Watch()])
    weights = [0.8 ** (4 - i) for i in range(5)]
    expected = sum(w * x for w, x in zip(weights, seen, strict=True)) / sum(weights)
    torch.testing.assert_close(made.shown, expected, atol=1e-6, rtol=0)
    assert not torch.equal(made.shown, made.picture)
    assert torch.equal(shown_picture({"picture": made.picture}, 0.0), made.picture.detach())


@pytest.mark.parametrize("init", ["content", "noise", "gray", "style"])
def test_starts(pair: tuple[Path, Path], init: str) -> None:
    data = pictures(pair, 1)
    data.setup()
    (level,) = data.levels
    torch.manual_seed(3)
    picture = start(init, level)
    assert picture.shape == level.content.shape
    assert 0 <= picture.min() <= picture.max() <= 1
    torch.manual_seed(3)
    assert torch.equal(start(init, level), picture)
    if init == "content":
        assert torch.equal(picture, level.content)
    if init == "gray":
        assert torch.equal(picture, torch.full_like(picture, 0.5))
    if init == "noise":
        assert abs(float(picture.mean()) - 0.5) < 0.02


def test_style_start_has_the_paintings_colours() -> None:
    generator = torch.Generator().manual_seed(0)
    # colours that stay away from 0 and 1, where clipping would change them
    style = 0.5 + 0.05 * torch.randn(1, 3, 64, 64, generator=generator) @ torch.eye(64)
    style[:, 1] = style[:, 0] * 0.5 + 0.2
    level = Level(0, 1, torch.zeros(1, 3, 200, 200), (Place((Painting(style),)),))
    torch.manual_seed(0)
    made, wanted = F.moments(start("style", level)), F.moments(style)
    torch.testing.assert_close(made.mean, wanted.mean, atol=0.002, rtol=0)
    torch.testing.assert_close(made.covariance, wanted.covariance, atol=1e-4, rtol=0)


def test_a_start_from_a_file(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = draw(tmp_path / "init.png", (48, 40), seed=9)
    data = pictures(pair, 1, init=InputPath(other))
    data.setup()
    given = data.levels[0].init
    assert given is not None
    assert torch.equal(start(InputPath(other), data.levels[0]), given)


def test_projection_keeps_lbfgs_curvature_true() -> None:
    """After clipping, the step that L-BFGS remembers is the one that was really made."""
    target = torch.tensor([1.5, 0.4, -0.5, 0.9])
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0])
    x = torch.nn.Parameter(torch.full((4,), 0.5))
    optimizer = torch.optim.LBFGS([x], lr=1, max_iter=1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (scale * (x - target) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(6):
        before = x.detach().clone()
        optimizer.step(closure)
        project(x, optimizer)
        state = optimizer.state[x]
        torch.testing.assert_close(state["d"] * state["t"], x.detach() - before)
    closure()
    for step, change in zip(state["old_stps"], state["old_dirs"], strict=True):
        torch.testing.assert_close(change, 2 * scale * step, atol=1e-5, rtol=1e-4)  # the Hessian is 2 scale
    torch.testing.assert_close(x.detach(), target.clamp(0, 1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [(30, 36), (10, 12)])
def test_adams_state_grows_with_the_picture(size: tuple[int, int]) -> None:
    x = torch.nn.Parameter(torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam([x])
    ramp = torch.linspace(0, 1, 24).expand_as(x)
    for _ in range(3):
        x.grad = ramp.clone()
        optimizer.step()
    before = {name: value.clone() for name, value in optimizer.state[x].items()}
    resample_state(optimizer, x.shape, size)
    after = optimizer.state[x]
    assert after["step"] == before["step"]
    for name in ("exp_avg", "exp_avg_sq"):
        assert after[name].shape == (1, 3, *size)
        torch.testing.assert_close(after[name].mean(), before[name].mean(), rtol=0.02, atol=0)
        assert after[name].diff(dim=3).min() > -1e-6  # still a ramp
    assert after["exp_avg_sq"].min() >= 0


def test_a_tiling_picture_grows_and_shrinks_alike_wherever_it_is_cut() -> None:
    image = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    for mode in ("bicubic", "bilinear"):
        larger = resample(image, (24, 32), mode, wrap=True)
        shifted = resample(image.roll((3, 5), (2, 3)), (24, 32), mode, wrap=True)
        torch.testing.assert_close(shifted, larger.roll((6, 10), (2, 3)))
        torch.testing.assert_close(larger[:, :, 6:-6, 6:-6], resample(image, (24, 32), mode)[:, :, 6:-6, 6:-6])
    smaller = shrink(image, 6, 8, wrap=True)
    torch.testing.assert_close(shrink(image.roll((2, 4), (2, 3)), 6, 8, wrap=True), smaller.roll((1, 2), (2, 3)))


def test_lbfgs_starts_anew_at_another_size() -> None:
    x = torch.nn.Parameter(torch.rand(1, 3, 8, 8))
    optimizer = torch.optim.LBFGS([x], max_iter=1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (x - 0.5).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    shape = x.shape
    x.data = resample(x.data, (12, 12), "bicubic")
    resample_state(optimizer, shape, (12, 12))
    for _ in range(2):
        optimizer.step(closure)
    assert optimizer.state[x]["d"].numel() == 3 * 12 * 12


def test_a_pyramid_ends_at_its_size_and_lowers_the_objective(pair: tuple[Path, Path]) -> None:
    straight = run(module(average=0.8), pictures(pair, 20))
    data = PictureData(InputPath(pair[0]), InputPath(pair[1]), Pixels(96), min_size=Pixels(48), steps=[30, 10, 10])
    made = run(module(average=0.8), data)
    assert made.shown.shape == (1, 3, 80, 96)
    assert made.averaged == 10  # the average begins anew at each level
    assert straight.shown.shape == (1, 3, 40, 48)


@pytest.mark.parametrize("distance", DISTANCES)
def test_each_style_distance_is_lowered(pair: tuple[Path, Path], distance: Any) -> None:
    made = run(module(style_distance=distance), pictures(pair, 15))
    with torch.no_grad():
        after = made.objective.sums(made.values())["style"]
        made.prepare(made.levels)  # back to the start
        assert after < 0.6 * made.objective.sums(made.values())["style"]


def test_pixels_stay_in_range(pair: tuple[Path, Path]) -> None:
    made = run(module(optimizer=lambda p: torch.optim.SGD(p, lr=10.0)), pictures(pair, 2))
    assert made.picture.min() == 0
    assert made.picture.max() == 1


def test_mixed_precision_leaves_picture_and_sums_in_float32(pair: tuple[Path, Path]) -> None:
    full = run(module(), pictures(pair, 5))
    mixed = run(module(), pictures(pair, 5), precision="bf16-mixed")
    assert mixed.picture.dtype == torch.float32
    for loss in style_losses(mixed.objective).values():
        assert all(x.dtype == torch.float32 for x in loss.targets[0].statistics.flatten())
    assert all(term.dtype == torch.float32 for term in mixed.values().values())
    assert not torch.equal(full.picture, mixed.picture)
    assert (full.picture - mixed.picture).abs().mean() < 0.03  # Adam may move 0.02 a step


def test_a_schedule_is_stepped_with_the_steps(pair: tuple[Path, Path]) -> None:
    rates: list[float] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def schedule(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)

    run(module(lr_scheduler=schedule), pictures(pair, 4), callbacks=[Watch()])
    assert rates == pytest.approx([0.02, 0.02, 0.002, 0.002])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"style_layers": {"relu6_1": 1.0}}, r"but got relu6_1 \(did you mean relu\d_1\?\)"),
        ({"average": 1.0}, r"--model.average to be in \[0, 1\), but got 1"),
        ({"content_weight": -2.0}, "but got -2.0; change --model.content_weight"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        module(**settings)


def test_pictures_too_large_for_the_network_are_refused(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nst.machine.memory.free", lambda device: 10**6)
    with pytest.raises(InputError, match=r"48×40 pixels need about .* MiB and cpu has 976.6 KiB; lower --data.size"):
        run(module(), pictures(pair, 1))


def test_pictures_too_small_for_the_network_are_refused(pair: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"photograph to be at least 16×16 pixels for layer relu5_1, but it is 12×10"):
        run(module(), PictureData(InputPath(pair[0]), InputPath(pair[1]), Pixels(12), steps=1))


@pytest.mark.parametrize(("init", "size"), [("content", 72), ("noise", 96)])
def test_circular_padding_makes_a_picture_that_tiles(init: Any, size: int) -> None:
    """The seam's energy is no more than that of the average line; with other padding it is far above."""
    seams = {}
    for padding in ("replicate", "circular"):
        settings: dict[str, Any] = {"content_weight": 0.1, "style_weight": 1.0, "style_distance": "wasserstein"}
        model = StyleTransfer("compact", padding=padding, init=init, **settings)
        made = run(model, PictureData(size=Pixels(size), steps=40, tile=padding == "circular")).shown
        seams[padding] = max(seam(made, 2), seam(made, 3))
    assert seams["circular"] <= 1 < seams["replicate"] / 2


def test_strength_goes_evenly_from_the_photograph_to_the_configs_balance(pair: tuple[Path, Path]) -> None:
    def far(**settings: Any) -> tuple[float, Tensor]:
        """The root of the content distance, and the picture."""
        layers: dict[str, Any] = {"content_layers": {"relu2_2": 1.0}, "style_layers": {"relu1_1": 1.0, "relu2_1": 1.0}}
        made = run(module(tv_weight=0.1, **layers, **settings), pictures(pair, 15))
        return float(made.values()["content/relu2_2"].sqrt()), made.shown

    distances = [far(strength=strength)[0] for strength in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert 0.3 < distances[2] / distances[4] < 0.8
    assert torch.equal(far(strength=1.0)[1], far()[1])


def test_no_strength_is_the_photograph_at_every_level_from_every_start(pair: tuple[Path, Path]) -> None:
    data = PictureData(InputPath(pair[0]), InputPath(pair[1]), Pixels(96), steps=2, min_size=Pixels(60))
    made = run(module(strength=0.0, init="noise", average=0.5), data)
    assert len(data.levels) == 2
    torch.testing.assert_close(made.shown, data.levels[-1].content, atol=1e-6, rtol=0)


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_strengths_out_of_range_are_refused(strength: float) -> None:
    with pytest.raises(InputError, match=rf"--model.strength to be in \[0, 1\], but got {strength}"):
        module(strength=strength)


def test_strength_needs_a_content_term() -> None:
    module(content_weight=0.0)
    with pytest.raises(InputError, match=r"--model.strength 0.5 can lean on.*; raise --model.content_weight"):
        module(strength=0.5, content_weight=0.0)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("pooling", r"max, avg or l2, but got maxx \(did you mean max\?\)"),
        ("padding", r"zeros, replicate, reflect or circular, but got zero \(did you mean zeros\?\)"),
        ("style_distance", r"frobenius, histogram, mean_std or wasserstein, but got wasserstain \(did you mean wa"),
        ("normalization", r"relative or gatys, but got gatis \(did you mean gatys\?\)"),
        ("tv_norm", r"l1 or l2, but got L1"),
        ("streaming", r"auto, on or off, but got of \(did you mean off\?\)"),
        ("backbone", r"auto, vgg19, vgg16 or compact, but got vgg17 \(did you mean vgg1\d\?\)"),
    ],
)
def test_a_misspelt_choice_is_refused_with_the_nearest(key: str, words: str) -> None:
    wrong: dict[str, Any] = {key: re.findall(r"but got (\w+)", words)[0]}
    with pytest.raises(InputError, match=rf"Expected --model.{key} to be one of {words}"):
        StyleTransfer(**wrong)


def test_a_misspelt_choice_of_colours_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"--data.color to be one of .*, but got contents \(did you mean content\?\)"):
        PictureData(color="contents")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"--data.color_match to be one of .*, but got pac \(did you mean pca\?\)"):
        PictureData(color_match="pac")  # type: ignore[arg-type]


def test_a_checkpoint_is_checked_without_a_change_and_restored_once(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check restored the room of the bands as well; the second time it took the earlier run's for what is free."""
    from tests.helpers import fit

    rooms: list[tuple[float, float]] = []
    go_on = Scanner.go_on_with

    def watch(scanner: Scanner, state: dict[str, Any], given: Any, same_bands: bool) -> None:
        rooms.append((scanner.available, state["room"]))
        go_on(scanner, state, given, same_bands)

    monkeypatch.setattr(Scanner, "go_on_with", watch)
    monkeypatch.setattr("nst.machine.memory.free", lambda device: 8 << 30)
    assert fit(steps=1) == 0
    monkeypatch.setattr("nst.machine.memory.free", lambda device: 4 << 30)  # less than before
    assert fit("--ckpt_path", "last", steps=2) == 0
    ((free, before),) = rooms
    assert before - free == 4 << 30
