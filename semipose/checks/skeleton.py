"""What a skeleton's names do not tell: partners in a mirror, sigmas."""

from collections.abc import Iterator

from semipose.checks.finding import Finding, examples
from semipose.pose.names import names_a_side
from semipose.pose.skeleton import Skeleton


def check_skeleton(skeleton: Skeleton) -> Iterator[Finding]:
    """Findings about flip partners and sigmas."""
    sided = [name for i, name in enumerate(skeleton.keypoints) if skeleton.flip[i] == i and names_a_side(name)]
    if sided:
        yield Finding(
            "warning",
            f"keypoints that name a side have no partner for mirrored images: {examples(sided)}",
            "Give flip_pairs: [[a, b], ...] in a skeleton file, or switch mirroring off with --flip 0.",
        )
    elif not skeleton.flip_pairs:
        yield Finding(
            "note",
            "no keypoint has a left/right partner, so mirrored images keep all names",
            "If the body has two sides, give flip_pairs: [[a, b], ...] in a skeleton file; else nothing.",
        )
    if "default" in skeleton.sigmas_source:
        yield Finding(
            "note",
            f"OKS sigmas: {skeleton.sigmas_source}",
            "Give sigmas in a skeleton file when OKS-AP matters; PCK and pixel error need none.",
        )
