"""`nst export`: the picture that a checkpoint holds."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from nst.cli.explain import explain
from nst.errors import InputError
from nst.optimise.resume import shown_picture
from nst.pictures import files, images
from nst.pictures.color import finished
from nst.run import checkpoints
from nst.run.stopping import Stop


def export(args: Sequence[str], stop: Stop) -> int:
    """Writes the picture that a checkpoint holds."""
    parser = ArgumentParser(prog="nst export", description=export.__doc__, exit_on_error=False)
    parser.add_argument("--ckpt_path", type=str, required=True, help="A checkpoint of a run.")
    parser.add_argument("--output", type=str, required=True, help="Where to put it; the suffix sets the format.")
    try:
        settings = parser.parse_args(list(args))
    except ArgumentError as error:
        raise InputError(explain(str(error), ["ckpt_path", "output"])) from None
    files.check_output(settings.output)
    files.check_overwrites(settings.output, [settings.ckpt_path])
    path = Path(settings.ckpt_path)
    checkpoint = checkpoints.read(path)
    with checkpoints.intact(path):
        alpha, lab, kept = (checkpoint.get("PictureData", {}).get(key) for key in ("alpha", "lab", "kept"))
        made, text = checkpoint["nst"], checkpoint.get("record")
        picture = shown_picture(checkpoint["state_dict"], made["average"], made["bleed"])
        picture = finished(picture, lab, kept)
        alpha = None if alpha is None else alpha / 255
        images.encode(picture, alpha)  # a damaged picture or opacity raises here
    files.check_size(settings.output, *picture.shape[2:])
    images.save(picture, settings.output, alpha, text if isinstance(text, str) else None)
    print(f"picture   {settings.output}")
    return 0
