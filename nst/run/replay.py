"""The settings that a picture's record may choose when the picture is made again.

A record is data from a file that may come from a stranger, and the parser of configs imports and calls whatever a
`class_path` names. So a record is read as plain values within bounds, and only settings of a closed list are taken from
it: settings of the model and the data, each of its expected shape, the seed, the budget, the precision, and an
optimiser and a learning-rate schedule of torch's own or of ours, by name. All others are left to the user's flags.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch

from nst.errors import InputError, nearest
from nst.run.steering.changes import Change
from nst.scene.styles import Region, Style

PLATEAU = "lightning.pytorch.cli.ReduceLROnPlateau"
"""The only schedule that is not torch's own: Lightning's subclass of torch's, which names the value that it follows."""

LEFT = {"model": {"terms"}, "data": {"max_pixels", "init", "tile", "budget"}}
"""Settings that no record chooses: terms are code, a record that allows pictures of any size would allow decompression
bombs, and `init`, `tile` and `budget` of the data are linked to other settings."""

WORDS = {
    *("strong_wolfe", "min", "max", "rel", "abs", "total", "cos", "linear", "exp_range", "triangular", "triangular2"),
    *("original", "match_rms_adamw"),
}
"""Texts that optimisers and schedules take; any other text might name code that is called."""


class Replay:
    """The settings that are taken from a record.

    Args:
        config: The record's settings, plain values by group and key.
        defaults: The settings of a run without flags, plain values by group and key.
        known: The names of all settings, by group.
        name: The picture's file, for error messages.

    Attributes:
        config: The settings that are taken, for the parser.
        left_out: Keys of settings that differ from the defaults and are not taken.

    Raises:
        InputError: If a setting is unknown, or not of its expected shape.
    """

    def __init__(
        self, config: Mapping[str, Any], defaults: Mapping[str, Any], known: Mapping[str, set[str]], name: str
    ) -> None:
        self.name, self.known = name, known
        self.config: dict[str, Any] = {}
        self.left_out: list[str] = []
        for group, value in config.items():
            if group in ("model", "data", "trainer"):
                self._take_group(group, value, defaults.get(group, {}))
            elif group in ("seed_everything", "budget"):
                self.config[group] = self._scalar(group, value)
            elif group == "changes" and isinstance(value, list):
                self.config[group] = [self._entry(f"changes[{i}]", x, Change) for i, x in enumerate(value)]
            elif group in defaults:
                self._leave(group, value, defaults[group])
            else:
                raise self._unknown(group, defaults)

    def _take_group(self, group: str, settings: Any, defaults: Mapping[str, Any]) -> None:
        if not isinstance(settings, dict):
            raise self._misshapen(group, settings, "settings by name")
        taken = self.config[group] = {}
        for name, value in settings.items():
            key = f"{group}.{name}"
            if (group, name) == ("trainer", "precision") or (group in LEFT and name in self.known[group] - LEFT[group]):
                taken[name] = self._setting(key, value)
            elif name in self.known[group]:
                self._leave(key, value, defaults.get(name))
            else:
                raise self._unknown(key, [f"{group}.{known}" for known in self.known[group]])

    def _setting(self, key: str, value: Any) -> Any:
        if key in ("model.optimizer", "model.lr_scheduler"):
            return self._class(key, value)
        if key.startswith("model.") and key.endswith("_layers"):
            return {str(layer): self._scalar(f"{key}.{layer}", x) for layer, x in self._mapping(key, value).items()}
        if key in ("data.steps", "data.style_weights") and isinstance(value, list):
            return [self._number(key, x) for x in value]
        if key == "data.style" and isinstance(value, list):
            return [self._entry(f"{key}[{i}]", x, Style) for i, x in enumerate(value)]
        if key == "data.regions" and value is not None:
            return {str(k): self._entry(f"{key}.{k}", x, Region) for k, x in self._mapping(key, value).items()}
        return self._scalar(key, value)

    def _entry(self, key: str, value: Any, kind: type) -> Any:
        """Returns a style, a region or a change: a path, or plain values by the names of its fields."""
        if not isinstance(value, dict):
            return self._scalar(key, value)
        names = [field.name for field in fields(kind)]
        for name in value:
            if name not in names:
                raise self._unknown(f"{key}.{name}", [f"{key}.{known}" for known in names])
        return {
            name: [self._scalar(f"{key}.{name}", layer) for layer in x]
            if name == "layers" and isinstance(x, list)
            else self._scalar(f"{key}.{name}", x)
            for name, x in value.items()
        }

    def _class(self, key: str, value: Any) -> Any:
        """Returns an optimiser or a schedule of torch's own, whose arguments are numbers or WORDS."""
        if value is None and key == "model.lr_scheduler":
            return None
        names = OPTIMIZERS if key == "model.optimizer" else SCHEDULERS
        settings = self._mapping(key, value)
        path, arguments = settings.get("class_path"), settings.get("init_args", {})
        if not isinstance(path, str) or path not in names or not {*settings} <= {"class_path", "init_args"}:
            shown = path if isinstance(path, str) else ", ".join(map(str, settings))
            raise InputError(
                f"Expected the record of {self.name} to name one of torch's own as {key}, but it has {_short(shown)}; "
                f"if you trust it, give it as --{key}, or in a config"
            )
        for name, argument in self._mapping(f"{key}.init_args", arguments).items():
            for x in argument if isinstance(argument, list) else [argument]:
                if not (isinstance(x, str) and x in WORDS):
                    self._number(f"{key}.{name}", x)
        return {"class_path": path, "init_args": arguments}

    def _mapping(self, key: str, value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise self._misshapen(key, value, "a mapping")
        return value

    def _number(self, key: str, value: Any) -> Any:
        if not (value is None or isinstance(value, (bool, int, float))):
            raise self._misshapen(key, value, "a number")
        return value

    def _scalar(self, key: str, value: Any) -> Any:
        """Returns a number, or a text that every parser reads as a text."""
        if not isinstance(value, str):
            return self._number(key, value)
        # bytes of a file name that are not UTF-8 are not printable either, but harmless
        printable = all(x.isprintable() or "\udc80" <= x <= "\udcff" for x in value)
        if value.lstrip().startswith(("[", "{")) or not printable:
            raise self._misshapen(key, value, "a plain text")
        return value

    def _leave(self, key: str, value: Any, default: Any) -> None:
        if value is not None and value != default:
            self.left_out += _leaves(key, value, default)

    def _misshapen(self, key: str, value: Any, expected: str) -> InputError:
        return InputError(
            f"Expected {key} in the record of {self.name} to be {expected}, but it has {_short(value)}; the picture is "
            "not as nst wrote it: give a YAML file as --config instead"
        )

    def _unknown(self, key: Any, known: Any) -> InputError:
        key = str(key)
        return InputError(
            f"Expected settings of nst in the record of {self.name}, but it has {_short(key)}{nearest(key, known)}; "
            "the picture is not as nst wrote it, or another version did"
        )


def _leaves(key: str, value: Any, default: Any) -> Iterator[str]:
    if isinstance(value, dict) and isinstance(default, dict):
        for name, x in value.items():
            if x is not None and x != default.get(name):
                yield from _leaves(f"{key}.{name}", x, default.get(name))
    else:
        yield _short(key)


def _short(value: Any) -> str:
    text = ascii(value)[1:-1] if isinstance(value, str) else ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _own(module: Any, base: type | tuple[type, ...]) -> set[str]:
    """Returns the class paths of a module's public subclasses of a class."""
    found = inspect.getmembers(module, lambda x: inspect.isclass(x) and issubclass(x, base) and x is not base)
    return {f"{module.__name__}.{name}" for name, _ in found if not name.startswith("_")}


OPTIMIZERS = _own(torch.optim, torch.optim.Optimizer) | {
    f"nst.{module}LaplacianAdam" for module in ("", "optimise.optimizers.")
}
SCHEDULERS = _own(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler) | {PLATEAU}
"""Class paths that a record may name."""
