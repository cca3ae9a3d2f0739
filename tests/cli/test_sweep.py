"""Grids of settings and the sheet that shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst.cli.main import main
from nst.cli.sweep import lay_out, points, split, swept
from nst.errors import InputError
from nst.pictures.decoding import read_metadata
from nst.run import record
from tests.helpers import TINY, draw, fit

SMALL = [*TINY[:6], "--data.size", "40", "--trainer.accelerator", "cpu", "--data.steps", "2"]


def sweep(*options: str) -> int:
    return main(["sweep", *SMALL, "--data.content", "photo.png", "--output", "sheet.png", *options])


def test_commas_separate_outside_brackets_and_quotes() -> None:
    assert split("1,10, 100") == ["1", "10", "100"]
    assert split("[300, 100]") == ["[300, 100]"]
    assert split("{relu1_1: 1, relu2_1: 2},{relu1_1: 1}") == ["{relu1_1: 1, relu2_1: 2}", "{relu1_1: 1}"]
    assert split("'a,b.jpg',c.jpg") == ["'a,b.jpg'", "c.jpg"]
    assert split("") == [""]


def test_flags_with_several_values_are_the_axes() -> None:
    words = ["--config", "a.yaml", "--a=1,2", "--b", "x,y", "--c", "3", "--d=[1, 2]"]
    fixed, axes = swept(words)
    assert fixed == ["--config", "a.yaml", "--c", "3", "--d", "[1, 2]"]
    assert axes == {"--a": ["1", "2"], "--b": ["x", "y"]}
    # row by row, the first flag across
    assert [tuple(point.values()) for point in points(axes)] == [("x", "1"), ("x", "2"), ("y", "1"), ("y", "2")]
    assert len(list(points({"--a": ["1", "2"], "--b": ["1", "2", "3"], "--c": ["1", "2"]}))) == 12
    with pytest.raises(InputError, match=r"a flag with several values, such as --model.style_weight 1,10,100"):
        swept(["--a", "1"])


def test_the_sheet_shows_every_picture_at_its_place(pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    draw(Path("other.png"), (40, 30), seed=3)
    before = set(Path().iterdir())
    options = ["--model.style_weight", "1,10,100", "--data.style", "painting.png,other.png"]
    assert sweep(*options) == 0
    assert set(Path().iterdir()) - before == {Path("sheet"), Path("sheet.png")}
    names = [f"style={s} style_weight={w}" for s in ("painting.png", "other.png") for w in (1, 10, 100)]
    files = [Path("sheet") / f"{name.replace(' ', '_')}.png" for name in names]
    assert set(Path("sheet").iterdir()) == set(files)
    out = capfd.readouterr().out
    assert "1/6  made     style painting.png, style_weight 1: sheet/style=painting.png_style_weight=1.png" in out
    assert out.endswith("6 pictures: 6 made, 0 skipped, 0 failed\nsheet     sheet.png\n")
    # each is found on the sheet, in reading order
    sheet = np.asarray(Image.open("sheet.png")).astype(int)
    found = []
    for file in files:
        picture = np.asarray(Image.open(file)).astype(int)
        height, width = picture.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (height, width))
        rows, columns = np.nonzero((windows == picture[..., 0]).all((2, 3)))
        found.append((int(rows[0]), int(columns[0])))
    assert found == sorted(found)
    assert len({row for row, _ in found}) == 2
    assert len({column for _, column in found}) == 3
    assert min(found)[1] > 40  # room for the labels, which are there
    assert (sheet[:, : min(found)[1]] < 128).any()
    assert (sheet[: min(found)[0]] < 128).any()
    # a cell is what `nst fit` makes
    assert fit(*SMALL, "--model.style_weight", "10", "--output", "one.png", steps=2) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("one.png")), np.asarray(Image.open(files[1])))
    # once more: nothing is made again, and the sheet says how it was made
    first = Path("sheet.png").read_bytes()
    assert sweep(*options) == 0
    assert "6 pictures: 0 made, 6 skipped, 0 failed" in capfd.readouterr().out
    assert Path("sheet.png").read_bytes() == first
    assert "nst sweep --config '{}' --model.backbone compact" in str(read_metadata("sheet.png"))
    with pytest.raises(InputError, match="holds none"):
        record.read("sheet.png")


def test_a_failed_cell_is_grey_and_the_rest_is_there(
    pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep("--data.style", "painting.png,none.png") == 1
    assert "2/2  failed   style none.png: Expected --data.style to be a picture file" in capfd.readouterr().out
    colors = Image.open("sheet.png").getcolors(1 << 24)
    assert colors is not None
    grey = {color: count for count, color in colors}[(211, 211, 211)]
    assert 0.7 * 40 * 33 < grey <= 40 * 33  # but for the word on it


def test_layers_are_swept_and_long_names_cut(pair: tuple[Path, Path]) -> None:
    few, many = "{relu1_1: 1}", f"{{{', '.join(f'relu{i}_1: 1' for i in range(1, 6))}, {'relu1_2: 0, ' * 9}conv1_1: 0}}"
    assert sweep("--data.style", "painting.png", "--model.style_layers", f"{few},{many}") == 0
    names = [path.name for path in Path("sheet").iterdir()]
    assert len(names) == 2
    assert "style_layers=_relu1_1_1_.png" in names
    assert max(len(name) for name in names) < 160


def test_labels_grow_with_pictures() -> None:
    draw(Path("a.png"), (480, 320))
    from nst.many.jobs import Job

    sheet = lay_out([Job("a", [], Path("a.png"))] * 2, [], {"--x": ["1", "2"]})
    assert sheet.width > 2 * 480
    assert 320 + 20 < sheet.height < 320 + 60
