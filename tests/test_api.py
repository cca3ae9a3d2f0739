"""Style transfer in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

import nst
from nst.cli.main import main
from nst.pictures import images
from nst.run import record
from nst.types import InputPath
from tests.helpers import fit

COMMAND = ["--model.backbone", "compact", "--data.content", "photo.png"]
COMMAND += ["--data.style", "painting.png", "--data.steps", "2", "--output", "a.png"]
COMMAND += ["--trainer.enable_progress_bar", "false"]


def adam(params: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=0.02)


SMALL: dict[str, Any] = {"steps": 2, "backbone": "compact"}
TINY: dict[str, Any] = {**SMALL, "preset": None, "size": 32}


def test_paths_and_pillow_images_give_the_same_picture(pair: tuple[Path, Path]) -> None:
    by_path = nst.stylize(*pair, **TINY)
    by_image = nst.stylize(Image.open(pair[0]), Image.open(pair[1]), **TINY)
    assert by_path.size == (32, 27)
    np.testing.assert_array_equal(np.asarray(by_path), np.asarray(by_image))


def test_it_is_what_the_command_makes(pair: tuple[Path, Path]) -> None:
    assert fit("--data.size", "32", "--output", "a.png", steps=2) == 0
    made = nst.stylize(*pair, **TINY)
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), np.asarray(made))


def test_seed_decides_noise_and_torchs_generator_is_left_alone(pair: tuple[Path, Path]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (nst.stylize(*pair, init="noise", seed=s, **TINY) for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))
    assert np.abs(np.asarray(first).astype(int) - np.asarray(other)).mean() > 1
    options = ["--data.size", "32", "--model.init", "noise", "--seed_everything", "1", "--output", "a.png"]
    assert fit(*options, steps=2) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), np.asarray(first))


def test_nothing_is_written(pair: tuple[Path, Path], tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    nst.stylize(*pair, **TINY)
    assert set(tmp_path.iterdir()) == before


def test_alpha_comes_back(pair: tuple[Path, Path]) -> None:
    content = Image.open(pair[0]).convert("RGBA")
    content.putalpha(Image.linear_gradient("L").resize(content.size))
    made = nst.stylize(content, pair[1], **TINY)
    assert made.mode == "RGBA"
    assert images.decode(made).alpha is not None


def test_wrong_input_raises(pair: tuple[Path, Path]) -> None:
    with pytest.raises(nst.InputError, match=r"--data.content to be a picture file, but .*none.png does not exist"):
        nst.stylize("none.png", pair[1], **TINY)


def test_without_a_preset_named_it_is_starry(pair: tuple[Path, Path]) -> None:
    small: dict[str, Any] = {**SMALL, "size": 40, "min_size": 28, "afar": 32}
    made = nst.stylize(*pair, **small)
    assert main(["fit", *COMMAND, "--data.size", "40", "--data.min_size", "28", "--data.afar", "32"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), np.asarray(made))
    assert record.read("a.png")["config"]["model"]["style_distance"] == "wasserstein"
    other = nst.stylize(*pair, preset="gatys2015", **{**small, "optimizer": adam})
    assert np.abs(np.asarray(other).astype(int) - np.asarray(made)).mean() > 1


def test_every_setting_of_the_command_line_is_taken(pair: tuple[Path, Path]) -> None:
    mask = Image.new("L", (48, 40), 0)
    mask.paste(255, (0, 0, 24, 40))
    mask.save("left.png")
    options = ["--config", "{}", "--data.size", "32", "--data.afar", "24", "--data.min_improvement", "0.5"]
    options += ["--data.regions", "{left: {mask: left.png, content_weight: 3}}", "--model.average", "0.5"]
    options += ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--trainer.max_steps", "1"]
    assert main(["fit", *COMMAND, *options]) == 0
    made = nst.stylize(
        *pair,
        **TINY,
        afar=24,
        min_improvement=0.5,
        regions={"left": nst.Region(InputPath("left.png"), content_weight=3)},
        average=0.5,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1),
        trainer={"max_steps": 1, "callbacks": [pl.Callback()]},
    )
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), np.asarray(made))


def test_a_budget_ends_a_run(pair: tuple[Path, Path]) -> None:
    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seconds.append(batch.seconds)

    seconds: list[float] = []
    nst.stylize(*pair, **TINY, budget="1.1s", trainer={"callbacks": [Watch()]})
    assert set(seconds) == {1.1}


def test_a_setting_that_there_is_not_is_refused(pair: tuple[Path, Path]) -> None:
    with pytest.raises(nst.InputError, match=r"but got style_wieght \(did you mean style_weight"):
        nst.stylize(*pair, style_wieght=3)
    with pytest.raises(nst.InputError, match=r"--config to be a file or one of the presets .*, but got stary"):
        nst.stylize(*pair, preset="stary")
    with pytest.raises(nst.InputError, match=r"Expected --data.size to be"):
        nst.stylize(*pair, **{**TINY, "size": "large"})


def test_every_name_has_its_home() -> None:
    assert {"__version__", *nst._HOMES} == set(nst.__all__)
    assert all(getattr(nst, name).__name__ == name for name in nst._HOMES)
    with pytest.raises(AttributeError, match="module 'nst' has no attribute 'styliz'"):
        nst.styliz  # noqa: B018
