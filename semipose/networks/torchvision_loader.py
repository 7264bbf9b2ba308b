"""Import torchvision with a torch without CUDA; timm and adaptive convolution need it.

The wheel of torchvision on PyPI is built for CUDA. Beside CPU torch its operators do not load, and its import fails
where it describes them to torch. timm uses none of these operators, but cannot be imported without torchvision.
"""

import sys
from importlib import import_module

import torch

# A library's operators vanish with the object that declared them.
_declared: list[torch.library.Library] = []


def load_torchvision() -> None:
    """Import torchvision; where only its operators are missing, declare the two that its import asks for.

    Operators of torchvision (NMS, decoding) still do not work then. Raises ModuleNotFoundError where it is not
    installed, and whatever else its import raises.
    """
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        import_module("torchvision")
