"""The page in a real browser: what it makes, shows, steers and refuses."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, PngImagePlugin

from nst.pictures import images
from nst.run import record
from tests.helpers import chunk, draw
from tests.studio.conftest import Page, Studio, fit

pytestmark = pytest.mark.slow


def go(page: Page, steps: int = 10, size: int = 64, **settings: object) -> None:
    """Paints with the preset that needs no time."""
    page.preset("debug")
    page.set("data.steps", steps)
    page.set("data.size", size)
    for key, value in settings.items():
        page.set(key.replace("__", "."), value)
    page.page.click("#paint")


def replayed(picture: Path, to: Path) -> bool:
    """Whether `nst fit` makes the same file of a picture's record."""
    fit("--config", str(picture), "--output", str(to))
    return to.read_bytes() == picture.read_bytes()


def test_first_click_paints_the_samples_and_the_picture_can_be_made_again(page: Page, tmp_path: Path) -> None:
    go(page, steps=400, size=96)
    looks: set[str] = set()
    titles: set[str] = set()

    def done() -> bool:
        if picture := page.page.query_selector("#nst-picture"):
            looks.add(picture.get_attribute("src")[:2000])
            titles.add(page.page.title())
        return "Done" in page.status()

    page.until(done, "no picture")
    assert len(looks) >= 6  # five on the way, and the result
    assert any("%" in title for title in titles)
    assert page.page.locator(".nst-curve polyline").count() == 3
    got = page.download("png", tmp_path / "got.png")
    found = record.read(got)
    assert found["steps"] == 400 and found["complete"] and "changes" not in found["config"]
    assert Image.open(got).size == (96, 64)
    assert replayed(got, tmp_path / "again.png")
    for suffix in ("jpg", "webp", "tif"):
        assert record.read(page.download(suffix, tmp_path / f"got.{suffix}"))["config"] == found["config"]
    deep = images.load(tmp_path / "got.tif").rgb
    assert float((deep - images.load(got).rgb).abs().max()) < 1 / 255
    assert page.outside == []


def test_enter_paints(page: Page) -> None:
    page.preset("debug")
    page.set("data.steps", 2)
    page.page.locator("#seed_everything input").press("Enter")
    page.wait("Done")


def test_regions_of_a_mask_painted_with_the_mouse_take_their_paintings(page: Page, tmp_path: Path) -> None:
    Image.fromarray(np.full((180, 240, 3), 128, np.uint8)).save(tmp_path / "photo.png")
    red, blue = tmp_path / "red.png", tmp_path / "blue.png"
    Image.fromarray(np.full((64, 64, 3), (220, 20, 20), np.uint8)).save(red)
    Image.fromarray(np.full((64, 64, 3), (20, 20, 220), np.uint8)).save(blue)
    page.page.set_input_files("#photograph input[type=file]", tmp_path / "photo.png")
    page.page.set_input_files("#paintings input[type=file]", [red, blue])
    page.page.wait_for_timeout(1500)
    page.tab("Regions")
    page.page.wait_for_timeout(1500)
    box = page.page.locator("#editor canvas").last.bounding_box()
    # the photograph is shown in the middle of the canvas; strokes down its left half belong to the first region
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for dx in (-150, -90):
        page.page.mouse.move(x + dx, y - 150)
        page.page.mouse.down()
        page.page.mouse.move(x + dx, y + 150, steps=8)
        page.page.mouse.up()
    page.page.wait_for_timeout(500)
    page.page.click("#place-red input")
    page.page.get_by_role("option", name="painting 2", exact=True).click()
    page.preset("debug")
    page.set("data.steps", 60)
    page.set("model.content_weight", 0.01)
    page.page.click("#paint")
    page.tab("Picture")
    page.wait("Done")
    got = page.download("png", tmp_path / "got.png")
    settings = record.read(got)["config"]["data"]
    assert settings["regions"]["red"]["color"] == "red"
    assert [x.get("region") for x in settings["style"]] == [None, "red"]
    picture = np.asarray(Image.open(got).convert("RGB")).astype(int)
    width = picture.shape[1]
    left, right = picture[:, 4 : width // 4], picture[:, -width // 4 : -4]
    assert (left[..., 2] - left[..., 0]).mean() > (right[..., 2] - right[..., 0]).mean() + 20  # blue left, red right


def test_a_steered_run_is_made_again_bit_for_bit(page: Page, tmp_path: Path) -> None:
    go(page, steps=4000, size=96)
    page.wait("step")
    page.page.locator("#steer > button").click()
    weight = page.page.locator("#steer-style input")
    page.until(lambda: weight.input_value() == "10", "not the preset's weight", 20)
    weight.fill("500")
    page.page.click("#change")
    page.wait("Changed: style weight 500", 20)
    page.page.click("#pause")
    page.wait("Paused")
    before = page.status()
    page.page.wait_for_timeout(1000)
    assert page.status() == before
    page.page.click("#pause")
    page.wait("Painting")
    page.page.wait_for_timeout(800)
    page.page.click("#stop")
    page.wait("Stopped")
    got = page.download("png", tmp_path / "got.png")
    found = record.read(got)
    assert [sorted(x) for x in found["config"]["changes"]] == [["step", "style_weight"], ["end", "step"]]
    assert f"since step {found['config']['changes'][0]['step']}" in before
    assert found["config"]["changes"][1]["step"] == found["steps"] < 4000 and not found["complete"]
    assert replayed(got, tmp_path / "again.png")
    command = page.page.input_value("#command textarea")
    assert command.startswith("nst fit --config debug") and "--changes" in command
    written = tmp_path / "settings.yaml"
    written.write_text(yaml.safe_dump(found["config"]))
    fit("--config", str(written), "--output", str(tmp_path / "yaml.png"))
    assert (images.load(tmp_path / "yaml.png").rgb == images.load(got).rgb).all()


def test_the_run_goes_on_to_a_larger_size_and_never_above_the_limit(page: Page, tmp_path: Path) -> None:
    go(page, steps=200, size=64)
    page.wait("step")
    page.page.click("#pause")
    page.wait("Paused")
    page.page.locator("#steer > button").click()
    page.page.locator("#steer-size input").fill("2000")
    page.page.click("#change")
    page.until(lambda: "at most 256 pixels" in page.message(), "no refusal", 10)
    page.page.locator("#steer-size input").fill("80")
    page.page.click("#change")
    page.wait("Changed: size 80", 20)
    page.page.click("#pause")
    page.wait("Done", 180)
    assert max(Image.open(page.download("png", tmp_path / "got.png")).size) == 80


def huge(path: Path) -> Path:
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def test_what_is_no_picture_or_too_large_is_a_message_and_the_studio_lives(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    photograph = "#photograph input[type=file]"
    (tmp_path / "text.png").write_text("no picture")
    page.page.set_input_files(photograph, tmp_path / "text.png")
    page.until(lambda: "to be a picture file" in page.message(), "no word of a text", 20)
    page.reload()
    page.page.wait_for_timeout(500)
    page.page.set_input_files(photograph, huge(tmp_path / "huge.png"))
    page.until(lambda: "40000×40000" in page.message(), "no word of its size", 20)
    page.reload()
    page.page.wait_for_timeout(500)
    with open(tmp_path / "long.png", "wb") as file:
        file.truncate(200_000_000)
    page.page.set_input_files(photograph, tmp_path / "long.png")
    page.until(lambda: "size" in page.message().lower(), "no word of its length", 60)
    assert studio.get("/health")[0] == 200


def test_a_hostile_record_gives_settings_and_nothing_else(page: Page, tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "model": {"style_weight": 3.5, "optimizer": {"class_path": "os.system", "init_args": {"command": "touch x"}}},
        "data": {"content": "/etc/passwd"},
    }

    def save(config: object) -> Path:
        text = PngImagePlugin.PngInfo()
        text.add_text("nst", yaml.safe_dump({"config": config}))
        Image.new("RGB", (32, 32)).save(tmp_path / "record.png", pnginfo=text)
        return tmp_path / "record.png"

    page.page.locator("#more > button").click()
    page.tab("Results")
    page.page.set_input_files("#dropped input[type=file]", save(config))
    page.until(lambda: "os.system" in page.message(), "no refusal", 20)
    del config["model"]["optimizer"]
    page.page.locator("#dropped button[aria-label='Clear'], #dropped button[title='Clear']").first.click()
    page.page.set_input_files("#dropped input[type=file]", save(config))
    page.until(lambda: "data.content" in page.message(), "no word of what is left out", 20)
    page.until(lambda: page.page.locator("#model-style_weight input").input_value() == "3.5", "no settings", 20)


def test_two_browsers_are_two_runs_and_a_closed_page_ends_its_run(
    open_page: Callable[..., Page], studio: Studio, tmp_path: Path
) -> None:
    one, two = open_page(), open_page()
    go(one, steps=3000, size=64)
    one.wait("step")
    go(two, steps=12, size=72)
    two.wait("Waiting")
    one.close()
    two.wait("Done", 60)
    picture = two.download("png", tmp_path / "two.png")
    assert Image.open(picture).size == (72, 48) and record.read(picture)["steps"] == 12
    ended = "".join(studio.lines)
    assert "debug, 64 px: stopped Stopped, as its page was closed." in ended


def test_the_death_of_a_worker_is_a_message_and_the_next_run_works(page: Page, studio: Studio) -> None:
    go(page, steps=5000)
    page.wait("step")
    found = subprocess.run(
        ["pgrep", "-P", str(studio.process.pid), "-f", "spawn_main"], capture_output=True, text=True, check=True
    )
    os.kill(int(found.stdout.split()[-1]), signal.SIGKILL)
    page.wait("signal 9", 20)
    assert "Failed" in page.status()
    go(page, steps=3)
    page.wait("Done")


def test_a_sweep_is_a_grid_whose_settings_can_be_taken(page: Page) -> None:
    page.preset("debug")
    page.set("data.steps", 3)  # opens More
    page.tab("Results")
    page.page.locator("#sweep > button").click()
    page.page.locator("#swept-values textarea, #swept-values input").first.fill("0.5, 7.25")
    page.page.click("#sweep-paint")
    page.until(lambda: page.page.locator("#sheet button:has(img)").count() >= 2, "no grid", 90)
    page.page.locator("#sheet button:has(img)").nth(1).click()
    page.until(lambda: page.page.locator("#model-style_weight input").input_value() == "7.25", "no settings", 20)


def test_a_chosen_result_is_the_one_that_is_shown_though_another_is_gone(page: Page, studio: Studio) -> None:
    shown = page.page.locator("#gallery button:has(img)")
    page.tab("Results")
    go(page, steps=2, size=64)
    page.until(lambda: shown.count() == 1, "no picture")
    go(page, steps=2, size=72)
    page.until(lambda: shown.count() == 2, "no second picture")
    newest = max((studio.folder / "runs").glob("*/picture.png"), key=lambda picture: picture.stat().st_mtime)
    shutil.rmtree(newest.parent)
    page.set("data.size", 80)
    shown.nth(1).click()
    page.until(lambda: page.page.locator("#data-size input[type=number]").input_value() == "64", "no settings", 20)
    shown.nth(0).click()
    page.until(lambda: "has been cleaned away" in page.message(), "no message", 20)


def test_samples_are_chosen_and_taken_back_and_painted_on(page: Page, tmp_path: Path) -> None:
    page.choose("sample-photograph", "coffee")
    page.choose("sample-paintings", "ink")
    go(page, steps=3)
    page.wait("Done")
    got = page.download("png", tmp_path / "got.png")
    data = record.read(got)["config"]["data"]
    assert (data["content"], data["style"]) == ("sample:coffee", ["sample:night", "sample:ink"])
    page.tab("Picture")
    page.choose("sample-photograph", "chelsea")
    page.tab("Results")
    page.page.set_input_files("#dropped input[type=file]", str(got))
    page.until(lambda: page.page.locator("#sample-photograph input").input_value() == "coffee", "no sample", 20)
    page.tab("Regions")
    page.until(lambda: page.page.locator("#editor canvas").count(), "no canvas", 20)
    page.page.wait_for_timeout(1500)
    shown = Image.open(io.BytesIO(page.page.locator("#editor canvas").first.screenshot())).convert("RGB")
    assert len(shown.resize((64, 64)).getcolors(64 * 64) or range(4097)) > 500  # a photograph, not an empty field


def test_pictures_are_remembered_by_the_studio_s_next_start(browser: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    first = Studio(tmp_path / "files", "--studio.port", port)
    page = Page(browser, first)
    try:
        go(page, steps=2)
        page.wait("Done")
        first.close()
        first = Studio(tmp_path / "files", "--studio.port", port)
        page.reload()
        page.tab("Results")
        page.until(lambda: page.page.locator("#gallery button:has(img)").count() == 1, "no picture", 20)
        assert "debug, 64 px" in page.page.locator("#gallery").inner_text()
        page.set("data.size", 72)
        page.page.locator("#gallery button:has(img)").click()
        page.until(lambda: page.page.locator("#data-size input[type=number]").input_value() == "64", "no settings", 20)
    finally:
        page.close()
        first.close()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_the_window_and_every_field_has_a_name(
    open_page: Callable[..., Page], width: int, dark: bool, artefacts: Path
) -> None:
    page = open_page(width=width, dark=dark)
    page.preset("debug")
    page.set("data.steps", 20)
    before = page.page.locator(".nst-canvas").bounding_box()
    page.page.click("#paint")
    page.wait("Done")
    after = page.page.locator(".nst-canvas").bounding_box()
    assert (before["width"], before["height"]) == (after["width"], after["height"])  # nothing has jumped
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = page.page.evaluate(UNNAMED)
    assert unnamed == []
    for tab in ("Results", "Take away", "Regions", "Picture"):
        page.tab(tab)
        page.page.wait_for_timeout(300)
        assert page.violations() == {}, tab
    page.page.screenshot(path=str(artefacts / f"studio-{width}-{'dark' if dark else 'light'}.png"), full_page=True)


UNNAMED = """() => [...document.querySelectorAll("button, input, textarea, select, img")].filter((x) => {
  if (!x.checkVisibility({visibilityProperty: true}) || x.closest("[aria-hidden=true]")) return false;
  if (x.type === "file") return false;
  const label = x.labels && [...x.labels].some((y) => y.innerText.trim());
  return !(label || x.getAttribute("aria-label") || x.title || x.alt || x.innerText.trim() || x.placeholder);
}).map((x) => x.outerHTML.slice(0, 200))"""


def test_a_page_that_comes_back_finds_its_run(page: Page) -> None:
    go(page, steps=1500)
    page.wait("step")
    assert page.violations() == {}  # with buttons that can be pressed
    page.reload()
    page.wait("step", 20)
    page.page.click("#stop")
    page.wait("Stopped", 20)


def test_results_follow_a_run_that_a_page_came_back_to(page: Page) -> None:
    go(page, steps=400)
    page.wait("step")
    page.reload()
    page.tab("Results")
    page.wait("Done", 180)
    page.until(lambda: page.page.locator("#gallery button:has(img)").count() == 1, "no picture", 20)


def test_keyboard_reaches_everything(page: Page) -> None:
    seen = set()
    for _ in range(60):
        page.page.keyboard.press("Tab")
        seen.add(page.page.evaluate("(document.activeElement.closest('[id]') || {}).id"))
    assert {"paint"} <= seen


def test_photographs_of_one_s_own_are_painted(page: Page, tmp_path: Path) -> None:
    draw(tmp_path / "photo.png", (60, 40), seed=1)
    draw(tmp_path / "painting.png", (50, 50), seed=2)
    page.page.set_input_files("#photograph input[type=file]", tmp_path / "photo.png")
    page.page.set_input_files("#paintings input[type=file]", tmp_path / "painting.png")
    page.page.wait_for_timeout(1500)
    go(page, steps=5)
    page.wait("Done")
    got = page.download("png", tmp_path / "got.png")
    files = record.read(got)["files"]
    assert files["data.content"]["sha256"] == record.sha256(tmp_path / "photo.png")
    assert files["data.style"]["sha256"] == record.sha256(tmp_path / "painting.png")
