"""Pictures and settings that tests share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nst.cli.main import main
from nst.losses.functional import Moments
from nst.losses.losses import ContentTarget, Objective, StyleTarget


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=250, help="damaged files of each kind that test_fuzz.py tries")
    parser.addoption("--kills", type=int, default=100, help="runs that test_survival.py kills at a random moment")


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # on two cores


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder of its own and never reaches for the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def draw(path: Path, size: tuple[int, int] = (48, 40), seed: int = 0) -> Path:
    """Draws a picture of coloured blobs, different for each seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A photograph and a painting."""
    return draw(tmp_path / "photo.png", seed=1), draw(tmp_path / "painting.png", (44, 52), seed=2)


@pytest.fixture
def data() -> Path:
    """The folder with real pictures and weights."""
    folder = os.environ.get("NST_DATA")
    if not folder:
        pytest.skip("NST_DATA, the folder with real pictures and weights, is not set")
    return Path(folder)


def statistics(objective: Objective, features: Mapping[str, Tensor], picture: Tensor) -> dict[str, Any]:
    """What an objective needs to know of activations by layer, through torch's own gradients."""
    found: dict[str, Any] = {}
    for layer, activations in features.items():
        found |= {name: loss.statistics(activations) for name, loss in objective.looking_at(layer).items()}
    return {**found, "tv": objective.smoothness.statistics(picture)}


def aim(objective: Objective, content: Mapping[str, Tensor], style: Mapping[str, Moments]) -> None:
    """Sets targets that are for the whole picture."""
    styles = {layer: [StyleTarget(moments)] for layer, moments in style.items()}
    objective.aim({layer: ContentTarget(features) for layer, features in content.items()}, styles)


TINY = ["--model.backbone", "vgg16", "--model.weights", "random:0", "--trainer.enable_progress_bar", "false"]
TINY += ["--data.size", "48", "--trainer.accelerator", "cpu"]


def fit(*options: str, content: Path = Path("photo.png"), style: Path = Path("painting.png"), steps: int = 3) -> int:
    """Runs `nst fit` on small pictures with a random network."""
    pictures = ["--data.content", str(content), "--data.style", str(style), "--data.steps", str(steps)]
    return main(["fit", *TINY, *pictures, *options])  # what a test gives comes last, and wins
