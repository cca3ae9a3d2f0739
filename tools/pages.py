"""Pages of the documentation that are made from what is there already: parsers, docstrings, presets and Markdown files.

mkdocs calls the two functions at the end. A page is written nowhere but into the site, so that none can grow old; what
the files of the repository link to becomes the site's page of it, or its name.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from functools import cache
from inspect import Parameter, getdoc, isclass, signature
from pathlib import Path
from typing import Any

import yaml
from docstring_parser import Docstring, parse
from mkdocs.structure.files import File

import nst
from nst.api import LINKED
from nst.cli import presets
from nst.cli.main import COMMANDS, HELP, main
from nst.losses.distance import DISTANCES
from nst.machine.quiet import quiet_libraries

ROOT = Path(__file__).parents[1]

FILES = {
    "README.md": "index.md",
    "benchmarks/README.md": "benchmarks.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "nst/assets/README.md": "samples.md",
}
"""Pages that are a file of the repository as it is."""

PAGES = FILES | {f"configs/{name}.yaml": "reference/presets.md" for name in presets.paths()}
"""The site's pages of files, for links to these."""


def commands() -> str:
    """Returns the page of all commands, with the words of their `--help`."""
    parts = ["# Commands\n\nThe words of `--help`, of each command.\n", _fenced(HELP)]
    for command in COMMANDS:
        parts.append(f"## nst {command}\n\n{_fenced(_help(command))}")
    return "\n".join(parts)


def settings() -> str:
    """Returns the page of all settings of a picture, from the docstrings of the classes that take them."""
    parts = [
        "# Settings\n\nEach is a flag of `nst fit`, `nst batch`, `nst sweep` and `nst video`, a key of a config, and "
        "by its last part an argument of `nst.stylize`. The defaults are those of the plain method, `--config '{}'`; "
        "without a config a run is [starry](presets.md).\n"
    ]
    for group, kind in (("model", nst.StyleTransfer), ("data", nst.PictureData)):
        parts.append(f"## {group}\n\n{_first(kind)}\n\n{_table(kind, f'--{group}.')}")
    for group, entry in (("style", nst.Style), ("regions", nst.Region)):
        parts.append(f"## An entry of `data.{group}`\n\n{_first(entry)}\n\n{_table(entry, '')}")
    rows = "\n".join(f"| `{name}` | {_first(kind)} |" for name, kind in DISTANCES.items())
    parts.append(
        f"## Style distances\n\nFor `--model.style_distance`.\n\n| name | what is compared |\n|---|---|\n{rows}\n"
    )
    return "\n".join(parts)


def all_presets() -> str:
    """Returns the page of all presets, each as it is."""
    parts = ["# Presets\n\n`--config NAME` from any folder; `nst presets NAME` prints one to begin your own with.\n"]
    for name, path in presets.paths().items():
        text = path.read_text(encoding="utf-8")
        parts.append(f"## {name}\n\n{presets.line(path)}.\n\n```yaml\n{text}```\n")
    return "\n".join(parts)


def python() -> str:
    """Returns the page of everything that `import nst` has, from the docstrings."""
    parts = ["# Python\n"]
    for name in nst.__all__:
        if not name.startswith("_"):
            thing = getattr(nst, name)
            parts.append(f"## nst.{name}\n\n{_described(name, thing)}")
    return "\n".join(parts)


GENERATED: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/settings.md": settings,
    "reference/presets.md": all_presets,
    "reference/python.md": python,
}
"""Pages that are made of several things."""


def _fenced(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


@cache
def _help(command: str) -> str:
    """Returns the words of a command's `--help`, without this machine's own names."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "110"
    told = io.StringIO()
    try:
        with redirect_stdout(told), quiet_libraries():
            main([command, "--help"])
    except SystemExit:
        pass
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return told.getvalue().replace(str(Path.home()), "~")


def _documented(thing: Any) -> Docstring:
    return parse(getdoc(thing) or "")


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _first(thing: Any) -> str:
    return _cell(_documented(thing).short_description)


def _value(default: Any) -> str:
    """Returns a default as a config has it."""
    if default is Parameter.empty:
        return "must be given"
    if callable(default):
        return "Adam"
    if default is None:
        return ""
    shown = yaml.safe_dump(_plainly(default), default_flow_style=True, width=1000).replace("\n...", "").strip()
    return f"`{shown}`"


def _plainly(value: Any) -> Any:
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def _table(kind: Any, prefix: str) -> str:
    """Returns the arguments of a class as a table."""
    helps = {x.arg_name: x.description for x in _documented(kind).params}
    rows = [
        f"| `{prefix}{name}` | {_value(parameter.default)} | {_cell(helps.get(name))} |"
        for name, parameter in signature(kind).parameters.items()
        if prefix != "--data." or name not in LINKED
    ]
    return "\n".join(["| | default | |", "|---|---|---|", *rows, ""])


def _described(name: str, thing: Any) -> str:
    """Returns a function or a class: its call, its words, its arguments, and what it returns and raises."""
    text = _documented(thing)
    parts = [f"{text.short_description}\n"]
    if text.long_description:
        parts.append(f"{text.long_description}\n")
    if not (isclass(thing) and issubclass(thing, Exception)):
        arguments = ", ".join(_written(x) for x in signature(thing).parameters.values())
        parts.append(f"```python\nnst.{name}({arguments})\n```\n")
    if text.params:
        parts.append("\n".join(f"- `{x.arg_name}`: {_cell(x.description)}" for x in text.params) + "\n")
    if text.returns:
        parts.append(f"Returns: {_cell(text.returns.description)}\n")
    parts += [f"Raises `{x.type_name}`: {_cell(x.description)}\n" for x in text.raises]
    return "\n".join(parts)


def _written(parameter: Parameter) -> str:
    """Returns an argument as it stands in a call, without its type."""
    stars = "**" if parameter.kind == Parameter.VAR_KEYWORD else ""
    plain = parameter.default is Parameter.empty or callable(parameter.default)
    return f"{stars}{parameter.name}" + ("" if plain else f"={_plainly(parameter.default)!r}")


def linked(text: str, origin: str, page: str) -> str:
    """Returns Markdown whose links go to the site's pages, and to nothing where the site has no such page.

    Args:
        text: The Markdown.
        origin: Its file in the repository, such as `docs/studio.md`.
        page: Its page in the site, such as `studio.md`.
    """

    def repaired(match: re.Match[str]) -> str:
        mark, words, target, anchor = match[1], match[2], match[3], match[4] or ""
        if re.match(r"[a-z]+:|#", target) or not target:
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        found = PAGES.get(file, file.removeprefix("docs/") if file.startswith("docs/") else None)
        if found is None:
            return words
        anchor = "" if file == "README.md" or file.startswith("configs/") else anchor
        return f"{mark}[{words}]({posixpath.relpath(found, posixpath.dirname(page) or '.')}{anchor})"

    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.DOTALL)  # code has brackets of its own
    return "".join(part if i % 2 else re.sub(LINK, repaired, part) for i, part in enumerate(parts))


LINK = r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]*)(#[^)\s]*)?\)"


def made() -> Iterator[tuple[str, str]]:
    """Yields the pages that are not in docs/: their names in the site, and their Markdown."""
    for file, page in FILES.items():
        yield page, linked((ROOT / file).read_text(encoding="utf-8"), file, page)
    for page, write in GENERATED.items():
        yield page, linked(write(), f"docs/{page}", page)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made; mkdocs calls it."""
    for page, text in made():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Sets the links of a page of docs/ right; mkdocs calls it."""
    name = page.file.src_uri
    return markdown if page.file.generated_by else linked(markdown, f"docs/{name}", name)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Keeps the name of a flag in one line, where browsers would break it behind its hyphens; mkdocs calls it."""

    def kept(match: re.Match[str]) -> str:
        return re.sub(r"--[\w.]+\w", r'<span class="flag">\g<0></span>', match[0])

    return re.sub(r"<code>[^<]*</code>", kept, html)
