"""Pictures, settings and a browser that tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import draw

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=250, help="damaged files of each kind that test_fuzz.py tries")
    parser.addoption("--kills", type=int, default=60, help="runs that test_survival.py kills at a random moment")


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # on two cores


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder of its own and never reaches for the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


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


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="these tests drive a browser with playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM}, Debian's Chromium, is not installed")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where screenshots are kept: the folder that NST_ARTEFACTS names, or `artefacts` in the clone."""
    folder = Path(os.environ.get("NST_ARTEFACTS") or ROOT / "artefacts")
    folder.mkdir(exist_ok=True)
    return folder
