"""A bad step does not spoil the picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from nst.errors import RunError
from nst.optimise.guard import RISE, DivergenceError, Guard
from nst.optimise.optimizers import halve
from tests.helpers import Poison, fit, lbfgs, module, pictures, run


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
