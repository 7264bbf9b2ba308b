"""Settings of a training run: defaults, help texts, and the source of each value. Loads no torch.

Each field is a flag of `semipose train`, a key of its yaml file, and a keyword argument in Python.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args, get_type_hints

from semipose.config.parsing import parse_value
from semipose.errors import UsageError, suggestion
from semipose.networks import DEFAULT_BACKBONE, DEFAULT_HEAD, HEAD_CHANNELS, TIMM, has_head_choice
from semipose.networks import DETECTOR_FREE as HEADS

Source = Literal["flag", "yaml", "default", "data"]
Metric = Literal[
    "pck@0.05",
    "pck@0.1",
    "pck@0.2",
    "pck_torso@0.1",
    "pck_torso@0.2",
    "pixel_error",
    "oks_ap",
    "oks_ap50",
    "oks_ap75",
    "oks_ar",
]

# Settings that differ between the rows of a comparison, or would change their number of updates.
DIFFERING = ("method", "seed", "deploy", "patience")
SECONDS_PER_UNIT = {"s": 1, "m": 60, "min": 60, "h": 3600}


class Size(NamedTuple):
    """An image size in pixels, height first; equal to the tuple (H, W)."""

    height: int
    width: int

    @classmethod
    def parse(cls, value: object) -> "Size":
        """Parse "256x192" (height first) or a pair of whole numbers."""
        parts = value.lower().split("x") if isinstance(value, str) else value
        if isinstance(parts, (list, tuple)) and len(parts) == 2:
            return cls(*parse_value(parts, tuple[int, int]))
        raise ValueError(f"expected {cls.expected()}, found {value!r}")

    @classmethod
    def expected(cls) -> str:
        """Describe valid values."""
        return "HxW such as 256x192"

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


@dataclass(frozen=True)
class Duration:
    """Length of training, in updates, passes over the longer of the two streams, or seconds."""

    amount: float
    unit: Literal["updates", "epochs", "seconds"]

    @classmethod
    def parse(cls, value: object) -> "Duration":
        """Parse 5000, "5000", "30ep", "2h", "45m" or "90s"; the amount must be positive."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ep|s|m|min|h)?", str(value).strip().lower())
        amount = float(match[1]) if match else 0.0
        if match is None or amount <= 0 or (match[2] is None and amount != int(amount)):
            raise ValueError(f"expected {cls.expected()}, found {value!r}")
        if match[2] is None:
            return cls(amount, "updates")
        return cls(amount, "epochs") if match[2] == "ep" else cls(amount * SECONDS_PER_UNIT[match[2]], "seconds")

    @classmethod
    def expected(cls) -> str:
        """Describe valid values."""
        return "5000 (updates), 30ep (epochs), or a time such as 2h, 45m, 90s"

    def __str__(self) -> str:
        return f"{self.amount:g}{ {'updates': '', 'epochs': 'ep', 'seconds': 's'}[self.unit] }"

    def updates(self, updates_per_epoch: int, seconds_per_update: float = 0.0) -> int:
        """Return the number of updates, at least 1; `seconds_per_update` is needed only for a time."""
        if self.unit == "seconds":
            return max(1, int(self.amount / seconds_per_update))
        return max(1, round(self.amount * (updates_per_epoch if self.unit == "epochs" else 1)))


class Origin(NamedTuple):
    """Source of a value, and the reason for it."""

    source: Source
    reason: str


@dataclass(frozen=True)
class KindRules:
    """Rules for settings by the kind of network: defaults that differ, and values that it does not allow.

    `whole_images` is whether these networks see whole images. `reason` says why the defaults differ; it follows the
    network's name. `shift` is the default of that setting.
    """

    whole_images: bool
    reason: str
    defaults: Mapping[str, Any]
    shift: float
    metrics: tuple[str, ...]
    has_decode: bool
    has_backbone: bool


TOP_DOWN = KindRules(
    whole_images=False,
    reason="sees one person at a time",
    defaults={},
    shift=0.0,
    metrics=get_args(Metric),
    has_decode=True,
    has_backbone=False,
)
DETECTOR_FREE = KindRules(
    whole_images=True,
    reason="sees whole images",
    defaults={"method": "mean_teacher", "input_size": Size(512, 512), "metric": "oks_ap"},
    shift=0.2,  # as HigherHRNet
    metrics=tuple(metric for metric in get_args(Metric) if metric.startswith("oks")),
    has_decode=False,
    has_backbone=True,
)


def rules_of(network: object) -> KindRules:
    """Return the rules of the kind of the network of this name."""
    return DETECTOR_FREE if network in HEADS else TOP_DOWN


def setting(default: Any, help: str) -> Any:
    """Return a dataclass field with its default and the sentence that `--help` shows."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Settings:
    """Everything that defines a run, except its data, its folder and the options of its method."""

    method: str = setting("mean_teacher_levels", "Method: a name of `semipose methods`, or package.module:Class.")
    network: str = setting(
        "resnet18",
        "Network for crops of one person: resnet18/34/50/101/152, hrnet_w32/w48, mobilenet_v1, timm:NAME; "
        "detector-free, for whole images: higher_hrnet, dekr, cid.",
    )
    backbone: str | None = setting(None, "(higher_hrnet, dekr, cid) Backbone, a network for crops; none = hrnet_w32.")
    fine: bool | None = setting(None, "(higher_hrnet) Predict heatmaps of stride 2 as well; none = on.")
    adaptive: bool | None = setting(None, "(dekr) Use adaptive convolutions, slow on CPUs; none = on.")
    width: float = setting(1.0, "Number of channels, relative to the published network.")
    head: Literal["deconvolution", "multi_scale"] = setting(
        DEFAULT_HEAD,
        "Head for one person: deconvolution, as published, or multi_scale, for small inputs; HRNet has its own.",
    )
    head_channels: int = setting(
        HEAD_CHANNELS[DEFAULT_HEAD], "Channels of the head; default for multi_scale 64; HRNet has none."
    )
    weights: Path | None = setting(None, "Pretrained weights to start from (.safetensors or a torch checkpoint).")
    freeze: int = setting(0, "Stages of the backbone that keep their initial weights (0 to 4).")
    input_size: Size = setting(
        Size(256, 192), "Network input in pixels, height first, multiples of 32; default for whole images 512x512."
    )
    duration: Duration = setting(
        Duration(5000, "updates"), "Training time: 5000 (updates), 30ep (epochs), or 2h, 45m, 90s."
    )
    batch_size: int = setting(32, "Labeled people (or whole images) per update, over all processes.")
    unlabeled_batch_size: int | None = setting(None, "Unlabeled people (or images) per update; none = --batch-size.")
    accumulate: int = setting(1, "Split each batch into this many parts to save memory (gradient accumulation).")
    lr: float = setting(1e-3, "Peak learning rate.")
    schedule: Literal["cosine", "step", "constant"] = setting("cosine", "Learning rate schedule after warm-up.")
    warmup: float = setting(0.02, "Warm-up of the learning rate, as a share of the run.")
    weight_decay: float = setting(1e-4, "Decoupled weight decay (AdamW).")
    clip: float = setting(0.0, "Maximum norm of the gradient; 0 = no clipping.")
    rotation: float = setting(
        30.0, "Random rotation: standard deviation in degrees, at most twice that; 180 = any angle, uniformly."
    )
    scale: float = setting(0.25, "Random scaling by a factor of up to 1 plus or minus this.")
    shift: float | None = setting(
        None, "Random shift by up to this share of a view's sides; none = 0.2 for whole images, 0 for people."
    )
    flip: float = setting(0.5, "Probability of mirroring a view.")
    color: Literal["jitter", "randaugment", "trivialaugment", "none"] = setting(
        "jitter", "Color augmentation of strong views; randaugment also cuts holes."
    )
    color_strength: float | None = setting(
        None, "Strength of --color, 0 to 1 (magnitude / 30); none = 0.4 jitter, 1/3 randaugment, 1 trivialaugment."
    )
    seed: int = setting(0, "Random seed; the same seed repeats a run.")
    device: str = setting("auto", "auto, cpu, cuda, cuda:1 or mps.")
    precision: Literal["auto", "fp32", "bf16"] = setting("auto", "Number format of the forward and backward passes.")
    cache: Literal["auto", "device", "ram", "disk", "none"] = setting(
        "auto", "Cache of decoded crops; auto = the fastest with enough space, none = decode in every epoch."
    )
    cache_limit: float = setting(
        50.0, "Size limit in GB of the disk cache of all runs, in $SEMIPOSE_CACHE or ~/.cache/semipose."
    )
    workers: int | None = setting(None, "Threads that decode images; none = one per core.")
    eval_every: int | None = setting(None, "Updates between evaluations; none = chosen by the run's length.")
    patience: int | None = setting(None, "Stop after this many evaluations without improvement; none = never.")
    log_every: int = setting(50, "Updates between lines of log.jsonl.")
    metric: Metric = setting("pck@0.1", "Validation metric that selects the best checkpoint; oks_ap for whole images.")
    decode: Literal["dark", "quarter"] = setting("dark", "Sub-pixel decoding of heatmap peaks.")
    deploy: str | None = setting(None, "Network of the method to use after training; none = the method's choice.")
    flip_test: bool = setting(False, "Average each prediction with that of the mirrored image.")
    origins: dict[str, Origin] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def types(cls) -> dict[str, Any]:
        """Return each setting's name and type, in the order of `--help`."""
        hints = get_type_hints(cls)
        return {item.name: hints[item.name] for item in dataclasses.fields(cls) if item.name != "origins"}

    @classmethod
    def help(cls, name: str) -> str:
        """Return the help text of setting `name`."""
        return str(cls.__dataclass_fields__[name].metadata["help"])

    @classmethod
    def from_values(cls, values: Mapping[str, object], source: Source = "flag", reason: str = "") -> Self:
        """Make settings from text or typed values; one UsageError lists all unknown names and invalid values."""
        return cls().chosen(source, reason, **values)

    def chosen(self, source: Source, reason: str, **values: object) -> Self:
        """Return a copy with `values`, recorded as coming from `source` because of `reason`."""
        types, faults, converted = self.types(), [], {}
        for name, value in values.items():
            if name not in types:
                faults.append(f"unknown setting {name!r}{suggestion(name, types)}")
                continue
            try:
                converted[name] = parse_value(value, types[name])
            except ValueError as error:
                faults.append(f"{flag(name)}: {error}")
        refuse(faults)
        origins = self.origins | dict.fromkeys(converted, Origin(source, reason))
        return dataclasses.replace(self, **converted, origins=origins)

    def origin(self, name: str) -> Origin:
        """Return the source of setting `name`."""
        return self.origins.get(name, Origin("default", ""))

    def record(self) -> dict[str, dict[str, Any]]:
        """Return a json-able dict for `from_record`: name -> value, source, reason."""
        rows = {}
        for name in self.types():
            value = getattr(self, name)
            plain = str(value) if isinstance(value, (Path, Size, Duration)) else value
            rows[name] = {"value": plain, **self.origin(name)._asdict()}
        return rows

    @classmethod
    def from_record(cls, record: Mapping[str, Mapping[str, Any]]) -> Self:
        """Undo `record`, including sources and reasons."""
        settings = cls.from_values({name: row["value"] for name, row in record.items()})
        origins = {name: Origin(row["source"], row["reason"]) for name, row in record.items()}
        return dataclasses.replace(settings, origins=origins)

    def faults(self) -> list[str]:
        """List all problems of the values, alone and combined; each names the flag (or yaml line) and the remedy."""
        return [
            f"{flag(name)} {getattr(self, name)}{self._place(name)}: {remedy}"
            for name, holds, remedy in _rules(self)
            if not holds
        ]

    def validate(self) -> Self:
        """Return these settings with the defaults of the network's kind; one UsageError lists all faults."""
        defaults = {name: value for name, value in self.kind.defaults.items() if self.origin(name).source == "default"}
        settings = self.chosen("default", f"{self.network} {self.kind.reason}", **defaults) if defaults else self
        if self.head != DEFAULT_HEAD and self.origin("head_channels").source == "default":
            channels = HEAD_CHANNELS[self.head]
            settings = settings.chosen("default", f"usual for --head {self.head}", head_channels=channels)
        refuse(settings.faults())
        return settings

    @property
    def kind(self) -> KindRules:
        """The rules of the network's kind."""
        return rules_of(self.network)

    @property
    def view_shift(self) -> float:
        """Largest shift of views as a share of their sides: as set, or the default of the network's kind."""
        return self.kind.shift if self.shift is None else self.shift

    @staticmethod
    def usual_method(network: object) -> str:
        """Return the default method for training `network`."""
        return str(rules_of(network).defaults.get("method", Settings.method))

    def network_options(self, network: str | None = None) -> dict[str, Any]:
        """Return the options of `build_network` for the run's network, or for another one, which shares the head."""
        name = network or self.network
        options: dict[str, Any] = {"head": self.head if has_head_choice(name) else None}
        if name == self.network:
            options |= {"backbone": self.backbone, "fine": self.fine, "adaptive": self.adaptive}
        return {name: value for name, value in options.items() if value is not None}

    def _place(self, name: str) -> str:
        source, reason = self.origin(name)
        return f" ({reason})" if source == "yaml" else ""


def flag(name: str) -> str:
    """Return the flag of setting `name`: "--batch-size"."""
    return "--" + name.replace("_", "-")


def refuse(faults: list[str]) -> None:
    """Raise one UsageError with all `faults`, one per line, if there are any."""
    if faults:
        raise UsageError("\n".join(faults))


def _rules(s: Settings) -> list[tuple[str, bool, str]]:
    """Return (setting, whether its value is allowed, what to do otherwise)."""
    return [
        *_network_rules(s),
        ("weights", s.weights is None or s.weights.is_file(), "no such file; give a .safetensors or .pth file"),
        ("freeze", 0 <= s.freeze <= 4, "must be 0 to 4 stages"),
        ("freeze", s.freeze == 0 or s.weights is not None, "would keep random weights; give --weights FILE as well"),
        ("batch_size", s.batch_size >= 1, "must be at least 1"),
        ("unlabeled_batch_size", _at_least(s.unlabeled_batch_size, 1), "must be at least 1, or none"),
        ("accumulate", s.accumulate >= 1, "must be at least 1"),
        ("lr", 0 < s.lr <= 10, "must be above 0 and at most 10; 0.001 is usual"),
        ("warmup", 0 <= s.warmup < 1, "must be a share of the run: at least 0, below 1"),
        ("weight_decay", s.weight_decay >= 0, "must not be negative"),
        ("clip", s.clip >= 0, "must not be negative; 0 turns it off"),
        ("rotation", 0 <= s.rotation <= 180, "must be 0 to 180 degrees"),
        ("scale", 0 <= s.scale < 1, "must be at least 0 and below 1; 0.25 means 0.75 to 1.25"),
        ("shift", s.shift is None or 0 <= s.shift < 1, "must be a share: at least 0, below 1"),
        ("flip", 0 <= s.flip <= 1, "must be a probability, 0 to 1"),
        ("color_strength", s.color_strength is None or 0 <= s.color_strength <= 1, "must be 0 to 1, or none"),
        ("color_strength", s.color_strength is None or s.color != "none", "has no effect with --color none; drop one"),
        ("seed", 0 <= s.seed < 2**31, "must be 0 to 2147483647"),
        (
            "device",
            re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", s.device) is not None,
            "must be auto, cpu, cuda, cuda:N or mps",
        ),
        ("cache_limit", 0 <= s.cache_limit < 1e6, "must be in GB, at least 0; 0 keeps no crops on disk"),
        ("workers", _at_least(s.workers, 1), "must be at least 1, or none"),
        ("eval_every", _at_least(s.eval_every, 1), "must be at least 1, or none"),
        ("patience", _at_least(s.patience, 1), "must be at least 1, or none"),
        ("log_every", s.log_every >= 1, "must be at least 1"),
    ]


def _network_rules(s: Settings) -> list[tuple[str, bool, str]]:
    """Return the rules that depend on the network, as `_rules` does."""
    kind, names = s.kind, ", ".join(HEADS)
    divisible = all(side >= 32 and side % 32 == 0 for side in s.input_size)
    body = (s.backbone or DEFAULT_BACKBONE) if kind.has_backbone else s.network
    deconvless = body.startswith("hrnet") and s.origin("head_channels").source != "default"
    near = Size(*(max(32, round(side / 32) * 32) for side in s.input_size))
    return [
        ("input_size", divisible, f"both sides must be multiples of 32; the nearest is {near}"),
        ("backbone", s.backbone is None or kind.has_backbone, f"is for whole images: --network {names}"),
        ("backbone", s.backbone not in HEADS, "is no backbone; give a network of one person, such as hrnet_w32"),
        ("fine", s.fine is None or s.network == "higher_hrnet", "is for --network higher_hrnet; leave it out"),
        ("adaptive", s.adaptive is None or s.network == "dekr", "is for --network dekr; leave it out"),
        (
            "metric",
            s.metric in kind.metrics,
            f"{s.network} finds people itself, and PCK and pixel error need people whose boxes are given; expected "
            f"{', '.join(kind.metrics[:-1])} or {kind.metrics[-1]}",
        ),
        (
            "decode",
            kind.has_decode or s.origin("decode").source == "default",
            f"{s.network} has a decoding of its own; leave it out",
        ),
        ("width", 0 < s.width <= 8, "must be above 0 and at most 8"),
        ("head", s.head == DEFAULT_HEAD or has_head_choice(s.network), f"{s.network} {_own_head(s)}; leave it out"),
        (
            "freeze",
            s.freeze == 0 or not body.startswith(TIMM),
            "semipose does not know the stages of timm's networks; leave it out",
        ),
        ("head_channels", s.head_channels >= 1, "must be at least 1"),
        ("head_channels", not deconvless, f"{body} has no deconvolutions; leave it out"),
    ]


def _own_head(s: Settings) -> str:
    return "has a head of its own" if s.kind.has_backbone else "merges all scales itself"


def _at_least(value: int | None, minimum: int) -> bool:
    return value is None or value >= minimum
