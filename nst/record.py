"""How a picture was made: the record that is written into it, and what of it holds no longer."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import torch
import torchvision
import yaml

from nst import images
from nst.errors import InputError

Record = dict[str, Any]

ELSEWHERE = ("config", "output", "ckpt_path")
"""Settings that say where a picture goes and how it was resumed, but not what it is."""

WATCHING = ("checkpoints", "snapshots")
WATCHING_TRAINER = ("logger", "log_every_n_steps", "enable_progress_bar", "enable_model_summary", "default_root_dir")
"""Settings, and among them the Trainer's, that change what is seen of a run, but no pixel."""


def make(config: Mapping[str, Any], files: Mapping[str, Path], network: str) -> Record:
    """Describes a run, so that it can be made again.

    Args:
        config: The resolved settings, plain values by group and key.
        files: The files that went in, by the setting that named them, such as `data.content`.
        network: The network and where its numbers come from, for people.

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
    """Returns the settings that make a picture again."""
    return {key: value for key, value in config.items() if key not in ELSEWHERE}


def essence(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that change pixels."""
    kept = {key: value for key, value in settings(config).items() if key not in WATCHING}
    trainer = kept.get("trainer", {})
    return {**kept, "trainer": {key: value for key, value in trainer.items() if key not in WATCHING_TRAINER}}


def dump(record: Record, steps: int, complete: bool) -> str:
    """Writes a record as YAML of ASCII characters alone, which every picture format can hold.

    Args:
        record: From `make`.
        steps: Optimiser steps that were taken.
        complete: Whether these were all.
    """
    return yaml.safe_dump({"steps": steps, "complete": complete, **record}, sort_keys=False, width=120).rstrip()


def read(path: str | os.PathLike[str], key: str = "config") -> Record:
    """Reads the record of a picture.

    Args:
        path: A picture file.
        key: The setting that named the file, for error messages.

    Raises:
        InputError: If there is no such file, or it holds no record.
    """
    if not Path(path).is_file():
        raise InputError(f"Expected --{key} to be a file, but {path} does not exist")
    text = images.read_metadata(path)
    try:
        record = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise InputError(
            f"Expected --{key} to be a picture that nst fit made, which holds its settings, but {path} holds none; "
            "give a YAML file, or the picture as it was written"
        )
    return record


def changed(record: Record) -> list[str]:
    """Returns the settings whose files are gone or no longer what they were."""
    files = record.get("files", {}).items()
    return [key for key, x in files if not Path(x["path"]).is_file() or sha256(x["path"]) != x["sha256"]]


def differences(before: Record, now: Record) -> list[str]:
    """Returns one line for each file that is no longer what it was, and one if the versions are others."""
    lines = []
    for key in changed(before):
        path = before["files"][key]["path"]
        if now["files"].get(key, {}).get("path") == path:
            lines.append(f"{path} (--{key}) has changed since that picture was made: the result will differ")
    then = {name: number for name, number in before.get("versions", {}).items() if now["versions"].get(name) != number}
    if then:
        were = ", ".join(f"{name} {number} (now {now['versions'].get(name)})" for name, number in then.items())
        lines.append(f"That picture was made with {were}: the result may differ")
    return lines


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits; a file that has not changed is read once."""
    status = os.stat(path)
    return _sha256(os.path.abspath(path), status.st_mtime_ns, status.st_size)


@cache
def _sha256(path: str, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
