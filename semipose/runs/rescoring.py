"""Scores of found people learned from a run's labeled images: DEKR's rescoring (Geng et al., CVPR 2021)."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semipose.codecs.rescoring import Rescorer
from semipose.data.people import People
from semipose.errors import DataError, UsageError
from semipose.inference.model import Model
from semipose.metrics.oks import oks
from semipose.metrics.truth import areas_of
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.runs.run import Run
from semipose.runs.run_data import same_data


def rescored(run: Run | Model | str | Path, which: str, device: str) -> Model:
    """The network `which` of `run`, whose people's scores are times the OKS that their shape tells.

    That is learned from the people that the network finds in the run's labeled images, loaded again. Raises UsageError
    for another network than DEKR, or where `run` is no run; DataError where it finds nobody there.
    """
    if isinstance(run, Model) or str(run).endswith(".safetensors"):
        raise UsageError("--rescore learns from the labeled images of a run; give the run's folder, not its network.")
    run = run if isinstance(run, Run) else Run(run)
    model = run.model(which)
    if model.kind != "dekr":
        raise UsageError(f"--rescore is for dekr, and this network is {model.kind}; leave it out.")
    people = same_data(run).labeled
    found = model.predict_people(people, device=device)
    if len(found) == 0:
        raise DataError(
            f"{run.folder}: finds nobody in its labeled images, so no scores can be learned; leave out --rescore."
        )
    # The same scores every time, whatever random numbers were drawn before.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rescorer = Rescorer(model.skeleton)
    told = best_oks(found, people, model.skeleton)
    rescorer.fit(torch.from_numpy(found.keypoints), torch.from_numpy(found.scores), torch.from_numpy(told))
    model.rescorer = rescorer.eval()
    return model


def best_oks(found: Poses, people: People, skeleton: Skeleton) -> NDArray[np.float32]:
    """(N,) the OKS of each of those `found` with the person of its image that it fits best, 0 where nobody is."""
    truth, areas = people.poses, areas_of(people.poses)[0]
    labeled = (truth.visible > 0).any(1) & ~truth.crowd
    best = np.zeros(len(found), np.float32)
    for image in np.unique(found.image_ids):
        mine, there = np.flatnonzero(found.image_ids == image), np.flatnonzero(labeled & (truth.image_ids == image))
        if len(there):
            pairs = np.repeat(mine, len(there)), np.tile(there, len(mine))
            alike = oks(
                found.keypoints[pairs[0]],
                truth.keypoints[pairs[1]],
                truth.visible[pairs[1]],
                skeleton.sigmas,
                areas[pairs[1]],
            )
            best[mine] = alike.reshape(len(mine), -1).max(1)
    return best
