"""What a page asks for, checked and turned into a run: its settings are data from a stranger, as a picture's record is.

Settings are taken as `run.replay` takes them from a record, from a closed list and within bounds, and none of them may
name a file of this machine: pictures are what the browser has sent.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import yaml

from nst.errors import InputError, check_choice, one_line
from nst.run import record
from nst.run.steering.changes import Change, check
from nst.scene import samples
from nst.scene.levels import OVERHEAD, Start
from nst.studio import masks
from nst.studio.asked import Language, Limits, Order, Wish, flow
from nst.studio.folder import TITLE, Folder
from nst.studio.run import STEERED, Run

FILES = ("data.content", "data.style", "data.regions")
"""Settings whose files are those that a browser has sent."""


class Orders:
    """Turns wishes into runs.

    Args:
        language: The command line's settings.
        folder: The studio's folder.
        limits: What a run may take.
    """

    def __init__(self, language: Language, folder: Folder, limits: Limits) -> None:
        self.language, self.folder, self.limits = language, folder, limits

    def run(self, wish: Wish, title: str = "") -> Run:
        """Returns the run of a wish, whose files lie in a folder of its own.

        Args:
            wish: What is asked for.
            title: What it is, for people; by default preset and size.

        Raises:
            InputError: If it cannot be made, or is larger than allowed.
        """
        check_choice("config", wish.preset, [*self.language.presets])
        usual = self.language.values(wish.preset)
        changed = {key: x for key, x in wish.settings.items() if key not in usual or x != usual[key]}
        config = self.checked(changed)
        folder = self.folder.new_run()
        try:
            data = config.setdefault("data", {})
            data.update(self._files(wish, folder, data))
            args = ["--config", wish.preset, "--config", yaml.safe_dump(config)]
            args.append(f"--data.max_pixels={self.limits.pixels}")
            settings = self.language.parse(args).config
            data = settings.data
            self._check_size(int(data.size))
            title = title or f"{wish.preset}, {data.size} px"
            (folder / TITLE).write_text(title, encoding="utf-8")
            return Run(
                folder.name,
                Order(tuple(args), folder),
                title,
                ("--config", wish.preset, *flags(config)),
                cost(data),
                {name: x for name, x in [*vars(settings.model).items(), *vars(data).items()] if name in STEERED},
                wish.pinned,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def with_setting(self, wish: Wish, key: str, value: str) -> Wish:
        """Returns a wish with another value of one setting, which is written as on the command line."""
        return replace(wish, settings={**wish.settings, key: record.plain(value)})

    def command(self, run: Run) -> str:
        """Returns the command line that makes the same picture, with the changes that were made on the way."""
        changes = ["--changes", flow(run.changes)] if run.changes else []
        return shlex.join(["nst", "fit", *run.flags, *changes, "--output", "picture.png"])

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns settings of a page as a config, if all of them may come from a page."""
        nested: dict[str, Any] = {}
        for key, value in settings.items():
            group, _, name = str(key).partition(".")
            if name:
                nested.setdefault(group, {})[name] = value
            else:
                nested[group] = value
        taken, left = self.language.taken(record.plain(yaml.safe_dump(nested)), "this page")
        if left:
            raise InputError(f"Expected settings that a page may choose, but got {', '.join(left)}; leave them out")
        if named := self.paths(taken):
            raise InputError(
                f"Expected settings that name no file of this machine, but got {', '.join(named)}; send pictures, and "
                "leave the rest to the command line"
            )
        return taken

    @staticmethod
    def paths(config: Mapping[str, Any]) -> list[str]:
        """Returns the keys of settings that name files."""
        model, data = config.get("model", {}), config.get("data", {})
        named = [key for key in FILES if not _is_ours(data.get(key.partition(".")[2]))]
        if model.get("init", "content") not in get_args(Start):
            named.append("model.init")
        weights = model.get("weights", "imagenet")
        if weights != "imagenet" and not str(weights).startswith("random:"):
            named.append("model.weights")
        return named

    def change(self, run: Run, settings: Mapping[str, Any]) -> None:
        """Changes settings of a run that goes on.

        Raises:
            InputError: If a setting cannot change on the way, has no such value, or is larger than allowed.
        """
        for name, value in settings.items():
            if name not in (*STEERED, "end"):
                raise InputError(f"Expected a change of {', '.join(STEERED)} or end, but got {one_line(name)}")
            kinds = {"size": (int,), "color": (str,), "end": (str,)}.get(name, (int, float))
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise InputError(f"Expected --changes.{name} to be a value of its kind, but got {one_line(value, 80)}")
        check(Change(1, **settings))
        if "size" in settings:
            self._check_size(settings["size"])
        run.change(**settings)

    def of_picture(self, path: Path, preset: str) -> tuple[dict[str, Any], list[str]]:
        """Returns the settings in a picture's record by key, without files, and the keys of what is left out.

        Raises:
            InputError: If the picture has no record, or not as nst writes them.
        """
        known = {*FILES[:2], *(setting.key for setting in self.language.settings)}
        config, left = self.language.taken(record.read(path)["config"], path.name)
        named = self.paths(config)
        found = self.language.values(preset)
        found |= {f"{group}.{key}": x for group in ("model", "data") for key, x in config.get(group, {}).items()}
        found |= {key: config[key] for key in ("seed_everything", "budget") if key in config}
        return {key: x for key, x in found.items() if key in known and key not in named}, [*named, *left]

    def _files(self, wish: Wish, folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Copies what was sent into a run's folder; returns the settings that name it, or the samples asked for."""
        pixels, content, usual = self.limits.pixels, asked.get("content") or "sample", asked.get("style") or "sample"
        if wish.content is not None:
            content = str(
                self.folder.keep(self.folder.uploaded(wish.content, "data.content", pixels), folder, "content")
            )
        sent = [self.folder.uploaded(x, "data.style", pixels) for x in wish.styles]
        paintings = [str(self.folder.keep(x, folder, f"style-{i}")) for i, x in enumerate(sent, 1)]
        paintings = paintings or (usual if isinstance(usual, list) else [usual])
        found: dict[str, Any] = {"content": content, "style": paintings[0] if len(paintings) == 1 else paintings}
        if wish.colors is not None:
            there = masks.names(wish.colors)
            brushed = [region for region in wish.brushed if region.name in there]
            masks.save(wish.colors, folder / "map.png")
            found["regions"] = masks.regions(there, brushed, folder / "map.png")
            found["style"] = masks.styles(paintings, brushed)
        return found

    def _check_size(self, size: int) -> None:
        if size > self.limits.size:
            raise InputError(
                f"Expected --data.size to be at most {self.limits.size} pixels, which --studio.max_size allows, but "
                f"got {size}; lower it"
            )


def _is_ours(value: Any) -> bool:
    """Whether a setting of FILES names samples alone, or nothing."""
    return value is None or all(samples.is_sample(x) for x in (value if isinstance(value, list) else [value]))


def flags(config: Mapping[str, Any]) -> list[str]:
    """Returns settings as flags of the command line."""
    found: list[str] = []
    for group, value in config.items():
        entries = {f"{group}.{name}": x for name, x in value.items()} if isinstance(value, dict) else {group: value}
        for key, x in entries.items():
            found += [f"--{key}", flow(x)]
    return found


def cost(data: Any) -> float:
    """Returns the work of a run, from the settings of its data: steps times pixels, as of a square photograph."""
    steps = data.steps if isinstance(data.steps, list) else [data.steps]
    size, sizes = float(data.size), [float(data.size)]
    while (size := size / data.ratio) >= (data.min_size or data.size):
        sizes.append(size)
    afar = (data.afar or 0) ** 2
    looks = [x**2 + OVERHEAD + (afar if x > 1.5 * (data.afar or x) else 0) for x in sizes[::-1]]
    return float(sum(steps[min(i, len(steps) - 1)] * look for i, look in enumerate(looks)))
