"""Progress in Python: a bar over all levels, and a picture that grows in a notebook's cell."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from PIL import Image

import nst
from nst.run import live

LEVELS: dict[str, Any] = {"preset": None, "size": 64, "min_size": 44, "steps": [3, 2]}
LEVELS |= {"backbone": "vgg16", "weights": "random:0"}


class Notebook:
    """What a notebook keeps of a cell's outputs: the last state of each, by its name."""

    def __init__(self) -> None:
        self.outputs: dict[str, dict[str, Any]] = {}
        self.widths: list[int] = []

    def __call__(self, data: Any, *, metadata: Any, raw: bool, display_id: str, update: bool) -> None:
        assert raw and update == (display_id in self.outputs)
        self.outputs[display_id] = {"data": data, "metadata": metadata}
        if "image/png" in data:
            self.widths.append(Image.open(io.BytesIO(data["image/png"])).width)


def test_nothing_is_shown_unless_it_is_asked_for(pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    nst.stylize(*pair, **LEVELS)
    assert capfd.readouterr() == ("", "")


def test_a_bar_has_the_steps_of_all_levels(pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    plain = nst.stylize(*pair, **LEVELS)
    shown = nst.stylize(*pair, progress=True, **LEVELS)
    np.testing.assert_array_equal(np.asarray(plain), np.asarray(shown))
    told = capfd.readouterr()
    assert told.out == ""
    assert "level 2/2, 64×53: 100%" in told.err and "5/5" in told.err


def test_a_bar_is_closed_where_a_run_ends_early_or_fails(
    pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    nst.stylize(*pair, progress=True, trainer={"max_steps": 1}, **LEVELS)
    assert "1/1" in capfd.readouterr().err

    class Fails(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise nst.RunError("it is over")

    with pytest.raises(nst.RunError, match="it is over"):
        nst.stylize(*pair, progress=True, trainer={"callbacks": Fails()}, **LEVELS)
    nst.stylize(*pair, progress=True, budget="1s", **LEVELS)
    assert "step" in capfd.readouterr().err


def test_in_a_notebook_the_picture_grows_in_one_output(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    content = Image.open(pair[0]).convert("RGBA")
    content.putalpha(Image.linear_gradient("L").resize(content.size))
    notebook = Notebook()
    monkeypatch.setattr(live, "display", lambda: notebook)
    monkeypatch.setattr(live, "PAUSE", 0.0)
    made = nst.stylize(content, pair[1], progress=True, **LEVELS)
    picture, line = notebook.outputs.values()
    assert notebook.widths == [45, 45, 45, 64, 64]
    assert picture["metadata"] == {"image/png": {"width": 64}}
    last = Image.open(io.BytesIO(picture["data"]["image/png"]))
    np.testing.assert_array_equal(np.asarray(last), np.asarray(made))  # with its transparency
    assert line["data"] == {"text/plain": "level 2/2, 64×53: step 2 of 2"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("trait", "found"), [("kernel", True), ("simple_prompt", False)])
def test_a_notebook_is_told_from_a_terminal(trait: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(has_trait=lambda name: name == trait)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=print))
    assert (live.display() is print) is found
    monkeypatch.delitem(sys.modules, "IPython")
    assert live.display() is None
