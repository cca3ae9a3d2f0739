"""Presets: configs by name, which come with the package, so that `--config starry` works from any folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nst.cli.explain import Parser
from nst.errors import InputError, nearest
from nst.run.stopping import Stop

FOLDERS = (Path(__file__).parents[1] / "presets", Path(__file__).parents[2] / "configs")
"""The folder of the presets in an installed package, and in a clone."""


def paths() -> dict[str, Path]:
    """Returns the presets' files by name."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(config: str) -> str:
    """Returns the file of a preset; a config that is a file's name or a text of settings is returned unchanged.

    Raises:
        InputError: If the config is a single word, and neither a file nor a preset.
    """
    found = paths()
    if Path(config).suffix or not config.replace("-", "").replace("_", "").isalnum() or Path(config).exists():
        return config
    if config not in found:
        raise InputError(
            f"Expected --config to be a file or one of the presets {', '.join(found)}, but got {config}"
            f"{nearest(config, found)}"
        )
    return str(found[config])


def line(path: Path) -> str:
    """Returns the first sentence of a preset's header."""
    words = []
    for text in path.read_text(encoding="utf-8").splitlines():
        words.append(text.removeprefix("#").strip())
        if not words[-1] or words[-1].endswith("."):
            break
    return re.split(r"(?<!\.)\. ", " ".join(words))[0].strip().rstrip(".")


def show_presets(args: Sequence[str], stop: Stop) -> int:
    """Lists the configs that come with nst, one line for each, or prints one of the configs."""
    parser = Parser("nst presets", description=show_presets.__doc__)
    parser.add_argument("name", nargs="?", help="The preset to print, to begin a config of your own with.")
    name, found = parser.parse_args(list(args)).name, paths()
    if name is None:
        width = max(map(len, found))
        for preset, path in found.items():
            print(f"{preset:{width}}  {line(path)}")
    elif name in found:
        print(found[name].read_text(encoding="utf-8"), end="")
    else:
        raise InputError(f"Expected a preset, one of {', '.join(found)}, but got {name}{nearest(name, found)}")
    return 0
