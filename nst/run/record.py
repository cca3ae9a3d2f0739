"""Records of how a picture was made, which are written into the picture, and the differences between two records."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Container, Mapping
from functools import cache
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

import lightning
import torch
import torchvision
import yaml
from lightning.pytorch import Trainer

from nst.errors import InputError, one_line
from nst.pictures.decoding import read_metadata

Record = dict[str, Any]

LONGEST, DEEPEST = 256 << 10, 12
"""The most characters of a record, and the deepest nesting of its lists and mappings; our records have thousands of
characters and a nesting of 6."""

GROUPS = ("seed_everything", "trainer", "model", "data", "budget", "changes")
"""Groups of settings that decide the picture. The others say where the picture is written, how the run was resumed, and
what the run shows."""

WATCHING = {
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "logger",
    "log_every_n_steps",
    "enable_progress_bar",
    "enable_model_summary",
}
WATCHING |= {
    "enable_checkpointing",
    "num_nodes",
    "strategy",
    "default_root_dir",
    "profiler",
    "detect_anomaly",
    "enable_autolog_hparams",
    "callbacks",
}
"""The Trainer's settings that say on which device a picture is made and what the run shows."""

LENGTH = {"data.steps", "data.min_improvement", "budget", "trainer.max_steps", "trainer.max_time"}
LENGTH |= {"model.memory", "model.streaming", "model.convolution", "model.shares", "trainer.precision"}
"""Settings that a resumed run may change: its length, its memory, and what the hardware has."""


OFF = ("0", "0.0", "False", "None")
"""Values of settings that do nothing."""


def make(config: Mapping[str, Any], files: Mapping[str, Path], network: str) -> Record:
    """Returns the record of a run, from which the picture can be made again.

    Args:
        config: The resolved settings, plain values by group and key.
        files: The input files, each by the setting that named it, such as `data.content`.
        network: The network and where its weights come from, for people.

    Returns:
        Plain values: `versions`, `network`, `files` with their paths and SHA-256, and `config`.
    """
    libraries = {module.__name__: str(module.__version__) for module in (torch, torchvision, lightning)}
    return {
        "versions": {"nst": version("nst"), **libraries, "python": platform.python_version()},
        "network": network,
        "files": {key: {"path": str(path), "sha256": sha256(path)} for key, path in files.items()},
        "config": settings(config),
    }


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that decide the picture."""
    kept = {key: config[key] for key in GROUPS if key in config}
    changes = kept.pop("changes", None)
    if changes:  # a plain run has none
        kept["changes"] = [{name: x for name, x in change.items() if x is not None} for change in changes]
    if "data" in kept:
        kept["data"] = {key: value for key, value in kept["data"].items() if key != "max_pixels"}
    if kept.get("model", {}).get("terms", 0) is None:  # a record cannot choose terms
        kept["model"] = {key: value for key, value in kept["model"].items() if key != "terms"}
    usual = {name: parameter.default for name, parameter in signature(Trainer.__init__).parameters.items()}
    trainer = kept.get("trainer", {}).items()
    kept["trainer"] = {
        key: value
        for key, value in trainer
        if key == "precision" or (key not in WATCHING and value is not None and value != usual.get(key))
    }
    return kept


def dump(record: Record, steps: int, complete: bool) -> str:
    """Writes a record as YAML of ASCII characters alone, which every picture format can hold.

    Args:
        record: The record, from `make`.
        steps: Number of optimiser steps that were made.
        complete: Whether the run has made all its steps.
    """
    return yaml.safe_dump({"steps": steps, "complete": complete, **record}, sort_keys=False, width=120).rstrip()


def read(path: str | os.PathLike[str], key: str = "config") -> Record:
    """Reads the record of a picture.

    Args:
        path: A picture file.
        key: The setting that named the file, for error messages.

    Raises:
        InputError: If there is no such file, or the file holds no record.
    """
    if not Path(path).is_file():
        raise InputError(f"Expected --{key} to be a file, but {path} does not exist")
    try:
        return parse(read_metadata(path) or "")
    except ValueError as error:
        raise InputError(
            f"Expected --{key} to be a picture that nst fit made, which holds its settings, but {path} holds none "
            f"({error}); give a YAML file, or the picture as it was written"
        ) from None


def parse(text: str) -> Record:
    """Reads a record from any source as plain values; its settings are not checked (see `replay`).

    Raises:
        ValueError: If the text is too long, nested too deep, or not a record; the message says which.
    """
    record = plain(text)
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise ValueError("no settings")
    files, versions = record.get("files", {}), record.get("versions", {})
    if not isinstance(files, dict) or not all(isinstance(x, dict) for x in files.values()):
        raise ValueError("files without names")
    if not all(isinstance(x.get(key), str) for x in files.values() for key in ("path", "sha256")):
        raise ValueError("files without path or SHA-256")
    if not isinstance(versions, dict):
        raise ValueError("versions without names")
    return record


def plain(text: str) -> Any:
    """Reads YAML of plain values, without aliases, within LONGEST and DEEPEST.

    Raises:
        ValueError: If the text is too long, nested too deep, has aliases, or is not YAML of plain values.
    """
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters")
    depth = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
                raise ValueError("lists in lists, or an alias")
        return yaml.safe_load(text)
    except ValueError:
        raise
    except Exception as error:  # the loader raises errors of all kinds, such as a KeyError for `!!bool maybe`
        raise ValueError(f"no YAML: {type(error).__name__}") from None


def differences(before: Record, now: Record) -> list[str]:
    """Returns one line for each file that has changed since the first record, and one line for changed versions."""
    lines = []
    for key, was in before.get("files", {}).items():
        is_now = now["files"].get(key)
        if is_now is not None and is_now["path"] == was["path"] and is_now["sha256"] != was["sha256"]:
            path = is_now["path"]
            lines.append(f"{path} (--{key}) has changed since that picture was made: the result will differ")
    known = now["versions"]
    then = {name: number for name, number in before.get("versions", {}).items() if known.get(name, number) != number}
    if then:
        were = ", ".join(f"{name} {one_line(x, longest=40)} (now {known[name]})" for name, x in then.items())
        lines.append(f"That picture was made with {were}: the result may differ")
    return lines


def unchanged(record: Record, files: Container[str]) -> bool:
    """Whether all files of a record are among given files, by path, and have not changed since the record."""
    for was in record.get("files", {}).values():
        path = was["path"]
        if path not in files or not Path(path).is_file() or sha256(path) != was["sha256"]:
            return False
    return True


def changes(before: Record, now: Record) -> list[str]:
    """Returns the files and settings that decide the picture and differ between two records, by key with both values.

    Files are compared by their SHA-256 and not by their names. The settings in LENGTH may differ.
    """
    found = []
    files = [record.get("files", {}) for record in (before, now)]
    settings = [
        _leaves(_named(record["config"], {x["path"]: x["sha256"] for x in named.values()}))
        for record, named in zip((before, now), files, strict=True)
    ]
    for key in dict.fromkeys([*files[0], *files[1]]):
        was, is_now = (named.get(key) for named in files)
        if was is None or is_now is None or was["sha256"] != is_now["sha256"]:
            pairs = zip((was, is_now), settings, strict=True)
            then, today = (Path(x["path"]).name if x else leaves.get(key) for x, leaves in pairs)
            found.append(f"--{key} ({then} then, {today} now)")
    for key in dict.fromkeys([*settings[0], *settings[1]]):
        then, today = (str(leaves.get(key)) for leaves in settings)
        free = key in LENGTH or key.startswith("data.steps.") or _is_later(key, settings[1], before["config"])
        if then != today and not free and key not in files[0].keys() | files[1].keys():
            found.append(f"--{key} ({then} then, {today} now)")
    return found


def _is_later(key: str, now: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a setting came with a later version than a record's settings, and is off, or part of what was off."""
    group, name = key.split(".")[0], ".".join(key.split(".")[:2])
    known = config.get(group)
    if group not in ("model", "data") or not isinstance(known, dict) or name.partition(".")[2] in {*known, "terms"}:
        return False
    weight = name.rpartition("_")[0] + "_weight"
    belongs = weight in now and weight != name and not known.get(weight.partition(".")[2])  # the weight itself tells
    return key != name or str(now.get(key)) in OFF or belongs


def _named(tree: Any, digests: Mapping[str, str]) -> Any:
    """Returns nested settings in which the paths of files are replaced by the files' digests."""
    if isinstance(tree, dict):
        return {key: _named(value, digests) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_named(value, digests) for value in tree]
    return digests.get(tree, tree) if isinstance(tree, str) else tree


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Returns the leaves of nested settings by dotted key."""
    if not isinstance(tree, (dict, list)):
        return {path: tree}
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found: dict[str, Any] = {}
    for name, value in entries:
        found |= _leaves(value, f"{path}.{name}" if path else f"{name}")
    return found


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits; a file that has not changed is read once."""
    status = os.stat(path)
    return _sha256(os.path.abspath(path), status.st_mtime_ns, status.st_size)


@cache
def _sha256(path: str, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
