"""Neural style transfer by optimising the pixels (Gatys, Ecker and Bethge, arXiv:1508.06576)."""

from importlib.metadata import version

from nst import clock as clock  # before all that loads torch

# isort: split

__version__ = version("nst")

from nst.api import stylize
from nst.data import PictureData
from nst.errors import InputError, RunError
from nst.guides import Region, Style
from nst.module import StyleTransfer

__all__ = ["InputError", "PictureData", "Region", "RunError", "Style", "StyleTransfer", "__version__", "stylize"]
