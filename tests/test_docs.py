"""The documentation: its commands and settings run, its flags exist, its pages are made of what is there."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw

import nst
from nst.cli import presets
from nst.cli.main import COMMANDS, main
from nst.cli.settings import KNOWN, job_settings
from nst.losses.distance import DISTANCES
from tests.helpers import draw, narrow

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "decisions" not in path.parts)
TOLD = [*sorted((DOCS / "guides").glob("*.md"))]
TOLD += [DOCS / f"{name}.md" for name in ("gallery", "scale", "studio", "video", "reference/formats")]
"""Pages whose commands and settings are run."""

SMALL = ["--model.backbone", "compact", "--model.weights", "imagenet", "--data.size", "48", "--data.steps", "1"]
QUIET = ["--trainer.enable_progress_bar", "false"]

ELSEWHERE = ("--trainer.devices", "--cluster", "--ckpt_path")
"""Flags of commands that need more than this machine, or a run of before: they are parsed and not run."""

OTHERS = ("python3 -m pip install", "curl ", "torchrun ", "nst studio")
"""What else a page may tell to type."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words after `nst` of each command of a page, and its `> FILE`."""
    lines = [line for line in "".join(blocks(page, "sh")).splitlines() if line.strip()]
    assert [line for line in lines if not line.startswith(("nst ", *OTHERS))] == []
    found = [shlex.split(line)[1:] for line in lines if line.startswith("nst ") and not line.startswith("nst studio")]
    return found


def is_elsewhere(words: list[str]) -> bool:
    """Whether a command needs more than this machine, or a run of before."""
    return any(flag in words for flag in ELSEWHERE) or any(word.startswith("s3://") for word in words)


def settings(words: list[str]) -> list[str]:
    """The flags of a command that are flags of `nst fit`, which take a word each."""
    kept: list[str] = []
    for flag, value in pairwise(word.replace("s3://bucket/", "") for word in words):
        own = re.match(r"--(video|cluster)\b", flag) or (words[0] in ("batch", "sweep", "video") and flag == "--output")
        if flag.startswith("--") and not own:
            several = words[0] == "sweep" and "," in value and "[" not in value
            kept += [flag, value.partition(",")[0] if several else value]
    return kept


@pytest.fixture(scope="module")
def pages() -> Iterator[ModuleType]:
    pytest.importorskip("mkdocs")
    sys.path.insert(0, str(ROOT / "tools"))
    import pages

    yield pages
    sys.path.remove(str(ROOT / "tools"))


@pytest.fixture
def pictures(tmp_path: Path) -> None:
    """The files that the commands name."""
    for seed, name in enumerate(("photo.jpg", "painting.jpg", "face.jpg", "night.jpg", "glass.png"), 1):
        draw(tmp_path / name, (60, 40), seed)
    (tmp_path / "photos").mkdir()
    for seed in (5, 6):
        draw(tmp_path / "photos" / f"{seed}.jpg", (60, 40), seed)
    regions = Image.new("RGB", (60, 40), "blue")
    ImageDraw.Draw(regions).rectangle((0, 20, 60, 40), fill="yellow")
    regions.save(tmp_path / "map.png")
    Image.linear_gradient("L").resize((60, 40)).save(tmp_path / "face.png")
    (tmp_path / "mine.yaml").write_text("data: {size: 48}\n", encoding="utf-8")


def clip(path: Path) -> None:
    av = pytest.importorskip("av")
    pytest.importorskip("cv2")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(3):
            frame = np.roll(np.asarray(Image.open("photo.jpg").resize((64, 48))), i, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("page", TOLD, ids=lambda path: path.stem)
@pytest.mark.usefixtures("pictures")
def test_its_commands_are_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    helps = {}
    for words in commands(page):
        command = words[0]
        assert command in COMMANDS, words
        if command not in ("presets", "env", "export"):
            if "--config" in words and words[words.index("--config") + 1].endswith((".png", "config.yaml")):
                continue  # what an earlier command has made
            parsed = job_settings([])(settings(words)).config
            assert parsed.data.size >= 1
        if command not in helps:
            with pytest.raises(SystemExit):
                main([command, "--help"])
            helps[command] = capsys.readouterr().out
        own = [word.partition("=")[0] for word in words if word.startswith(("--video.", "--cluster", "--output"))]
        assert all(flag in helps[command] for flag in own), words


@pytest.mark.slow
@pytest.mark.parametrize("page", [x for x in TOLD if blocks(x, "sh")], ids=lambda path: path.stem)
@pytest.mark.usefixtures("pictures")
def test_its_commands_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if page.stem == "formats":  # begins with a checkpoint
        assert main(["fit", "--config", "{}", *SMALL, *QUIET]) == 0
    for words in commands(page):
        if is_elsewhere(words) and words[0] != "export":
            continue
        if words[0] == "video":
            clip(Path("clip.mp4"))
        if "vgg16.pth" in words:
            torch.save(narrow(), "vgg16.pth")
        shell, target = (words[: words.index(">")], words[-1]) if ">" in words else (words, None)
        plain = words[0] in ("presets", "env", "export")
        shell += ["--budget", "1s"] if "--budget" in words else []
        assert main(shell if plain else [*shell, *(SMALL if "vgg16.pth" not in words else SMALL[4:]), *QUIET]) == 0, (
            words
        )
        told = capsys.readouterr().out
        if target:
            Path(target).write_text(told, encoding="utf-8")


@pytest.mark.parametrize("page", [x for x in TOLD if x.stem != "studio" and blocks(x, "yaml")], ids=lambda x: x.stem)
@pytest.mark.usefixtures("pictures")
def test_its_settings_run(page: Path) -> None:
    for text in blocks(page, "yaml"):
        Path("c.yaml").write_text(text, encoding="utf-8")
        assert main(["fit", "--config", "c.yaml", *SMALL, *QUIET, "--output", "picture.png"]) == 0, text


@pytest.mark.parametrize("page", ["first-picture", "python"])
@pytest.mark.usefixtures("pictures")
def test_its_python_runs(page: str) -> None:
    torch.save(narrow(), "vgg16.pth")
    small = 'preset="quick", size=48, steps=1, backbone="compact", weights="imagenet"'
    for code in blocks(DOCS / "guides" / f"{page}.md", "python"):
        names: dict[str, Any] = {}
        exec(code.replace('preset="quick"', small).replace("size=256, steps=100", "size=48, steps=1"), names)
        assert max(names["picture"].size) == 48


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_its_flags_and_layers_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for group, name in re.findall(r"--(data|model)\.(\w+)", text):
        assert name in KNOWN[group], f"--{group}.{name}"
    for name in re.findall(r"--config ([a-z0-9]+)\b(?!\.)", text):
        assert name in {*presets.paths(), "picture", "mine", "lightning"} or name == "lightning_logs", name


def test_every_page_has_its_place() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert f" {page.relative_to(DOCS)}\n" in text, page


def test_pages_that_are_made_have_everything(pages: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    found = dict(pages.made())
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    shown = capsys.readouterr().out
    flags = re.findall(r"^\| `(--(?:data|model)\.\w+)`", found["reference/settings.md"], re.MULTILINE)
    assert len(flags) > 40
    assert [flag for flag in flags if flag not in shown] == []
    assert re.findall(r"^## nst (\w+)$", found["reference/commands.md"], re.MULTILINE) == [*COMMANDS]
    assert re.findall(r"^## (\w+)$", found["reference/presets.md"], re.MULTILINE) == [*presets.paths()]
    public = [name for name in nst.__all__ if not name.startswith("_")]
    assert re.findall(r"^## nst\.(\w+)$", found["reference/python.md"], re.MULTILINE) == public
    assert str(Path.home()) not in str(found)


def test_links_go_to_pages_or_nowhere(pages: ModuleType) -> None:
    text = "[a](../SECURITY.md#x) `[b](c.md)` [d](../nst/errors.py) ![e](studio.jpg) [f](https://g.h) [i](#j)"
    assert pages.linked(text, "docs/studio.md", "studio.md") == (
        "[a](security.md#x) `[b](c.md)` d ![e](studio.jpg) [f](https://g.h) [i](#j)"
    )
    assert pages.linked("[a](docs/studio.md#steer)", "README.md", "index.md") == "[a](studio.md#steer)"
    assert pages.linked("[a](../../README.md)", "docs/decisions/README.md", "decisions/README.md") == "[a](../index.md)"


def test_what_goes_wrong_has_its_pictures_and_its_flags(pages: ModuleType) -> None:
    import symptoms

    text = " ".join((DOCS / "guides" / "wrong.md").read_text(encoding="utf-8").split())
    assert {*re.findall(r"\(wrong/(\w+)\.jpg\)", text)} == {*symptoms.SYMPTOMS}
    for name, symptom in symptoms.SYMPTOMS.items():
        assert (DOCS / "guides" / "wrong" / f"{name}.jpg").stat().st_size < 200_000
        for flag in re.findall(r"--\S+ \S+", f"{symptom.wrong} {symptom.mended}"):
            assert flag in text, (name, flag)


def test_a_flag_stays_in_one_line(pages: ModuleType) -> None:
    html = "<p><code>--data.size 3</code> -- <code>a-b</code></p><pre><code><span>--x</span></code></pre>"
    kept = '<span class="flag">--data.size</span> 3'
    assert pages.on_page_content(html, None, None, None) == html.replace("--data.size 3", kept)


@pytest.mark.slow
def test_the_site_is_built_and_asks_no_other_host(tmp_path: Path) -> None:
    pytest.importorskip("material")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    made = [*(tmp_path / "site").rglob("*.html")]
    assert len(made) > 40
    for page in made:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(https?:[^\"' >]*)", text)
        assert loaded == [], page


def test_the_theme_takes_no_fonts_from_elsewhere() -> None:
    config: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert config["theme"]["font"] is False
    assert config["plugins"] == ["search"]
    own = [*config["extra_css"], *config["extra_javascript"]]
    assert own == ["site.css", "site.js"]  # every script and style is a file of docs/
    for name in own:
        text = (DOCS / name).read_text(encoding="utf-8")
        assert not re.search(r"url\(|https?:|//[a-z]|@import|\bimport\b|fetch\(", text), name


REPOSITORY = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "nst/assets/README.md",
]


@pytest.mark.parametrize("file", REPOSITORY)
def test_links_of_the_repositorys_pages_go_to_files(file: str) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / file).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        path = (ROOT / file).parent / target if target else ROOT / file
        assert path.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", x.lower()).replace(" ", "-") for x in titles}, f"{target}#{anchor}"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_links_of_a_page_that_leave_the_site_go_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?![a-z]+:)([^)#\s]+)", text):  # those within the site are checked by mkdocs
        path = (page.parent / target).resolve()
        assert path.exists() or path.is_relative_to(DOCS), target


def test_the_house_names_every_module() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    floors = re.split(r"[├└]─ ", text.partition("\nnst/\n")[2].partition("```")[0])
    named = {floor.partition("/")[0]: floor for floor in floors}
    for path in (ROOT / "nst").glob("*/**/*.py"):
        if not path.stem.startswith("__"):
            folder = path.relative_to(ROOT / "nst").parts[0]
            if path.parent.name != "distances":  # each in a file, found by lying there
                assert re.search(rf"\b{path.stem}\b", named[folder].partition("/")[2]), path


def test_the_guides_name_every_config_and_every_style_distance() -> None:
    for name in presets.paths():
        assert f"`{name}`" in (DOCS / "guides" / "presets.md").read_text(encoding="utf-8"), name
    for name in DISTANCES:
        assert f"`{name}`" in (DOCS / "guides" / "run.md").read_text(encoding="utf-8"), name
