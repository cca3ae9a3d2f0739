"""Levels that end before their steps are made."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from nst.cli.main import main
from nst.errors import InputError
from nst.optimise.pace import RESERVE, WINDOW, Pace
from nst.run.callbacks import Progress
from nst.scene.data import PictureData
from nst.scene.levels import Level
from nst.types import InputPath, Pixels, Seconds
from tests.helpers import fit, module, pictures, run

EMPTY = torch.zeros(1, 3, 8, 8)


def levels(*seconds: float | None, min_improvement: float = 0.0) -> list[Level]:
    return [Level(i, 100, EMPTY, (), None, x, min_improvement) for i, x in enumerate(seconds)]


def test_levels_share_the_time_that_is_left_after_the_preparations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("nst.optimise.pace.time.monotonic", lambda: now)
    plan = levels(10.0, 30.0)
    own, loss = Pace(plan, spent=4.0), torch.tensor(1.0)
    now = 3.0
    own.begin()  # after seven seconds of the forty
    left = 40 - RESERVE - 7
    now = 3.0 + left / 4 - 0.01
    assert not own.step(plan[0], loss)
    now += 0.02
    assert own.step(plan[0], loss)
    own.begin()
    assert not own.step(plan[1], loss)
    now = 3.0 + left - 0.01
    assert not own.step(plan[1], loss)
    now += 0.02
    assert own.step(plan[1], loss)


def test_a_level_that_falls_too_slowly_ends() -> None:
    (level,) = plan = levels(None, min_improvement=0.01)
    own = Pace(plan)
    own.begin()
    losses = [0.9**i for i in range(3 * WINDOW)] + [0.9 ** (3 * WINDOW) * 0.9999**i for i in range(3 * WINDOW)]
    done = [own.step(level, torch.tensor(loss)) for loss in losses]
    assert done.index(True) + 1 == 5 * WINDOW  # the first window that is less than 1 % below the one before
    fast = Pace(plan)
    fast.begin()
    assert not any(fast.step(level, torch.tensor(0.99**i)) for i in range(200))


def test_it_goes_on_where_it_was() -> None:
    (level,) = plan = levels(None, min_improvement=0.01)
    whole, first = Pace(plan), Pace(plan)
    whole.begin()
    first.begin()
    losses = [torch.tensor(1 - i / 1e4) for i in range(2 * WINDOW)]
    expected = [whole.step(level, loss) for loss in losses]
    seen = [first.step(level, loss) for loss in losses[:27]]
    second = Pace(plan)
    second.load_state_dict(first.state_dict())
    assert seen + [second.step(level, loss) for loss in losses[27:]] == expected
    assert expected[-1] and not any(expected[:-1])


def test_more_time_opens_an_ended_level_again() -> None:
    own = Pace(levels(1.0))
    own.begin()
    own.ended = True
    same, longer = Pace(levels(1.0)), Pace(levels(2.0))
    same.load_state_dict(own.state_dict())
    longer.load_state_dict(own.state_dict())
    assert same.ended and not longer.ended


def test_the_budget_is_split_as_steps_and_pixels_are(pair: tuple[Path, Path]) -> None:
    data = PictureData(
        InputPath(pair[0]), InputPath(pair[1]), Pixels(400), Pixels(200), ratio=2, steps=[30, 10], budget=Seconds(60)
    )
    data.setup()
    first, second = (level.seconds for level in data.levels)
    assert first is not None and second is not None
    assert first + second == pytest.approx(60)
    assert second / first == pytest.approx((400**2 + 100**2) / (3 * (200**2 + 100**2)))


@pytest.mark.slow
def test_a_budget_is_kept_and_the_full_size_reached(pair: tuple[Path, Path]) -> None:
    small = ["--data.size", "64", "--data.min_size", "40", "--output", "a.png"]
    start = time.monotonic()
    assert fit("--budget", "6s", *small, content=pair[0], style=pair[1], steps=500) == 0
    assert time.monotonic() - start < 9  # a machine may be busy
    assert max(Image.open("a.png").size) == 64
    state = torch.load("lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert state["epoch"] == 1 and state["global_step"] > 3
    # it is at its end, so nothing is left to do
    again = ["--config", "lightning_logs/version_0/config.yaml", "--output", "b.png"]
    assert main(["fit", *again, "--ckpt_path", "lightning_logs/version_0/checkpoints/last.ckpt"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_a_run_that_no_longer_improves_goes_to_the_next_level(pair: tuple[Path, Path]) -> None:
    small = ["--data.size", "64", "--data.min_size", "40", "--model.optimizer.lr", "1e-9"]
    assert fit(*small, "--data.min_improvement", "0.01", content=pair[0], style=pair[1], steps=500) == 0
    state = torch.load("lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert state["global_step"] == 2 * 2 * WINDOW
    assert state["epoch"] == 1


@pytest.mark.parametrize("stop", [33, 2 * WINDOW, 50])
def test_a_run_with_early_ends_resumes_exactly(pair: tuple[Path, Path], stop: int) -> None:
    small = ["--data.size", "64", "--data.min_size", "40", "--model.optimizer", "torch.optim.Adam"]
    small += ["--model.optimizer.lr", "1e-3", "--data.min_improvement", "0.3", "--checkpoints.every_n_steps", "1"]
    small += ["--trainer.precision", "32-true"]
    assert fit(*small, "--output", "a.png", content=pair[0], style=pair[1], steps=500) == 0
    whole = torch.load("lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert whole["global_step"] == 4 * WINDOW
    limit = ["--trainer.max_steps", str(stop)]
    assert fit(*small, *limit, content=pair[0], style=pair[1], steps=500) == 0
    resume = ["--ckpt_path", "lightning_logs/version_1/checkpoints/last.ckpt", "--output", "b.png"]
    assert fit(*small, *resume, content=pair[0], style=pair[1], steps=500) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("90", 90), ("1.5min", 90), ("2 m", 120), ("1h", 3600)])
def test_times_are_written_in_the_usual_ways(text: str, seconds: float) -> None:
    assert Seconds.parse(text) == seconds


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "soon"], "Expected --budget to be a time such as 60s or 2min, but got soon"),
        (["--model.memory", "lots"], "Expected --model.memory to be an amount of memory such as 6GiB, but got lots"),
        (["--budget", "0s"], "Expected --budget to be above 0 seconds, but got 0"),
        (["--data.min_improvement", "1"], r"Expected --data.min_improvement to be in \[0, 1\), but got 1"),
    ],
)
def test_bad_input(pair: tuple[Path, Path], options: list[str], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert fit(*options, content=pair[0], style=pair[1]) == 2
    error = capfd.readouterr().err
    assert re.search(words, error), error
    assert error.count("\n") == 1


def test_a_wrong_budget_from_python_is_refused() -> None:
    with pytest.raises(InputError, match="above 0 seconds"):
        PictureData(budget=Seconds(-1))


def test_the_time_left_is_that_of_all_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    large = torch.zeros(1, 3, 100, 300)
    small = Level(0, 50, torch.zeros(1, 3, 50, 200), ())
    plan = [small, Level(1, 30, large, ()), Level(2, 10, large, (), coarse=small)]
    own = Pace(plan)  # steps cost 20,000, 40,000 and 60,000 pixels' time
    assert [level.cost for level in plan] == [20_000, 40_000, 60_000]
    assert own.left(plan[0], 20, 0.5) == pytest.approx(0.5 * (30 + 30 * 2 + 10 * 3))
    assert own.left(plan[2], 10, 0.5) == 0
    monkeypatch.setattr("nst.optimise.pace.time.monotonic", lambda: 0.0)
    assert Pace(levels(10.0, 30.0), spent=15.0).left(levels(10.0)[0], 7, 1.0) == 25


def test_a_log_has_lines_and_no_bar(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run(module(), pictures(pair, 4), callbacks=[Progress()], enable_progress_bar=True)
    text = capsys.readouterr().out
    assert "\r" not in text and "█" not in text
    lines = [line for line in text.splitlines() if line.startswith("level 1/1")]
    assert ": 4/4 [" in lines[-1] and "total=" in lines[-1]


def test_the_screen_shows_the_time_left(monkeypatch: pytest.MonkeyPatch, pair: tuple[Path, Path]) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("nst.run.callbacks.Tqdm.set_postfix", lambda self, postfix, refresh: shown.append(postfix))
    monkeypatch.setattr("nst.optimise.pace.Pace.left", lambda self, level, done, step: 3700 + 60 * done)
    progress = Progress()
    progress._pause = 0.0
    run(module(), pictures(pair, 4), callbacks=[progress], enable_progress_bar=True)
    assert [postfix.get("left") for postfix in shown] == [None, "1:03:40", "1:04:40", "1:05:40"]
    assert all(list(postfix)[-3:] == ["total", "content", "style"] for postfix in shown)
