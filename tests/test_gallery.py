"""The gallery: what its page says of each picture, the sliders' photographs, and the README's row."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from nst.machine import system, threads
from tests.helpers import draw, fit

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import gallery
import sheets


def test_a_picture_has_its_command_its_time_its_machine_and_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "processor", lambda: "Abacus 9")
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(gallery, "version", lambda name: "1.2.3")
    for name in ("chelsea-ink", "coffee-ink", "coffee-glass"):
        draw(tmp_path / f"{name}.jpg")
    gallery.note(tmp_path, "coffee-ink", 61.26)
    gallery.note(tmp_path, "chelsea-ink", 93.4)
    assert gallery.times(tmp_path) == {
        "chelsea-ink": {"seconds": 93.4, "machine": "Abacus 9, 2 cores", "version": "1.2.3"},
        "coffee-ink": {"seconds": 61.3, "machine": "Abacus 9, 2 cores", "version": "1.2.3"},
    }
    text = gallery.page(tmp_path, 768)
    assert "nst fit --config portrait --data.content sample:chelsea --data.style sample:ink --data.size 768" in text
    assert "nst fit --config starry --data.content sample:coffee --data.style sample:glass --data.size 768" in text
    assert (
        text.index("gallery/chelsea-ink.jpg")
        < text.index("93 s on Abacus 9, 2 cores, nst 1.2.3.")
        < text.index("gallery/coffee-ink.jpg")
    )
    assert "61 s on Abacus 9, 2 cores, nst 1.2.3." in text


def test_a_picture_without_a_time_has_its_command_alone(tmp_path: Path) -> None:
    draw(tmp_path / "coffee-ink.jpg")
    text = gallery.page(tmp_path, 768)
    assert "sample:coffee" in text and " s on " not in text


def test_the_sliders_photograph_has_the_size_of_the_picture(pair: tuple[Path, Path]) -> None:
    assert fit("--data.size", "50", "--output", "a.png", "--data.content", "sample:chelsea", steps=1) == 0
    assert gallery.photograph_at("chelsea", 50).size == Image.open("a.png").size


def test_the_row_has_photograph_painting_and_picture_at_one_height(tmp_path: Path) -> None:
    made = tmp_path / "chelsea-ink.png"
    photograph = gallery.photograph_at("chelsea", 300)
    Image.new("RGB", photograph.size, "red").save(made)
    row = gallery.row("chelsea", "ink", made)
    assert gallery.ROW - 3 <= row.width <= gallery.ROW + 3
    width = round(photograph.width * row.height / photograph.height)
    assert row.getpixel((row.width - width // 2, row.height // 2)) == (255, 0, 0)
    gap = row.width - width - sheets.GAP
    assert row.getpixel((gap + sheets.GAP // 2, 5)) == (255, 255, 255)
    assert row.getpixel((gap - 1, 5)) != (255, 255, 255)
