"""Checkpoints: read as data, of the same picture or refused, written whole, and of a known format."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nst.cli.main import main
from nst.errors import InputError
from nst.optimise.resume import FORMAT
from nst.run import checkpoints, record
from tests.helpers import draw, fit

pytestmark = pytest.mark.usefixtures("pair")


def last(run: int = -1) -> Path:
    return sorted(Path("lightning_logs").glob("version_*/checkpoints/last.ckpt"))[run]


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def refused(capfd: pytest.CaptureFixture[str], *options: str, **settings: Any) -> str:
    """Runs what is to be refused, and returns the line."""
    capfd.readouterr()
    assert fit("--ckpt_path", "last", *options, **settings) == 2
    err = capfd.readouterr().err
    assert err.startswith("nst: error: Expected --ckpt_path to be of a run with the same pictures and settings")
    assert err.endswith("; start anew without it, or go on all the same with --allow_changes true\n")
    assert err.count("\n") == 1
    return err


def test_a_checkpoint_of_another_picture_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    draw(Path("other.png"), seed=9)
    torch.save({"x": torch.zeros(1)}, "other.pth")
    assert fit(steps=2) == 0
    err = refused(capfd, content=Path("other.png"))
    assert "made with other --data.content (photo.png then, other.png now); start" in err
    assert "--data.style (painting.png then, other.png now)" in refused(capfd, style=Path("other.png"))
    err = refused(capfd, "--model.style_weight", "20", "--model.content_layers", "{relu3_1: 1}")
    assert "--model.style_weight (10.0 then, 20.0 now)" in err
    assert "--model.content_layers.relu4_2 (1.0 then, None now)" in err
    assert "--model.init (content then, painting.png now)" in refused(capfd, "--model.init", "painting.png")
    assert "--model.weights (compact.safetensors then, random:1 now)" in refused(capfd, "--model.weights", "random:1")
    assert "--trainer.gradient_clip_val (None then, 0.5 now)" in refused(capfd, "--trainer.gradient_clip_val", "0.5")
    draw(Path("photo.png"), seed=10)  # another picture under the same name
    assert "--data.content (photo.png then, photo.png now)" in refused(capfd)


def test_the_same_picture_under_another_name_goes_on() -> None:
    assert fit("--output", "straight.png", steps=5) == 0
    assert fit(steps=2) == 0
    Path("elsewhere").mkdir()
    moved = Path("photo.png").rename("elsewhere/moved.png")
    more = ["--ckpt_path", "last", "--output", "resumed.png", "--model.streaming", "off"]
    assert fit(*more, content=moved, steps=5) == 0
    assert np.array_equal(np.asarray(Image.open("resumed.png")), np.asarray(Image.open("straight.png")))


def test_a_resumed_run_with_another_weight_is_not_held_against_the_old_objective() -> None:
    """The lowest objective was that of the old weights, so that a step with twenty times as much counted as harm."""
    assert fit(steps=2) == 0
    changed = ["--ckpt_path", "last", "--allow_changes", "true", "--model.style_weight", "2000"]
    assert fit(*changed, "--output", "a.png", steps=4) == 0
    assert record.read("a.png")["config"]["model"]["style_weight"] == 2000
    draw(Path("other.png"), seed=9)
    assert fit("--ckpt_path", "last", "--allow_changes", "true", content=Path("other.png"), steps=6) == 0


def test_formats_are_known_by_their_number(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("--output", "a.png", steps=3) == 0
    assert fit(steps=2) == 0
    checkpoint = load(last())
    assert checkpoint["nst"]["format"] == FORMAT
    older = {**checkpoint, "nst": {k: x for k, x in checkpoint["nst"].items() if k not in ("format", "weights")}}
    torch.save(older, "older.ckpt")
    assert fit("--ckpt_path", "older.ckpt", "--output", "b.png", steps=3) == 0
    assert np.array_equal(np.asarray(Image.open("a.png")), np.asarray(Image.open("b.png")))
    torch.save({**checkpoint, "nst": {**checkpoint["nst"], "format": 99}}, "newer.ckpt")
    capfd.readouterr()
    assert fit("--ckpt_path", "newer.ckpt") == 2
    assert "of format 2 or an earlier one, but newer.ckpt has format 99; read it with" in capfd.readouterr().err


class Touch:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def test_a_checkpoint_runs_no_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit(steps=1) == 0
    torch.save({**load(last()), "more": Touch()}, "evil.ckpt")
    capfd.readouterr()
    for command in (["export", "--output", "a.png"], ["fit", "--data.content", "photo.png"]):
        assert main([*command, "--ckpt_path", "evil.ckpt"]) == 2
        assert capfd.readouterr().err == (
            "nst: error: Expected --ckpt_path to be a checkpoint of nst, but evil.ckpt is not\n"
        )
    assert not Path("exploded").exists()


ODD: dict[str, dict[str, Any]] = {
    "no state": {"state_dict": {}},
    "state of another kind": {"state_dict": 3},
    "picture of another kind": {"state_dict": {"picture": "x"}},
    "flat picture": {"state_dict": {"picture": torch.zeros(3)}},
    "whole numbers": {"state_dict": {"picture": torch.zeros(1, 3, 40, 48, dtype=torch.int32)}},
    "no epoch": {"epoch": None},
    "epoch below 0": {"epoch": -7},
    "no loops": {"loops": {}},
    "loops of another kind": {"loops": {"fit_loop": {"epoch_loop.batch_progress": 3}}},
    "no optimizer": {"optimizer_states": []},
    "optimizer of another kind": {"optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}]},
    "record of another kind": {"record": 3},
    "made of another kind": {"nst": 3},
    "bleed of another kind": {"nst": {"bleed": "x"}},
    "no pace": {"nst": {"bleed": 0, "average": 0.0, "optimizer": "Adam"}},
    "callbacks of another kind": {"callbacks": {"Checkpoints": 3}},
    "alpha of another kind": {"PictureData": {"alpha": torch.zeros(7, 7, 7)}},
    "colours of another kind": {"PictureData": {"lab": torch.zeros(1, 1, 1, 1)}},
}


@pytest.mark.parametrize("case", ODD)
def test_a_checkpoint_that_is_not_as_it_was_written_gives_one_line(
    case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(steps=1) == 0
    torch.save({**load(last()), **ODD[case]}, "odd.ckpt")
    capfd.readouterr()
    codes = [
        fit("--ckpt_path", "odd.ckpt", steps=2),
        main(["export", "--ckpt_path", "odd.ckpt", "--output", "a.png"]),
    ]
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert {*codes} <= {0, 2}
    assert err.count("\n") == sum(code == 2 for code in codes)
    assert 2 in codes or case in ("record of another kind", "callbacks of another kind")


def test_changed_bytes_of_a_checkpoint_give_a_picture_or_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("--data.size", "32", steps=1) == 0
    whole, rng = last().read_bytes(), np.random.default_rng(0)
    buffer = io.BytesIO()
    torch.save({"a": 1}, buffer)
    files = [b"", b"text", whole[:100], whole[: len(whole) // 2], whole[:-1], buffer.getvalue()]
    for _ in range(40):
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[rng.integers(0, len(whole), 8)] = rng.integers(0, 256, 8)
        files.append(changed.tobytes())
    for content in files:
        Path("changed.ckpt").write_bytes(content)
        capfd.readouterr()
        code = main(["export", "--ckpt_path", "changed.ckpt", "--output", "a.png"])
        err = capfd.readouterr().err
        assert (code, err.count("\n")) in ((0, 0), (2, 1)), err


def test_a_checkpoint_without_a_record_says_nothing_of_its_picture() -> None:
    assert checkpoints.changes({}, {"files": {}, "config": {}}) == []
    assert checkpoints.changes({"record": "{"}, {"files": {}, "config": {}}) == []
    now = {"files": {}, "config": {"data": {"size": 3}}}
    then = record.dump({"config": {"data": {"size": 2, "steps": 7}}}, 1, True)
    assert checkpoints.changes({"record": then}, now) == ["--data.size (2 then, 3 now)"]
    with pytest.raises(InputError, match=r"other --data.size \(2 then, 3 now\); start anew"):
        checkpoints.check_same({"record": then}, now)


def test_a_setting_that_came_later_is_no_change_where_it_is_off() -> None:
    then = {"files": {}, "config": {"model": {"bleed": 2}, "data": {"size": 2}}}

    def changes(**model: Any) -> list[str]:
        return record.changes(then, {"files": {}, "config": {"model": {"bleed": 2, **model}, "data": {"size": 2}}})

    assert changes(later_weight=0.0, later_layers={"relu1_1": 1.0}) == []
    assert changes(later_weight=0.0, later_empty=0.1, later_turns="quarter") == []
    assert changes(later_weight=0.5, later_empty=0.1) == ["--model.later_weight (None then, 0.5 now)"]
    assert changes(terms=[{"class_path": "mine.Term"}]) == ["--model.terms.0.class_path (None then, mine.Term now)"]


@pytest.mark.parametrize(
    "odd", [{"good": 3}, {"good": torch.zeros(())}, {"good": torch.zeros(1, 3, 4, 4)}, {"lowest": "x"}]
)
def test_a_last_good_picture_that_is_none_is_refused(odd: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    assert fit(steps=2) == 0
    checkpoint = load(last())
    assert checkpoint["nst"]["good"].shape == checkpoint["state_dict"]["picture"].shape
    torch.save({**checkpoint, "nst": {**checkpoint["nst"], **odd}}, "odd.ckpt")
    capfd.readouterr()
    assert fit("--ckpt_path", "odd.ckpt", steps=3) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("nst: error: Expected --ckpt_path to ") and "take an earlier" in line
