"""The site in a browser: it is built, served, and looked at on a phone and on a screen, in light and in dark."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["", "gallery/", "guides/first-picture/", "guides/run/", "guides/wrong/", "reference/settings/", "how/"]
PAGES += ["architecture/", "benchmarks/", "scale/"]
WIDER = """() => [...document.querySelectorAll('body *')]
    .filter(x => x.getBoundingClientRect().right > innerWidth + 1).map(x => x.outerHTML.slice(0, 80)).slice(0, 5)"""
LOADED = """() => Promise.all([...document.images].map(x => {
    x.loading = 'eager';
    return x.complete ? 0 : new Promise(done => { x.onload = x.onerror = done; });
}))"""
PICTURES = 'article img[alt*="in the manner of"]'
BROKEN = "() => [...document.images].filter(x => !x.naturalWidth).map(x => x.src)"

pytestmark = pytest.mark.slow


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site, which is built and served."""
    pytest.importorskip("material")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (1440, True), (390, False), (390, True)])
def test_its_pages_fit_and_ask_no_other_host(site: str, browser: Any, artefacts: Path, width: int, dark: bool) -> None:
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in PAGES:
        page.goto(f"{site}{name}")
        page.evaluate(LOADED)
        page.wait_for_timeout(200)
        wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, (name, page.evaluate(WIDER))
        assert page.evaluate(BROKEN) == [], name
        shown = page.evaluate("() => document.body.getAttribute('data-md-color-scheme')")
        assert shown == ("slate" if dark else "default")
        title = name.strip("/").replace("/", "-") or "home"
        page.screenshot(path=str(artefacts / f"site-{title}-{width}-{scheme}.png"), full_page=True)
    context.close()
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []


def test_the_gallerys_slider_is_moved_with_the_keyboard(site: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(f"{site}gallery/")
    page.wait_for_selector(".compare input")
    page.evaluate(LOADED)
    assert page.locator(".compare").count() == page.locator(PICTURES).count() > 0
    slider = page.locator(".compare input").first
    label = slider.get_attribute("aria-label")
    assert "in the manner of" in label
    before = page.locator(".compare img").nth(1)
    clip = "x => getComputedStyle(x).clipPath"
    hidden = before.evaluate(clip)
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "10"
    assert hidden.endswith("100% 0px 0px)") and before.evaluate(clip).endswith(" 90% 0px 0px)")
    page.keyboard.press("End")
    assert before.evaluate(clip).endswith(" 0% 0px 0px)")
    sizes = page.evaluate(
        "() => [...document.querySelector('.compare').querySelectorAll('img')].map(x => x.clientHeight)"
    )
    assert abs(sizes[0] - sizes[1]) <= 1
    page.close()


def test_without_scripts_the_gallery_has_its_pictures(site: str, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}gallery/")
    assert page.locator("input[type=range]").count() == 0
    assert page.locator(PICTURES).count() > 0
    context.close()
