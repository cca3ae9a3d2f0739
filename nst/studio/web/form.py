"""The settings of a picture as fields of the page, each with the words of `--help`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import yaml

from nst.errors import InputError, one_line
from nst.run import record
from nst.studio.asked import Setting, flow

IN_SIGHT = {
    "data.size": "Size",
    "model.strength": "Strength",
    "data.style_scale": "Stroke size",
    "data.color": "Colours",
    "seed_everything": "Seed",
}
"""Settings that are always in sight, with their names there; all others lie under More."""

SLIDERS = {"data.size": (64.0, 2048.0, 1.0), "model.strength": (0.0, 1.0, 0.05), "data.style_scale": (0.25, 2.0, 0.05)}
"""Least value, greatest value and step of the settings that are sliders."""


class Form:
    """The fields of settings; the page lays them out in two groups.

    Args:
        settings: The settings.
        values: Their first values, by key.
        max_size: The greatest size.
    """

    def __init__(self, settings: Sequence[Setting], values: Mapping[str, Any], max_size: int) -> None:
        self.settings = sorted(settings, key=lambda x: [*IN_SIGHT].index(x.key) if x.key in IN_SIGHT else len(IN_SIGHT))
        self.start, self.max_size = values, max_size
        self.fields: list[Any] = []

    def in_sight(self) -> None:
        """Makes the fields that are always in sight."""
        self.fields += [self._field(x) for x in self.settings if x.key in IN_SIGHT]

    def more(self) -> None:
        """Makes all other fields."""
        self.fields += [self._field(x) for x in self.settings if x.key not in IN_SIGHT]

    def read(self, values: Sequence[Any]) -> dict[str, Any]:
        """Returns the settings by key from the values of the fields.

        Raises:
            InputError: If a text is not YAML.
        """
        return {x.key: _plain(x, value) for x, value in zip(self.settings, values, strict=True)}

    def show(self, values: Mapping[str, Any]) -> list[Any]:
        """Returns updates of the fields that show other values; a setting that is not among them stays."""
        return [
            gr.update(value=self._shown(x, values[x.key])) if x.key in values else gr.update() for x in self.settings
        ]

    def _field(self, setting: Setting) -> Any:
        shared: dict[str, Any] = {
            "label": IN_SIGHT.get(setting.key, setting.key),
            "value": self._shown(setting, self.start[setting.key]),
            "elem_id": setting.key.replace(".", "-"),
            "interactive": True,
        }
        if setting.key not in IN_SIGHT:
            shared["info"] = setting.help
        if setting.key in SLIDERS:
            least, most, step = SLIDERS[setting.key]
            most = min(most, self.max_size) if setting.key == "data.size" else most
            return gr.Slider(least, most, step=step, **shared)
        if setting.kind == "bool":
            return gr.Checkbox(**shared)
        if setting.kind == "choice":
            return gr.Dropdown([*setting.choices], **shared)
        if setting.kind in ("int", "float"):
            return gr.Number(precision=0 if setting.kind == "int" else None, **shared)
        return gr.Textbox(max_lines=4, **shared)

    def _shown(self, setting: Setting, value: Any) -> Any:
        """Returns a setting's value as its field shows it."""
        if setting.key == "data.size":
            return min(value, self.max_size)
        if setting.kind != "text":
            return value
        return "" if value is None else flow(value)


def _plain(setting: Setting, value: Any) -> Any:
    """Returns the value of a field as a config has it."""
    if setting.kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if setting.kind != "text" or not isinstance(value, str):
        return value
    try:
        return record.plain(value)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"Expected --{setting.key} to be as in a config, but got {one_line(error)}; change it"
        ) from None
