"""The optimizer of a run and the schedule of its learning rate."""

import math

import torch

from semipose.config.settings import Settings
from semipose.methods.method import Method, Progress


def make_optimizer(method: Method, settings: Settings) -> torch.optim.AdamW:
    """Return AdamW over all trained parameters, without weight decay of biases and batch norms."""
    trained = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def learning_rate(settings: Settings, progress: Progress) -> float:
    """Return the learning rate of an update: linear warm-up, then cosine to 0, x0.1 at 70 % and 90 %, or constant."""
    rise = min(1.0, (progress.update + 1) / max(1.0, settings.warmup * progress.updates))
    fraction = progress.fraction
    if settings.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * fraction))
    elif settings.schedule == "step":
        fall = 0.1 ** ((fraction >= 0.7) + (fraction >= 0.9))
    else:
        fall = 1.0
    return settings.lr * rise * fall
