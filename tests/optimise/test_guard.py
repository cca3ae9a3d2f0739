"""A bad step does not spoil the picture."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from nst.errors import RunError
from nst.optimise import guard
from nst.optimise.guard import LAG, NOISE, RISE, TRIES, DivergenceError, Guard
from nst.optimise.optimizers import halve
from nst.run.checkpoints import CheckpointFiles
from tests.helpers import Poison, fit, lbfgs, module, pictures, run, style_losses


@pytest.mark.parametrize("optimizer", [lambda p: torch.optim.Adam(p, lr=0.02), lbfgs()])
def test_a_loss_that_stays_nan_stops_at_the_last_good_picture(pair: tuple[Path, Path], optimizer: Any) -> None:
    poison, model = Poison(heals=False), module(optimizer=optimizer)
    with pytest.raises(RunError, match=r"style/relu3_1 is nan: stopped.*lower --model.style_weight"):
        run(model, pictures(pair, 5), callbacks=[poison])
    assert torch.equal(model.picture, poison.seen[1])  # the last whose objective was a number


@pytest.mark.parametrize("optimizer", [lambda p: torch.optim.Adam(p, lr=0.02), lbfgs()])
def test_a_step_that_made_it_nan_is_made_again_half_as_long(pair: tuple[Path, Path], optimizer: Any) -> None:
    poison, model = Poison(heals=True), module(optimizer=optimizer)
    trainer_rates: list[float] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer_rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    run(model, pictures(pair, 5), callbacks=[poison, Watch()])
    assert len(poison.seen) == 5
    assert trainer_rates[2:] == [trainer_rates[0] / 2] * 3
    assert torch.isfinite(model.picture).all()
    assert not torch.equal(poison.seen[3], poison.seen[2])


@pytest.mark.parametrize("lr", [1e2, 1e6])
def test_lbfgs_without_a_line_search_comes_back_from_steps_that_are_too_long(
    pair: tuple[Path, Path], lr: float
) -> None:
    """Where older tools end with black and grey pictures."""
    made = run(module(optimizer=lbfgs(lr=lr), style_weight=1e4), pictures(pair, 30))
    with torch.no_grad():
        after = float(made.objective.total(made.values()))
        made.prepare(made.levels)  # back to the start
        assert after < 0.5 * float(made.objective.total(made.values()))


def test_it_says_so_in_one_line(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    steep = ["--model.optimizer", "torch.optim.LBFGS", "--model.optimizer.lr", "1e6", "--model.optimizer.max_iter", "1"]
    assert fit(*steep, "--output", "a.png", steps=5) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(": went back a step, and the learning rate is now " in line for line in lines)


def test_only_the_first_look_of_a_step_is_held_against_the_lowest() -> None:
    guard, picture = Guard(), torch.nn.Parameter(torch.zeros(1, 3, 2, 2), requires_grad=False)
    adam = torch.optim.Adam([picture])
    guard.open(picture, adam)
    guard.check(torch.tensor(1.0), {})
    guard.check(torch.tensor(2 * RISE), {})  # a line search looks around
    guard.close(picture)
    guard.open(picture + 1, adam)
    guard.check(torch.tensor(0.9 * RISE), {})
    guard.close(picture)
    guard.open(picture + 2, adam)
    with pytest.raises(DivergenceError, match="total is 11: stopped"):
        guard.check(torch.tensor(1.1 * RISE), {})
    now = picture + 2
    guard.go_back(now, DivergenceError("total", 11), again=True)
    assert torch.equal(now, picture + 1)
    guard.begin()  # at another level nothing is known to be low
    guard.open(picture, adam)
    guard.check(torch.tensor(5 * RISE), {})


def test_a_picture_that_is_not_finite_is_no_good() -> None:
    guard, picture = Guard(), torch.nn.Parameter(torch.zeros(1, 3, 2, 2), requires_grad=False)
    adam = torch.optim.Adam([picture])
    guard.open(picture, adam)
    guard.check(torch.tensor(1.0), {})
    picture[0, 0, 0, 0] = math.nan
    with pytest.raises(DivergenceError, match="picture is nan"):
        guard.close(picture)
    guard.go_back(picture, DivergenceError("picture", math.nan), again=True)
    assert torch.equal(picture, torch.zeros(1, 3, 2, 2))


def test_halving_holds_for_schedules() -> None:
    x = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([x], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    x.grad = torch.ones(2)
    optimizer.step()
    halve(optimizer, [schedule])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert not optimizer.state
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.025)


def test_a_resumed_run_goes_back_as_the_one_before_would() -> None:
    """The step after a checkpoint may be the one that finds out that the last one did harm."""
    picture = torch.full((1, 3, 4, 4), 0.25)
    before = Guard()
    before.open(picture, torch.optim.SGD([picture]))
    before.check(torch.tensor(1.0), {})
    state = before.state_dict()
    picture.fill_(0.75)
    resumed = Guard()
    resumed.load_state_dict(state)
    resumed.open(picture, torch.optim.SGD([picture]))
    with pytest.raises(DivergenceError) as raised:
        resumed.check(torch.tensor(100.0), {})
    resumed.go_back(picture, raised.value, again=True)
    assert bool((picture == 0.25).all())


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the CPU judge steps as a device that is not asked at once."""
    monkeypatch.setattr(guard, "AT_ONCE", ())


class Hiccup(pl.Callback):
    """Makes a target NaN in the third step alone; keeps the picture and the rate after each step, and a checkpoint."""

    def __init__(self, saved_at: int | None = None) -> None:
        self.saved_at = saved_at
        self.seen: list[torch.Tensor] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            self.loss = style_losses(pl_module.objective)["relu3_1"]
            self.prepared = self.loss.prepared
            self.loss.prepared = [replace(x, outer=x.outer * math.nan) for x in self.prepared]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            self.loss.prepared = self.prepared
        self.seen.append(pl_module.picture.detach().clone())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        if batch_idx == self.saved_at:
            trainer.save_checkpoint("kept.ckpt")


@pytest.mark.usefixtures("away")
def test_a_device_that_is_not_asked_goes_back_at_once_and_is_slowed_down_later(pair: tuple[Path, Path]) -> None:
    watch = Hiccup()
    made = run(module(average=0.5), pictures(pair, 4 + LAG), callbacks=[watch])
    harmed = range(2, 2 + LAG)  # the picture before the second step is the last whose objective was a number
    assert all(torch.equal(watch.seen[i], watch.seen[0]) for i in harmed)
    assert not torch.equal(watch.seen[1], watch.seen[0]) and not torch.equal(watch.seen[2 + LAG], watch.seen[0])
    assert watch.rates == [0.02] * (2 + LAG) + [0.01] * 2
    assert all(torch.isfinite(x).all() for x in (*watch.seen, made.shown))


@pytest.mark.usefixtures("away")
def test_a_harm_that_the_host_has_not_learned_of_is_in_the_checkpoint(pair: tuple[Path, Path]) -> None:
    for saved_at in (2, 4, 3 + LAG):
        straight = run(module(average=0.5), pictures(pair, 6 + LAG), callbacks=[Hiccup(saved_at)])
        again: dict[str, Any] = {"callbacks": [Hiccup()], "plugins": [CheckpointFiles()]}
        resumed = run(module(average=0.5), pictures(pair, 6 + LAG), Path("kept.ckpt"), **again)
        assert torch.equal(resumed.shown, straight.shown)


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("steps", [5, 3 + TRIES * (LAG + 1)])
def test_a_device_that_is_not_asked_stops_at_the_last_good_picture(pair: tuple[Path, Path], steps: int) -> None:
    poison, model = Poison(heals=False), module(style_layers={"relu1_1": 1.0, "relu3_1": 1.0})
    with pytest.raises(RunError, match=r"style/relu3_1 is nan: stopped.*lower --model.style_weight"):
        run(model, pictures(pair, steps), callbacks=[poison])
    assert torch.equal(model.picture, poison.seen[1])
    assert len(poison.seen) <= 2 + TRIES * LAG + 1


def told(own: Guard, picture: torch.Tensor, values: list[dict[str, float]], last: bool = True) -> None:
    """Makes steps that move the picture by 1 and find some objectives."""
    adam = torch.optim.Adam([picture])
    for i, value in enumerate(values):
        own.open(picture, adam)
        numbers = {name: torch.tensor(x) for name, x in value.items()}
        own.check(torch.stack([*numbers.values()]).sum(), numbers)
        picture += 1
        own.close(picture, last and i + 1 == len(values))


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize(
    ("values", "words", "left"),
    [
        ([{"a": 1.0}, {"a": 1.1 * RISE}], "total is 11: stopped", 0.0),
        ([{"a": 1.0, "b": 0.0}, {"a": 8.0, "b": 1.0}, {"a": 0.5, "b": math.inf}], "b is inf.*lower --model.b", 1.0),
        ([{"a": 2.0}, {"a": 1.0}, {"a": math.nan}, {"a": 1.0}], "a is nan: stopped", 1.0),
    ],
)
def test_a_device_judges_as_the_host_would(values: list[dict[str, float]], words: str, left: float) -> None:
    own, picture = Guard({"b": "--model.b"}), torch.zeros(1, 3, 2, 2)
    with pytest.raises(DivergenceError, match=words) as raised:
        told(own, picture, values)
    assert torch.equal(picture, torch.full_like(picture, left))
    own.go_back(picture, raised.value, again=True)
    told(own, picture, [dict.fromkeys(values[0], 0.5)])  # and it goes on
    assert own.lowest == 0.5 * len(values[0]) and torch.equal(picture, torch.full_like(picture, left + 1))


@pytest.mark.usefixtures("away")
def test_a_device_without_a_good_picture_is_not_tried_again() -> None:
    own, picture = Guard(), torch.zeros(1, 3, 2, 2)
    told(own, picture, [{"a": math.nan}, {"a": NOISE}], last=False)
    with pytest.raises(DivergenceError, match="a is nan") as raised:
        told(own, picture, [{"a": 1.0}])
    with pytest.raises(DivergenceError, match="a is nan"):
        own.go_back(picture, raised.value, again=True)
    assert not picture.any()


@pytest.mark.usefixtures("away")
def test_a_device_finds_a_picture_that_is_not_finite() -> None:
    own, picture = Guard(), torch.zeros(1, 3, 2, 2)
    told(own, picture, [{"a": 1.0}], last=False)
    picture[0, 0, 0, 0] = math.inf
    with pytest.raises(DivergenceError, match="picture is nan"):
        own.close(picture, last=True)
    assert not picture.any()


@pytest.mark.usefixtures("away")
def test_the_objective_of_a_step_that_did_harm_is_not_shown_to_the_pace() -> None:
    own, picture = Guard(), torch.zeros(1, 3, 2, 2)
    told(own, picture, [{"a": 2.0}, {"a": 1.5}, {"a": math.nan}], last=False)
    assert float(own.objective) == 1.5
