"""Learn scores of detected people from a run's labeled images: DEKR's rescoring (Geng et al., CVPR 2021)."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semipose.codecs.rescoring import Rescorer
from semipose.data.people import People
from semipose.errors import DataError, UsageError
from semipose.inference.model import Model
from semipose.inference.options import EvalOptions
from semipose.metrics.oks import oks
from semipose.metrics.truth import areas_of
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.runs.run import Run
from semipose.runs.run_data import same_data


def rescored(run: Run | Model | str | Path, which: str, device: str) -> Model:
    """Return network `which` of `run` with a rescorer, learned from people detected in the run's labeled images.

    The rescorer multiplies a person's score by the OKS that it predicts from the person's shape. Raises UsageError for
    other networks than DEKR and if `run` is no run; DataError if no people are detected.
    """
    if isinstance(run, Model) or str(run).endswith(".safetensors"):
        raise UsageError("--rescore learns from the labeled images of a run; give the run's folder, not its network.")
    run = run if isinstance(run, Run) else Run(run)
    model = run.model(which)
    if model.network_name != "dekr":
        raise UsageError(f"--rescore is for dekr, and this network is {model.network_name}; leave it out.")
    people = same_data(run).labeled
    detected = model.predict_people(people, EvalOptions(device=device))
    if len(detected) == 0:
        raise DataError(
            f"{run.folder}: detects no people in its labeled images, so no scores can be learned; leave out --rescore."
        )
    # A seed of its own: the same scores every time, whatever random numbers were drawn before.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rescorer = Rescorer(model.skeleton)
    targets = best_oks(detected, people, model.skeleton)
    rescorer.fit(torch.from_numpy(detected.keypoints), torch.from_numpy(detected.scores), torch.from_numpy(targets))
    model.rescorer = rescorer.eval()
    return model


def best_oks(detected: Poses, people: People, skeleton: Skeleton) -> NDArray[np.float32]:
    """Return (N,) the OKS of each detected pose with the best matching person of its image; 0 without people."""
    truth, areas = people.poses, areas_of(people.poses)[0]
    labeled = (truth.visible > 0).any(1) & ~truth.crowd
    best = np.zeros(len(detected), np.float32)
    for image in np.unique(detected.image_ids):
        rows = np.flatnonzero(detected.image_ids == image)
        matches = np.flatnonzero(labeled & (truth.image_ids == image))
        if len(matches):
            pairs = np.repeat(rows, len(matches)), np.tile(matches, len(rows))
            similarity = oks(
                detected.keypoints[pairs[0]],
                truth.keypoints[pairs[1]],
                truth.visible[pairs[1]],
                skeleton.sigmas,
                areas[pairs[1]],
            )
            best[rows] = similarity.reshape(len(rows), -1).max(1)
    return best
