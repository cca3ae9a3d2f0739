"""Changes in the middle of a run: what they do, and that a replay makes them at the same steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nst.cli.main import main
from nst.pictures import images
from nst.run import record
from nst.run.steering.changes import Change, check, written
from nst.run.steering.steering import Steering
from tests.helpers import draw, fit

LEVELS = ["--data.size", "96", "--data.min_size", "48"]
"""Three levels, of 48, 68 and 96 pixels."""


def pair() -> None:
    draw(Path("photo.png"), (96, 80), seed=1)
    draw(Path("painting.png"), (88, 104), seed=2)


@pytest.fixture(autouse=True)
def _pair() -> None:
    pair()


def run(name: str, *changes: dict[str, Any], options: tuple[str, ...] = ()) -> torch.Tensor:
    """Makes a picture with changes, checks that its record makes it again, and returns it."""
    flags = ["--changes", yaml.safe_dump([*changes], default_flow_style=True, width=10**6)] if changes else []
    assert fit(*LEVELS, *options, *flags, "--output", f"{name}.png") == 0
    again = ["--config", f"{name}.png", "--output", "again.png", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *again, "--trainer.accelerator", "cpu"]) == 0
    assert Path("again.png").read_bytes() == Path(f"{name}.png").read_bytes()
    return images.load(f"{name}.png").rgb


@pytest.fixture(scope="module")
def made_plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The picture of a run without changes, which is made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("plain"))
        pair()
        run("plain")
        return Path("plain.png").absolute()


@pytest.fixture
def plain(made_plain: Path) -> torch.Tensor:
    return images.load(made_plain).rgb


CHANGES = [
    {"step": 4, "style_weight": 200.0},
    {"step": 4, "content_weight": 30.0},
    {"step": 4, "strength": 0.5},
    {"step": 4, "color": "content"},
    {"step": 4, "color": "match"},
    {"step": 3, "color": "histogram"},  # between two levels
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_change_changes_the_picture_and_is_made_again(change: dict[str, Any], plain: torch.Tensor) -> None:
    steered = run("steered", change)
    assert steered.shape == plain.shape and not torch.equal(steered, plain)
    assert record.read("steered.png")["config"]["changes"] == [change]
    assert record.read("steered.png")["steps"] == 9


def test_a_plain_run_has_no_changes(made_plain: Path) -> None:
    assert "changes" not in record.read(made_plain)["config"]


def test_a_change_to_what_is_already_so_changes_nothing(plain: torch.Tensor) -> None:
    assert torch.equal(run("same", {"step": 4, "color": "style"}), plain)


def test_the_size_grows_from_the_level_that_goes_on() -> None:
    steered = run("large", {"step": 4, "size": 128}, options=("--model.average", "0.5", "--model.bleed", "4"))
    assert steered.shape[2:] == (107, 128)
    # 3 steps at 48 and 68, and at the sizes below 128 that are above 68: 91 and 128
    assert record.read("large.png")["steps"] == 12 and record.read("large.png")["complete"]


def test_a_run_ends_with_its_level_or_at_once(plain: torch.Tensor) -> None:
    assert run("level", {"step": 4, "end": "level"}).shape[2:] == (57, 68)
    assert record.read("level.png")["steps"] == 6 and record.read("level.png")["complete"]
    assert run("now", {"step": 5, "end": "now"}).shape[2:] == (57, 68)
    assert record.read("now.png")["steps"] == 5 and not record.read("now.png")["complete"]


def test_changes_add_up() -> None:
    changes: list[dict[str, Any]] = [
        {"step": 2, "style_weight": 3.0, "color": "match", "size": 128},
        {"step": 5, "strength": 0.7},
        {"step": 7, "color": "style", "content_weight": 4.0},
        {"step": 8, "end": "level"},
    ]
    assert run("many", *changes, options=("--model.init", "noise")).shape[3] == 91
    assert record.read("many.png")["config"]["changes"] == changes


def test_weights_are_those_of_the_settings() -> None:
    seen: list[dict[str, float]] = []

    class Look(Steering):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            super().on_train_batch_end(trainer, pl_module)
            assert pl_module.coarse_objective.weights == pl_module.objective.weights
            seen.append(dict(pl_module.objective.weights))

    from nst.cli.settings import JobCLI
    from tests.helpers import TINY

    def weights(*options: str, plan: tuple[Change, ...] = ()) -> dict[str, float]:
        job = JobCLI([*TINY, "--data.content", "photo.png", "--data.style", "painting.png", *options], "nst", "")
        job.begin()
        job.trainer.callbacks.append(Look(plan))  # type: ignore[attr-defined]  # the Trainer's
        job.trainer.fit(job.model, datamodule=job.datamodule)
        return seen[-1]

    few = ("--data.steps", "2")
    change = Change(1, content_weight=3.0, style_weight=5.0, strength=0.5)
    options = ("--model.content_weight", "3", "--model.style_weight", "5", "--model.strength", "0.5")
    steered, straight = (
        weights(*few, "--model.tv_weight", "2", plan=(change,)),
        weights(*few, *options, "--model.tv_weight", "2"),
    )
    assert steered == pytest.approx(straight)


REFUSED = [
    ({"step": 0}, "to have steps of 1 or more, but got 0"),
    ({"step": 1, "style_weight": -1.0}, "--changes.style_weight to be finite and 0 or more"),
    ({"step": 1, "content_weight": float("nan")}, "--changes.content_weight to be finite and 0 or more"),
    ({"step": 1, "strength": 0.0}, "--changes.strength to be above 0 and at most 1"),
    ({"step": 1, "size": 0}, "--changes.size to be 1 pixel or more"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_values_out_of_range_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(Change(**change))


@pytest.mark.parametrize(
    ("options", "change", "words"),
    [
        (["--model.style_weight", "0"], "{step: 1, style_weight: 2}", "began with a weight of 0"),
        (["--model.strength", "0"], "{step: 1, strength: 1}", "began with 0; begin with more"),
        ([], "{step: 4, size: 60}", "a size above that of the level, 68 pixels, but got 60"),
        (["--budget", "60s"], "{step: 1, size: 200}", "a size that stays with --budget"),
    ],
)
def test_what_a_run_cannot_have_is_refused(
    options: list[str], change: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(*LEVELS, *options, "--changes", f"[{change}]") == 2
    assert words in capsys.readouterr().err


def test_a_run_that_cannot_grow_goes_on_as_it_is(plain: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from nst.errors import InputError

    def make(self: Steering, *arguments: Any) -> None:
        with pytest.raises(InputError, match="to fit into memory"):
            made(self, *arguments)

    made = Steering.make
    monkeypatch.setattr(Steering, "make", make)
    flags = ["--changes", "[{step: 4, size: 3000000}]", "--output", "same.png"]
    assert fit(*LEVELS, *flags) == 0
    assert torch.equal(images.load("same.png").rgb, plain)


def test_a_change_after_the_end_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--changes", "[{step: 50, style_weight: 2}]") == 0
    assert "The change after step 50 was not made: the run has 3 steps" in capsys.readouterr().out


def test_a_steered_run_is_not_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--changes", "[{step: 1, style_weight: 2}]", "--ckpt_path", "last") == 2
    assert "Expected a run without --changes to go on from --ckpt_path" in capsys.readouterr().err


def test_a_hostile_record_has_no_changes_of_other_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--output", "a.png") == 0
    made = record.read("a.png")
    for changes, words in (
        ([{"step": 1, "class_path": "os.system"}], "it has changes\\[0\\].class_path"),
        ([{"step": 1, "color": {"class_path": "os.system"}}], "to be a number"),
        ("[{step: 1}]", "to be settings"),
    ):
        made["config"]["changes"] = changes
        images.save(images.load("a.png").rgb, "b.png", metadata=record.dump(made, 1, True))
        code = main(["fit", "--config", "b.png", "--trainer.enable_progress_bar", "false"])
        said = capsys.readouterr()
        if words == "to be settings":
            assert code == 0 and "Left out of the record of b.png: changes" in said.out
        else:
            assert code == 2 and words.replace("\\", "") in said.err


def test_what_is_not_changed_is_not_written() -> None:
    assert written(Change(3, strength=0.5)) == {"step": 3, "strength": 0.5}
