"""Options for applying a network, shared by evaluation and prediction."""

from dataclasses import dataclass

from semipose.codecs.heatmap import Decoding
from semipose.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Options of evaluation and prediction; raises UsageError for a batch size below 1.

    - `device`: auto, cpu, cuda, cuda:N or mps.
    - `flip_test`: average each prediction with that of the mirrored image.
    - `batch_size`: people, or whole images, per pass.
    - `decode`: how a sub-pixel position is read from a heatmap.
    - `scales`: sizes in which a detector-free network sees an image, relative to its own input size.
    - `rescore`: score people by DEKR's rescoring, learned from the run's labeled images.
    """

    device: str = "auto"
    flip_test: bool = False
    batch_size: int = 64
    decode: Decoding = "dark"
    scales: tuple[float, ...] = (1.0,)
    rescore: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"--batch-size {self.batch_size}: expected at least 1.")
        # Callers may give any sequence, such as a list.
        object.__setattr__(self, "scales", tuple(self.scales))


DEFAULTS = EvalOptions()
