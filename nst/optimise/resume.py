"""The contents of a checkpoint: a check that a run can resume from it, and the picture that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from nst.errors import InputError
from nst.machine.numerics import exact
from nst.pictures.geometry import trim
from nst.scene.levels import Level

FORMAT = 2
"""Number of the checkpoint format; checkpoints of format 1 have no number and no weights of the objective."""


def check_fits(checkpoint: dict[str, Any], made_by: Mapping[str, Any], levels: Sequence[Level]) -> None:
    """Checks that a run can resume from a checkpoint.

    Args:
        checkpoint: The checkpoint, from `checkpoints.read` or from Lightning.
        made_by: The run's `optimizer`, `average` and `bleed`.
        levels: The run's levels.

    Raises:
        InputError: If the checkpoint has another size, optimiser, average or bleed, or is not as it was written.
    """
    state, made = checkpoint.get("state_dict", {}), checkpoint.get("nst")
    whole = len(checkpoint.get("optimizer_states", [])) == 1 and isinstance(state.get("picture"), Tensor)
    if made is None or "bleed" not in made or not whole:
        raise InputError("Expected --ckpt_path to be a checkpoint of this nst, but another program made it")
    for key, now in made_by.items():
        if made.get(key) != now:
            raise InputError(
                f"Expected --ckpt_path to be made with {key} {now} like this run, but it was made with "
                f"{made.get(key)}; change --model.{key}"
            )
    good = made.get("good")
    if good is not None and not (isinstance(good, Tensor) and good.shape == state["picture"].shape):
        raise InputError(
            "Expected --ckpt_path to hold a last good picture of its picture's size, but it holds something else; take "
            "an earlier checkpoint, or start anew without it"
        )
    height, width = trim(state["picture"], made["bleed"]).shape[2:]
    epoch = checkpoint["epoch"]
    level = levels[min(epoch, len(levels) - 1)]
    if epoch >= len(levels) or (height, width) != (level.height, level.width):
        raise InputError(
            f"Expected --ckpt_path to hold a picture of {level.width}×{level.height} pixels like this run's, but it "
            f"holds {width}×{height}; change --data.content, --data.size or --data.min_size to what it was made with"
        )


def shown_picture(state: Mapping[str, Tensor], decay: float, bleed: int = 0) -> Tensor:
    """Returns the picture that a state dict of StyleTransfer shows, (1, 3, H, W) in [0, 1].

    Args:
        state: The state dict.
        decay: Decay of the average; 0 for none.
        bleed: Width of the margin, in pixels.
    """
    if decay and state["averaged"] > 0:
        # an average that started at 0 is too small by this factor (Kingma and Ba, arXiv:1412.6980, section 3)
        picture = state["mean_picture"] / (1 - decay ** exact(state["averaged"])).to(state["mean_picture"])
    else:
        picture = state["picture"]
    return trim(picture.detach().clamp(0, 1), bleed)
