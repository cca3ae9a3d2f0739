"""Every config in the folder, as soon as it exists."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from nst.cli.main import main

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
SMALL = ["--data.size", "48", "--data.steps", "2", "--trainer.enable_progress_bar", "false"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_works_without_any_other_file(config: Path) -> None:
    network = ["--model.backbone", "vgg16", "--model.weights", "random:0"]
    assert main(["fit", "--config", str(config), *network, *SMALL, "--output", "a.png"]) == 0
    assert max(Image.open("a.png").size) == 48


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_its_header_gives_the_command(config: Path) -> None:
    assert f"nst fit --config {config.stem}" in config.read_text()


def test_there_are_the_promised_ones() -> None:
    assert {"starry", "gatys2015", "tutorial", "debug"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("name", ["gatys2015", "tutorial"])
def test_lbfgs_lowers_the_objective_of(name: str) -> None:
    losses = []
    for steps in ("1", "12"):
        network = ["--model.backbone", "vgg16", "--model.weights", "random:0"]
        config = str(Path(__file__).parents[2] / "configs" / f"{name}.yaml")
        assert main(["fit", "--config", config, *network, *SMALL, "--data.steps", steps, "--output", "a.png"]) == 0
        (run, *_) = sorted(Path("lightning_logs").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"][0]
        losses.append(float(state["prev_loss"]))
    assert losses[1] < 0.5 * losses[0]
