"""Every flag of the Trainer: what works, and what is refused in which words."""

from __future__ import annotations

import inspect
import logging
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

from nst.errors import InputError
from nst.run.flags import FLAGS, check, several
from tests.helpers import fit

pytestmark = pytest.mark.usefixtures("pair")

VALIDATION = "nothing is validated, tested or predicted; leave it out"
LEVELS = "each level is an epoch; set --data.size, --data.min_size and --data.steps"
PICTURE_SUMS = "--trainer.precision"
MODEL_CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"
EARLY = "lightning.pytorch.callbacks.EarlyStopping"
CSV = "{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: csv}}"
BOARD = "{class_path: lightning.pytorch.loggers.TensorBoardLogger, init_args: {save_dir: board}}"

ROWS: list[tuple[str, str, str | None]] = [
    ("accelerator", "auto", None),
    ("accelerator", "cpu", None),
    ("accelerator", "tpu", "--trainer.accelerator to be one of auto, cpu, gpu, cuda, mps, but got tpu"),
    ("strategy", "auto", None),
    ("strategy", "ddp", None),
    ("strategy", "fsdp", "--trainer.strategy to be auto, but got fsdp: devices share the rows of the picture"),
    ("devices", "auto", None),
    ("devices", "1", None),
    ("devices", "0", "--trainer.devices to be 1 or more, or a list of devices .*, but got 0"),
    ("devices", "-1", "--trainer.devices to be 1 or more, .*, but got -1"),
    ("devices", "[]", r"--trainer.devices to be 1 or more, .*, but got \[\]"),
    ("num_nodes", "1", None),
    ("num_nodes", "0", "--trainer.num_nodes to be 1 or more, but got 0"),
    ("precision", "32-true", None),
    ("precision", "32", None),
    ("precision", "bf16-mixed", None),
    ("precision", "16-mixed", None),
    ("precision", "16-true", f"{PICTURE_SUMS} to be .*, but got 16-true"),
    ("precision", "bf16-true", f"{PICTURE_SUMS} to be .*, but got bf16-true"),
    ("precision", "64-true", f"{PICTURE_SUMS} to be .*, but got 64-true"),
    ("precision", "transformer-engine", f"{PICTURE_SUMS} to be .*, but got transformer-engine"),
    ("logger", "true", None),
    ("logger", "false", None),
    ("logger", CSV, None),
    ("logger", f"[{CSV}, {BOARD}]", None),
    ("logger", "csv", "--trainer.logger"),
    ("callbacks", "{class_path: lightning.pytorch.callbacks.LambdaCallback}", None),
    (
        "callbacks",
        "{class_path: lightning.pytorch.callbacks.Timer}",
        "Expected classes that can be made from their settings, but got .*Interval",
    ),
    (
        "callbacks",
        "{class_path: lightning.pytorch.callbacks.RichProgressBar}",
        "rich" if find_spec("rich") is None else None,
    ),
    ("callbacks", f"[{{class_path: {EARLY}, init_args: {{monitor: total}}}}]", None),
    ("callbacks", f"[{{class_path: {MODEL_CHECKPOINT}, init_args: {{every_n_train_steps: 1, save_top_k: -1}}}}]", None),
    ("callbacks", "{class_path: lightning.pytorch.callbacks.TQDMProgressBar}", None),
    ("callbacks", "{class_path: nowhere.Callback}", "--trainer.callbacks"),
    ("fast_dev_run", "false", None),
    ("fast_dev_run", "true", "--trainer.fast_dev_run to be false, but got true: use --config debug or"),
    ("fast_dev_run", "2", "--trainer.fast_dev_run to be false, but got 2"),
    ("max_epochs", "3", f"--trainer.max_epochs to be null, but got 3: {LEVELS}"),
    ("min_epochs", "3", f"--trainer.min_epochs to be null, but got 3: {LEVELS}"),
    ("max_steps", "2", None),
    ("max_steps", "-1", None),
    ("max_steps", "0", "--trainer.max_steps to be 1 or more, or -1, but got 0"),
    ("min_steps", "2", "--trainer.min_steps to be null, but got 2: set --data.steps"),
    ("max_time", "00:01:00:00", None),
    ("max_time", "soon", "soon"),
    ("limit_train_batches", "1.0", None),
    ("limit_train_batches", "0", "--trainer.limit_train_batches to be null, but got 0(.0)?: set --data.steps"),
    ("limit_train_batches", "0.5", "--trainer.limit_train_batches to be null, but got 0.5: set --data.steps"),
    ("limit_val_batches", "2", f"--trainer.limit_val_batches to be null, but got 2(.0)?: {VALIDATION}"),
    ("limit_test_batches", "2", f"--trainer.limit_test_batches to be null, but got 2(.0)?: {VALIDATION}"),
    ("limit_predict_batches", "2", f"--trainer.limit_predict_batches to be null, but got 2(.0)?: {VALIDATION}"),
    ("overfit_batches", "1", "--trainer.overfit_batches to be 0.0, but got 1: there is one picture"),
    ("val_check_interval", "2", f"--trainer.val_check_interval to be null, but got 2: {VALIDATION}"),
    ("check_val_every_n_epoch", "2", f"--trainer.check_val_every_n_epoch to be 1, but got 2: {VALIDATION}"),
    ("num_sanity_val_steps", "2", f"--trainer.num_sanity_val_steps to be null, but got 2: {VALIDATION}"),
    ("log_every_n_steps", "0", None),
    ("log_every_n_steps", "1", None),
    ("log_every_n_steps", "-1", "--trainer.log_every_n_steps to be 0 or more, but got -1"),
    ("enable_checkpointing", "true", None),
    ("enable_checkpointing", "false", None),
    ("enable_progress_bar", "true", None),
    ("enable_model_summary", "true", None),
    ("accumulate_grad_batches", "2", "--trainer.accumulate_grad_batches to be 1, but got 2: each step sees the whole"),
    ("gradient_clip_val", "0.5", None),
    ("gradient_clip_val", "-1", "--trainer.gradient_clip_val to be a finite number of 0 or more, but got -1"),
    ("gradient_clip_algorithm", "value", None),
    ("gradient_clip_algorithm", "half", "--trainer.gradient_clip_algorithm to be null, but got half: clip by norm"),
    ("deterministic", "true", None),
    ("deterministic", "warn", None),
    ("benchmark", "true", None),
    ("inference_mode", "false", f"--trainer.inference_mode to be true, but got false: {VALIDATION}"),
    ("use_distributed_sampler", "false", "--trainer.use_distributed_sampler to be true, but got false: levels"),
    ("profiler", "simple", None),
    ("profiler", "advanced", None),
    ("profiler", "slow", "--trainer.profiler to be simple, advanced or pytorch, but got slow"),
    ("detect_anomaly", "true", None),
    ("barebones", "true", "--trainer.barebones to be false, but got true: it leaves out what writes the picture"),
    ("plugins", "[]", None),
    (
        "plugins",
        "[{class_path: lightning.pytorch.plugins.io.AsyncCheckpointIO}]",
        "--trainer.plugins to be null, but got .*: precision and checkpoints are set by",
    ),
    ("sync_batchnorm", "true", "--trainer.sync_batchnorm to be false, but got true: the network has no batch norm"),
    ("reload_dataloaders_every_n_epochs", "2", f"reload_dataloaders_every_n_epochs to be 0, but got 2: {LEVELS}"),
    ("default_root_dir", "elsewhere", None),
    ("enable_autolog_hparams", "false", None),
    ("model_registry", "mine", "--trainer.model_registry to be null, but got mine: checkpoints are files"),
]


def test_the_table_has_every_flag() -> None:
    flags = {*inspect.signature(pl.Trainer.__init__).parameters} - {"self"}
    assert flags <= {*FLAGS} == {name for name, _, _ in ROWS}


@pytest.mark.parametrize(("flag", "value", "refused"), ROWS, ids=[f"{name}={value}"[:60] for name, value, _ in ROWS])
def test_a_flag_works_or_is_refused(
    flag: str, value: str, refused: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    if flag not in inspect.signature(pl.Trainer.__init__).parameters:
        pytest.skip(f"this Lightning has no {flag}")
    if "Rich" in value and lightning.__version__ < "2.6":
        pytest.skip("this Lightning breaks with the newest rich")
    Path("result.png").write_bytes(b"precious")
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        bar = ["--trainer.enable_progress_bar", "true"] if "ProgressBar" in value else []
        code = fit(f"--trainer.{flag}={value}", *bar, "--output", "out.png", steps=2)
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark = False
    out, err = capfd.readouterr()
    assert Path("result.png").read_bytes() == b"precious"  # nothing is written to the current folder
    assert "Traceback" not in out + err
    if refused is None:
        assert code == 0, err
        assert Image.open("out.png").size == (48, 40)
        root = Path("elsewhere" if flag == "default_root_dir" else ".") / "lightning_logs" / "version_0"
        assert (root / "result.png").exists()
        assert (root / "checkpoints" / "last.ckpt").exists() == ((flag, value) != ("enable_checkpointing", "false"))
    else:
        assert code == 2
        assert err.count("\n") == 1
        assert re.search(refused, err), err
        assert not Path("out.png").exists()
        assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("devices", ["auto", 1, "2", 8, [1], [0, 1], "1,", "0,1"])
def test_devices_are_a_number_or_a_list(devices: object) -> None:
    check({"devices": devices, "num_nodes": 3, "strategy": "ddp"})


@pytest.mark.parametrize(("devices", "more"), [("auto", 0), (1, 0), ("1", 0), ([3], 0), ("0,", 0), (2, 1), ("0,1", 1)])
def test_several_devices_share_a_picture(devices: object, more: int) -> None:
    assert several(devices) == bool(more)


@pytest.mark.parametrize("devices", [0, -1, "", "a", [], "1.5", "01"])
def test_other_devices_are_refused(devices: object) -> None:
    with pytest.raises(InputError, match=r"--trainer\.devices to be 1 or more"):
        check({"devices": devices})


def test_flags_that_a_later_trainer_may_have_are_left_to_it() -> None:
    check({"turbo": True})


def test_clipped_gradients_are_not_for_line_searches(capfd: pytest.CaptureFixture[str]) -> None:
    lbfgs = ["--model.optimizer", "torch.optim.LBFGS"]
    assert fit(*lbfgs, "--trainer.gradient_clip_val", "1") == 2
    assert "Expected no --trainer.gradient_clip_val with torch.optim.LBFGS" in capfd.readouterr().err
    assert fit(*lbfgs, "--trainer.gradient_clip_val", "0", steps=1) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.optimizer.lr", "-1"], r"--model.optimizer to be one .* says: Invalid learning rate: -1.0; change"),
        (
            ["--model.optimizer", "torch.optim.Adam", "--model.optimizer.betas", "[2, 2]"],
            "says: Invalid beta parameter",
        ),
        (
            ["--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size", "0"],
            r"--model.lr_scheduler to be one that works with its settings, but it says: .*modulo by zero; change",
        ),
        (
            [
                "--model.lr_scheduler",
                "torch.optim.lr_scheduler.LambdaLR",
                "--model.lr_scheduler.lr_lambda",
                "os.getcwd",
            ],
            r"says: .*takes no arguments",
        ),
    ],
)
def test_an_optimizer_or_a_schedule_that_cannot_work_is_refused(
    options: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(*options) == 2
    err = capfd.readouterr().err
    assert re.search(words, err), err
    assert err.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_steps_of_the_trainer_end_a_run_that_can_go_on() -> None:
    assert fit("--trainer.max_steps", "3", steps=6) == 0
    assert fit("--ckpt_path", "last", "--output", "resumed.png", steps=6) == 0
    assert fit("--output", "straight.png", steps=6) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("resumed.png")), np.asarray(Image.open("straight.png")))


@pytest.mark.parametrize("arguments", ["every_n_train_steps: 1", "every_n_epochs: 1", "save_last: true"])
def test_a_checkpoint_of_lightnings_own_callback_can_be_resumed(arguments: str) -> None:
    callback = f"{{class_path: {MODEL_CHECKPOINT}, init_args: {{dirpath: kept, save_top_k: -1, {arguments}}}}}"
    levels = ["--data.size", "96", "--data.min_size", "48", "--data.ratio", "1.4142", "--data.steps", "[3, 2, 4]"]
    assert fit(*levels, "--output", "straight.png", f"--trainer.callbacks=[{callback}]") == 0
    kept = sorted(Path("kept").iterdir())
    assert kept
    for checkpoint in kept:
        assert fit(*levels, "--ckpt_path", str(checkpoint), "--output", "resumed.png") == 0, checkpoint
        resumed, straight = (np.asarray(Image.open(name)) for name in ("resumed.png", "straight.png"))
        np.testing.assert_array_equal(resumed, straight, err_msg=str(checkpoint))


def test_a_schedule_that_looks_at_the_objective_sees_the_latest() -> None:
    """It saw each tenth value, took the nine steps between for a standstill, and let the rate die."""
    plateau = "{class_path: lightning.pytorch.cli.ReduceLROnPlateau, init_args: {monitor: total, patience: 1}}"
    assert fit(f"--model.lr_scheduler={plateau}", "--trainer.log_every_n_steps", "10", steps=9) == 0
    (run,) = Path("lightning_logs").iterdir()
    state: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["lr_schedulers"][0]["_last_lr"] == [0.02]
    assert state["lr_schedulers"][0]["num_bad_epochs"] <= 1


def test_a_profile_is_shown() -> None:
    shown: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append(record.getMessage())

    # where all of Lightning's lines end that are not held back; they need not go on to Python's root
    log, keep = logging.getLogger("lightning.pytorch"), Keep()
    log.addHandler(keep)
    try:
        assert fit("--trainer.profiler", "simple", steps=1) == 0
    finally:
        log.removeHandler(keep)
    assert "run_training_batch" in "".join(shown)


def test_runs_of_any_logger_have_folders_of_their_own() -> None:
    for _ in range(2):
        assert fit(f"--trainer.logger={CSV}", steps=1) == 0
        assert fit("--trainer.logger=false", steps=1) == 0
    runs = sorted(path.name for path in Path("lightning_logs").iterdir())
    assert runs == ["version_0", "version_1", "version_2", "version_3"]
    for run in runs:
        names = {path.name for path in (Path("lightning_logs") / run).iterdir()}
        assert names >= {"checkpoints", "config.yaml", "result.png"}
