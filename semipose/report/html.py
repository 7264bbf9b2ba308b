"""Jinja2 templates in, HTML pages out, and the numbers and pictures that templates show.

Templates escape every value (autoescape). Only charts, which are `Markup`, are put in as they are.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from numpy import uint8
from numpy.typing import NDArray

from semipose.drawing import SIDE_COLORS, encode_jpeg
from semipose.metrics.metric import digits

MINUS = "\N{MINUS SIGN}"
METRIC_NAMES = {
    "oks_ap": "OKS-AP",
    "oks_ap50": "OKS-AP50",
    "oks_ap75": "OKS-AP75",
    "oks_ar": "OKS-AR",
    "pixel_error": "pixel error",
}
JPEG_QUALITY = 84


@dataclass(frozen=True)
class Picture:
    """An embedded JPEG (`data` is base64) of `width` x `height` px, with texts."""

    width: int
    height: int
    data: str
    alt: str
    caption: str

    @classmethod
    def of(cls, image: NDArray[uint8], alt: str, caption: str) -> "Picture":
        """Encode `image` (H, W, 3) RGB."""
        data = base64.b64encode(encode_jpeg(image, JPEG_QUALITY)).decode()
        return cls(image.shape[1], image.shape[0], data, alt, caption)


@dataclass(frozen=True)
class Gallery:
    """Groups of pictures by title, below an introduction.

    `sides_of` names the category ("person") where colors mark its left and right sides, else it is empty. `narrow`
    pictures are half as wide. `fault` says why there are no pictures.
    """

    intro: str = ""
    groups: dict[str, list[Picture]] = field(default_factory=dict)
    sides_of: str = ""
    narrow: bool = False
    fault: str = ""


def render(template: str, package: str = "semipose.report", **values: Any) -> str:
    """Fill the `template` of a package with `values`; it may extend those of this package."""
    loaders = [PackageLoader(name) for name in dict.fromkeys((package, "semipose.report"))]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"metric_name": metric_name, "number": number, "signed": signed, "plain": plain}
    environment.globals["side_colors"] = {side: SIDE_COLORS[side] for side in ("left", "right")}
    return environment.get_template(template).render(**values)


def metric_name(key: str) -> str:
    """Usual spelling of a metric: "pck_torso@0.1" -> "PCK-torso@0.1"."""
    return METRIC_NAMES.get(key) or key.replace("pck", "PCK").replace("_", "-")


def number(value: float | None, metric: str = "") -> str:
    """`value` with its significant digits; a dash where it is None or not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits(metric)}f}"


def signed(value: float | None, metric: str = "") -> str:
    """A difference with its sign, and a typographic minus."""
    text = number(value, metric)
    if text == "–":
        return text
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("-", MINUS) if text.startswith("-") else f"+{text}"


def plain(value: object) -> str:
    """A setting's value in words; templates show None themselves."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
