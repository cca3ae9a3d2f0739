"""What a page may ask for, and what becomes of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, PngImagePlugin

from nst.cli.settings import JobCLI
from nst.cli.studio.command import Words
from nst.run.replay import LEFT
from nst.scene import samples
from nst.studio import masks
from nst.studio.asked import Brushed, Limits, Wish, flow
from nst.studio.folder import Folder
from nst.studio.orders import FILES, Orders
from tests.helpers import draw

WORDS = Words()


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    return Orders(WORDS, Folder(tmp_path / "files", 3600, 10**9), Limits(size=400, pixels=10**6))


def resolved(args: Any) -> dict[str, Any]:
    settings = JobCLI([*args], "nst fit", "").settings()
    settings["data"].pop("max_pixels")
    return settings


def test_a_wish_is_what_its_command_line_is(orders: Orders) -> None:
    settings = {"data.size": 200, "model.style_weight": 2.5, "data.steps": [3, 2], "seed_everything": 7}
    run = orders.run(Wish("quick", {**WORDS.values("quick"), **settings}, pinned=True))
    made = resolved(run.order.args)
    assert (made["data"]["size"], made["model"]["style_weight"], made["data"]["steps"]) == (200, 2.5, [3, 2])
    assert made["seed_everything"] == 7 and run.pinned
    _, _, *flags = shlex.split(orders.command(run))
    assert resolved(flags)["model"] == made["model"]
    # only what differs from the preset is said
    assert {x for x in flags if x.startswith("--")} == {
        *("--config", "--data.size", "--data.steps", "--data.content", "--data.style", "--model.style_weight"),
        *("--seed_everything", "--output"),
    }
    assert run.steered == {"style_weight": 2.5, "content_weight": 0.02, "strength": 1.0, "color": "style", "size": 200}


REFUSED = [
    ({"data.content": "/etc/passwd"}, "name no file of this machine, but got data.content"),
    ({"data.style": ["/etc/passwd"]}, "name no file of this machine, but got data.style"),
    ({"data.regions": {"a": "/etc/passwd"}}, "name no file of this machine, but got data.regions"),
    ({"data.content": "sample:../../etc/passwd"}, "name no file of this machine, but got data.content"),
    ({"data.style": ["sample:ink", "sample:/etc/passwd"]}, "name no file of this machine, but got data.style"),
    ({"data.style": [{"image": "sample:ink", "mask": "/etc/passwd"}]}, "name no file of this machine"),
    ({"model.weights": "/etc/passwd"}, "name no file of this machine, but got model.weights"),
    ({"model.init": "/etc/passwd"}, "name no file of this machine, but got model.init"),
    ({"model.terms": [{"class_path": "os.system"}]}, "that a page may choose, but got model.terms"),
    ({"model.optimizer": {"class_path": "os.system"}}, "one of torch's own as model.optimizer"),
    ({"trainer.callbacks": [{"class_path": "os.system"}]}, "that a page may choose, but got trainer.callbacks"),
    ({"data.max_pixels": 10**12}, "that a page may choose, but got data.max_pixels"),
    ({"output": "/tmp/x.png"}, "that a page may choose, but got output"),
    ({"data.size": 401}, "to be at most 400 pixels, which --studio.max_size allows, but got 401"),
    ({"data.steps": "many"}, "Expected --data.steps to be"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED)
def test_what_a_page_may_not_ask_for(orders: Orders, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        orders.run(Wish("debug", settings))
    assert [*orders.folder.runs.iterdir()] == []  # nothing is left of it


def test_a_page_may_ask_for_samples(orders: Orders) -> None:
    run = orders.run(Wish("debug", {"data.content": "sample:chelsea", "data.style": ["sample:ink", "sample"]}))
    data = resolved(run.order.args)["data"]
    assert (data["content"], data["style"]) == ("sample:chelsea", ["sample:ink", "sample"])
    assert "sample:chelsea" in orders.command(run)
    photo = draw(orders.folder.uploads / "p.png")
    data = resolved(orders.run(Wish("debug", {"data.content": "sample:chelsea"}, photo)).order.args)["data"]
    assert data["content"].endswith("content.png")  # what was sent comes first


def test_an_unknown_preset_is_refused(orders: Orders) -> None:
    with pytest.raises(ValueError, match="Expected --config to be one of"):
        orders.run(Wish("/etc/passwd", {}))


def test_pictures_are_copied_and_regions_are_settings(orders: Orders) -> None:
    photo, painting = draw(orders.folder.uploads / "p.png"), draw(orders.folder.uploads / "q.jpg", seed=2)
    colors = np.zeros((40, 48, 3), np.uint8)
    colors[:, :20] = (255, 0, 0)
    run = orders.run(Wish("debug", {}, photo, [painting, painting], colors, [Brushed("red", 1), Brushed("blue", 0)]))
    folder = run.order.folder
    assert {x.name for x in folder.iterdir()} == {"content.png", "style-1.jpg", "style-2.jpg", "map.png", "title.txt"}
    data = resolved(run.order.args)["data"]
    assert data["content"] == str(folder / "content.png")
    assert data["regions"]["red"] == {
        **{"mask": str(folder / "map.png"), "color": "red", "content_weight": 1.0, "subject": None},
        **{"keep": False, "erode": False},
    }
    assert [(x["image"], x["region"]) for x in data["style"]] == [
        (str(folder / "style-1.jpg"), None),
        (str(folder / "style-2.jpg"), "red"),
    ]
    assert masks.names(colors) == ["red"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": 3}, "Expected a change of style_weight, content_weight, strength, color, size or end, but got step"),
        ({"style_weight": "many"}, "--changes.style_weight to be a value of its kind"),
        ({"style_weight": True}, "--changes.style_weight to be a value of its kind"),
        ({"size": 64.5}, "--changes.size to be a value of its kind"),
        ({"color": {"class_path": "os.system"}}, "--changes.color to be a value of its kind"),
        ({"color": "os.system"}, "--changes.color to be one of"),
        ({"end": "never"}, "--changes.end to be one of"),
        ({"strength": 2}, "--changes.strength to be above 0 and at most 1"),
        ({"size": 401}, "to be at most 400 pixels"),
    ],
)
def test_what_may_not_change_on_the_way(orders: Orders, change: dict[str, Any], words: str) -> None:
    run = orders.run(Wish("debug", {}))
    told: list[Any] = []
    run.tell = lambda **word: told.append(word)  # type: ignore[method-assign]  # in the worker's place
    with pytest.raises(ValueError, match=words):
        orders.change(run, change)
    assert told == []
    orders.change(run, {"style_weight": 2, "size": 400})
    assert told == [{"kind": "change", "change": {"style_weight": 2, "size": 400}}]


def test_settings_of_a_picture_are_taken_without_its_files(orders: Orders, tmp_path: Path) -> None:
    config = {
        "model": {
            "style_weight": 3.0,
            "weights": "/etc/passwd",
            "init": "/etc/shadow",
            "terms": [{"class_path": "x.Y"}],
        },
        "data": {"content": "/etc/passwd", "style": ["/a", {"image": "/b"}], "regions": {"a": "/c"}, "size": 99},
        "budget": None,
    }
    text = PngImagePlugin.PngInfo()
    text.add_text("nst", yaml.safe_dump({"config": config}))
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png", pnginfo=text)
    found, left = orders.of_picture(tmp_path / "a.png", "debug")
    assert found["model.style_weight"] == 3.0 and found["data.size"] == 99
    assert not any("/" in str(x) for x in found.values())
    assert {"data.content", "data.style", "data.regions", "model.weights", "model.init", "model.terms"} <= {*left}


def test_samples_of_a_picture_are_taken(orders: Orders, tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("nst", yaml.safe_dump({"config": {"data": {"content": "sample", "style": ["sample:ink", "sample"]}}}))
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png", pnginfo=text)
    found, left = orders.of_picture(tmp_path / "a.png", "debug")
    assert left == []
    assert samples.names(found["data.content"], "data.content") == ["sample:rocket"]
    assert samples.names(found["data.style"], "data.style") == ["sample:ink", "sample:night"]


def test_every_setting_of_the_signatures_has_a_field_with_the_words_of_help() -> None:
    keys = {setting.key for setting in WORDS.settings}
    from nst.cli.settings import KNOWN

    every = {f"{group}.{name}" for group in ("model", "data") for name in KNOWN[group] - LEFT[group]}
    assert keys == every - {*FILES} | {"seed_everything", "budget"}
    assert all(setting.help for setting in WORDS.settings)
    kinds = {setting.key: setting.kind for setting in WORDS.settings}
    assert kinds["model.pooling"] == "choice" and kinds["data.size"] == "int" and kinds["model.tv_weight"] == "float"
    assert next(x for x in WORDS.settings if x.key == "model.pooling").choices == ("max", "avg", "l2")


@pytest.mark.parametrize("value", [1e-08, [1, 0.5], {"a": {"b": None}}, "60s", True, None, -3, "two words"])
def test_values_in_one_line_are_read_as_they_were(value: Any) -> None:
    assert yaml.safe_load(flow(value)) == value and "\n" not in flow(value)
