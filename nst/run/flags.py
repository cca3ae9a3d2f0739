"""The Trainer's flags that have a meaning in a run whose epochs are levels, and why other flags are refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nst.errors import InputError
from nst.machine import precision


@dataclass(frozen=True)
class Flag:
    """The values that a flag of the Trainer may have.

    Attributes:
        accepts: Returns whether a run can use a value; None to accept every value that the Trainer itself takes.
        expected: The accepted values, for the error message.
        remedy: What the user can do instead, for the error message.
    """

    accepts: Callable[[Any], bool] | None = None
    expected: str = ""
    remedy: str = ""


WORKS = Flag()


def _written(value: Any) -> str:
    """Returns a value as it is written on the command line."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _only(*values: Any, remedy: str) -> Flag:
    """Returns a flag that accepts its default values alone; error messages name the first default."""
    return Flag(lambda value: value in values, _written(values[0]), remedy)


_LEVELS = "each level is an epoch; set --data.size, --data.min_size and --data.steps"
_NO_VALIDATION = "nothing is validated, tested or predicted; leave it out"
_ROWS = "devices share the rows of the picture"


def _are_devices(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) > 0
    text = str(value)
    return text == "auto" or re.fullmatch(r"[1-9]\d*|\d+,(\d+,?)*", text) is not None


def several(devices: Any) -> bool:
    """Whether the Trainer's devices, a number or a list, as they are or in writing, are more than one."""
    if isinstance(devices, (list, tuple)):
        return len(devices) > 1
    text = str(devices)
    return len(text.strip(",").split(",")) > 1 if "," in text else text not in ("auto", "1")


FLAGS: dict[str, Flag] = {
    "accelerator": WORKS,  # checked by check_accelerator
    "strategy": _only("auto", "ddp", remedy=f"{_ROWS}, for which there is no other way"),
    "devices": Flag(_are_devices, "1 or more, or a list of devices such as [0, 1]", _ROWS),
    "num_nodes": Flag(lambda value: value >= 1, "1 or more", _ROWS),
    "precision": WORKS,  # checked by precision.check
    "logger": WORKS,
    "callbacks": WORKS,
    "fast_dev_run": _only(False, 0, remedy="use --config debug or --data.steps 1"),
    "max_epochs": _only(None, remedy=_LEVELS),
    "min_epochs": _only(None, remedy=_LEVELS),
    "max_steps": Flag(lambda value: value == -1 or value >= 1, "1 or more, or -1", "it ends a run after so many steps"),
    "min_steps": _only(None, remedy="set --data.steps"),
    "max_time": WORKS,
    "limit_train_batches": Flag(  # 1.0 means all batches, 1 a single batch
        lambda value: value is None or (isinstance(value, float) and value == 1), "null", "set --data.steps"
    ),
    "limit_val_batches": _only(None, 1.0, remedy=_NO_VALIDATION),
    "limit_test_batches": _only(None, 1.0, remedy=_NO_VALIDATION),
    "limit_predict_batches": _only(None, 1.0, remedy=_NO_VALIDATION),
    "overfit_batches": _only(0.0, remedy="there is one picture; leave it out"),
    "val_check_interval": _only(None, 1.0, remedy=_NO_VALIDATION),
    "check_val_every_n_epoch": _only(1, None, remedy=_NO_VALIDATION),
    "num_sanity_val_steps": _only(None, 0, remedy=_NO_VALIDATION),
    "log_every_n_steps": Flag(lambda value: value is None or value >= 0, "0 or more", "0 draws no curves"),
    "enable_checkpointing": WORKS,
    "enable_progress_bar": WORKS,
    "enable_model_summary": WORKS,
    "accumulate_grad_batches": _only(1, remedy="each step sees the whole picture; lower --model.optimizer.lr instead"),
    "gradient_clip_val": Flag(
        lambda value: value is None or 0 <= value < math.inf, "a finite number of 0 or more", "0 clips nothing"
    ),
    "gradient_clip_algorithm": _only(None, "norm", "value", remedy="clip by norm or value"),
    "deterministic": WORKS,
    "benchmark": WORKS,
    "inference_mode": _only(True, remedy=_NO_VALIDATION),
    "use_distributed_sampler": _only(True, remedy="levels are not sampled; leave it out"),
    "profiler": Flag(
        lambda value: not isinstance(value, str) or value in ("simple", "advanced", "pytorch"),
        "simple, advanced or pytorch",
        "it shows where the time goes",
    ),
    "detect_anomaly": WORKS,
    "barebones": _only(False, remedy="it leaves out what writes the picture; use benchmarks.trainer_overhead"),
    "plugins": _only(None, [], remedy="precision and checkpoints are set by --trainer.precision and --checkpoints"),
    "sync_batchnorm": _only(False, remedy="the network has no batch norm; leave it out"),
    "reload_dataloaders_every_n_epochs": _only(0, 1, remedy=_LEVELS),
    "default_root_dir": WORKS,
    "enable_autolog_hparams": WORKS,
    "model_registry": _only(None, remedy="checkpoints are files; leave it out"),
}
"""Every flag of `lightning.pytorch.Trainer`."""


def check(settings: Mapping[str, Any], optimizer: str = "") -> None:
    """Raises an InputError for a flag of the Trainer whose value a run cannot honour.

    Args:
        settings: The Trainer's settings by name; a setting that is not in FLAGS is left to the Trainer.
        optimizer: The optimiser's class path.
    """
    for name, value in settings.items():
        flag = FLAGS.get(name, WORKS)
        if flag.accepts is not None and not flag.accepts(value):
            raise InputError(
                f"Expected --trainer.{name} to be {flag.expected}, but got {_written(value)}: {flag.remedy}"
            )
    check_accelerator(settings.get("accelerator", "auto"))
    if settings.get("precision") is not None:
        precision.check(settings["precision"])
    if settings.get("gradient_clip_val") and optimizer.endswith("LBFGS"):
        raise InputError(
            f"Expected no --trainer.gradient_clip_val with {optimizer}, whose steps lean on the gradient as it is, but "
            f"got {settings['gradient_clip_val']}: leave it out, or take another --model.optimizer"
        )


def check_accelerator(name: Any) -> None:
    """Raises an InputError unless this machine has a device for an accelerator."""
    there = {"CUDA": torch.cuda.is_available(), "MPS": torch.backends.mps.is_available()}
    needs = {"auto": [], "cpu": [], "gpu": ["CUDA", "MPS"], "cuda": ["CUDA"], "mps": ["MPS"]}
    if name not in needs:
        raise InputError(f"Expected --trainer.accelerator to be one of {', '.join(needs)}, but got {_written(name)}")
    if needs[name] and not any(there[kind] for kind in needs[name]):
        raise InputError(
            f"Expected --trainer.accelerator to be one that this machine has, but got {name} "
            f"and there is no {needs[name][0]} device; use --trainer.accelerator cpu"
        )
