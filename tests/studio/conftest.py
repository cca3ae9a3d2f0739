"""A studio that runs, and a browser in front of it."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


class Studio:
    """A studio in a process of its own.

    Attributes:
        address: Where it listens.
        folder: Its folder.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nst", "studio", "--studio.folder", str(folder), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=folder.parent,
        )
        self.lines: list[str] = []
        found: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                self.lines.append(line)
                if match := re.search(r"http://\S+", line):
                    found.put(match[0])

        threading.Thread(target=read, daemon=True).start()
        try:
            self.address = found.get(timeout=120)
        except queue.Empty:
            self.process.kill()
            raise AssertionError("".join(self.lines)) from None

    def get(self, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> tuple[int, bytes]:
        """Asks for a path; returns the status and the body."""
        request = urllib.request.Request(self.address + path, body, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'nst[studio]'")
    folder = tmp_path_factory.mktemp("studio") / "files"
    options = ["--studio.alone", "4s", "--studio.max_upload", "8MB", "--studio.max_pixels", "4000000"]
    made = Studio(folder, "--studio.queue", "4", "--studio.max_size", "256", *options)
    yield made
    made.close()


class Page:
    """The studio's page in the browser, in a profile of its own."""

    def __init__(self, browser: Any, studio: Studio, width: int = 1440, dark: bool = False) -> None:
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.outside: list[str] = []
        self.page.on("request", lambda request: self._asked(request.url, studio.address))
        self.page.goto(studio.address)
        self.page.wait_for_selector("#paint", timeout=60_000)
        self.page.wait_for_timeout(500)

    def _asked(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.outside.append(url)

    def reload(self) -> None:
        """Loads the page anew, and waits until it is there."""
        self.page.reload()
        self.page.wait_for_selector("#paint")

    def preset(self, name: str) -> None:
        """Chooses a preset, whose values then show."""
        self.page.click("#preset input")
        self.page.get_by_role("option", name=name, exact=True).click()
        self.page.wait_for_timeout(700)

    def set(self, key: str, value: object) -> None:
        """Sets a setting, under More where it is not in sight."""
        field = self.page.locator(f"#{key.replace('.', '-')}").locator("input[type=number], textarea").first
        if not field.is_visible():
            self.page.locator("#more > button").click()
        field.fill(str(value))
        field.press("Tab")

    def choose(self, field: str, name: str) -> None:
        """Chooses an entry of a list."""
        self.page.click(f"#{field} input")
        self.page.get_by_role("option", name=name, exact=True).click()
        self.page.keyboard.press("Escape")
        self.page.wait_for_timeout(300)

    def tab(self, name: str) -> None:
        """Opens a tab; on a phone some are in a menu."""
        if not (tab := self.page.get_by_role("tab", name=name, exact=True)).is_visible():
            self.page.locator(".overflow-menu > button").click()
            tab = self.page.locator(".overflow-dropdown button", has_text=name)
        tab.click()

    def status(self) -> str:
        return str(self.page.inner_text(".nst-status"))

    def wait(self, words: str, seconds: float = 90) -> str:
        """Waits until the status has some words."""
        return self.until(lambda: words in self.status(), f"no {words!r}", seconds) or self.status()

    def until(self, done: Callable[[], object], what: str, seconds: float = 90) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := done():
                return found if not isinstance(found, bool) else None
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{what} in {seconds} s; the page says {self.status()!r} and {self.message()!r}")

    def message(self) -> str:
        """The messages that pop up."""
        return " ".join(self.page.locator(".toast-body").all_inner_texts())

    def violations(self) -> dict[str, list[str]]:
        """What axe finds against WCAG's levels A and AA, such as too little contrast, by the rule."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="it looks for contrast and names")
        found = axe.Axe().run(self.page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
        return {rule["id"]: [node["html"][:300] for node in rule["nodes"]] for rule in found}

    def download(self, suffix: str, to: Path) -> Path:
        self.tab("Take away")
        with self.page.expect_download() as download:
            self.page.click(f"#nst-{suffix}")
        download.value.save_as(to)
        return to

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def open_page(browser: Any, studio: Studio) -> Iterator[Callable[..., Page]]:
    made: list[Page] = []

    def opening(**options: Any) -> Page:
        made.append(Page(browser, studio, **options))
        return made[-1]

    yield opening
    for page in made:
        page.close()


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def fit(*options: str) -> None:
    """Runs `nst fit` in a process of its own, as the studio's workers are, with as many threads."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "nst", "fit", *options, "--trainer.enable_progress_bar", "false"]
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=180)
