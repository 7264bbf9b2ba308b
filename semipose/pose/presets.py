"""Tables of published skeletons: keypoints in the data set's order, OKS sigmas and bones.

Where a data set publishes no sigmas, the preset's source says so and names the values used instead.
"""

_LIMB_SIGMAS = {
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}

_COCO = {
    "nose": 0.026,
    "left_eye": 0.025,
    "right_eye": 0.025,
    "left_ear": 0.035,
    "right_ear": 0.035,
    "left_shoulder": 0.079,
    "right_shoulder": 0.079,
    "left_elbow": 0.072,
    "right_elbow": 0.072,
    "left_wrist": 0.062,
    "right_wrist": 0.062,
    "left_hip": 0.107,
    "right_hip": 0.107,
    "left_knee": 0.087,
    "right_knee": 0.087,
    "left_ankle": 0.089,
    "right_ankle": 0.089,
}

_MPII = {
    "right_ankle": 0.089,
    "right_knee": 0.083,
    "right_hip": 0.107,
    "left_hip": 0.107,
    "left_knee": 0.083,
    "left_ankle": 0.089,
    "pelvis": 0.026,
    "thorax": 0.026,
    "upper_neck": 0.026,
    "head_top": 0.026,
    "right_wrist": 0.062,
    "right_elbow": 0.072,
    "right_shoulder": 0.179,
    "left_shoulder": 0.179,
    "left_elbow": 0.072,
    "left_wrist": 0.062,
}

_AIC = {
    "right_shoulder": 0.01388152,
    "right_elbow": 0.01515228,
    "right_wrist": 0.01057665,
    "left_shoulder": 0.01417709,
    "left_elbow": 0.01497891,
    "left_wrist": 0.01402144,
    "right_hip": 0.03909642,
    "right_knee": 0.03686941,
    "right_ankle": 0.01981803,
    "left_hip": 0.03843971,
    "left_knee": 0.03412318,
    "left_ankle": 0.02415081,
    "head_top": 0.01291456,
    "neck": 0.01236173,
}

_CROWDPOSE = {
    "left_shoulder": 0.079,
    "right_shoulder": 0.079,
    "left_elbow": 0.072,
    "right_elbow": 0.072,
    "left_wrist": 0.062,
    "right_wrist": 0.062,
    "left_hip": 0.107,
    "right_hip": 0.107,
    "left_knee": 0.087,
    "right_knee": 0.087,
    "left_ankle": 0.089,
    "right_ankle": 0.089,
    "head": 0.079,
    "neck": 0.079,
}

_LSP = {
    "right_ankle": 0.089,
    "right_knee": 0.087,
    "right_hip": 0.107,
    "left_hip": 0.107,
    "left_knee": 0.087,
    "left_ankle": 0.089,
    "right_wrist": 0.062,
    "right_elbow": 0.072,
    "right_shoulder": 0.079,
    "left_shoulder": 0.079,
    "left_elbow": 0.072,
    "left_wrist": 0.062,
    "neck": 0.079,
    "head_top": 0.079,
}

# AIC's order with COCO's values for the limbs, as in the fisheye evaluation of SSPCM's code.
_WEPDTOF = {name: _LIMB_SIGMAS.get(name.partition("_")[2], 0.026) for name in _AIC}

_COCO_BONES = (
    "left_ankle left_knee, left_knee left_hip, right_ankle right_knee, right_knee right_hip, left_hip right_hip, "
    "left_shoulder left_hip, right_shoulder right_hip, left_shoulder right_shoulder, left_shoulder left_elbow, "
    "right_shoulder right_elbow, left_elbow left_wrist, right_elbow right_wrist, left_eye right_eye, "
    "nose left_eye, nose right_eye, left_eye left_ear, right_eye right_ear, left_ear left_shoulder, "
    "right_ear right_shoulder"
)
_MPII_BONES = (
    "right_ankle right_knee, right_knee right_hip, right_hip pelvis, left_hip pelvis, left_ankle left_knee, "
    "left_knee left_hip, pelvis thorax, thorax upper_neck, upper_neck head_top, thorax right_shoulder, "
    "right_shoulder right_elbow, right_elbow right_wrist, thorax left_shoulder, left_shoulder left_elbow, "
    "left_elbow left_wrist"
)
_BONES = (
    "right_ankle right_knee, right_knee right_hip, left_ankle left_knee, left_knee left_hip, right_hip left_hip, "
    "right_shoulder right_hip, left_shoulder left_hip, neck right_shoulder, right_shoulder right_elbow, "
    "right_elbow right_wrist, neck left_shoulder, left_shoulder left_elbow, left_elbow left_wrist, head_top neck"
)

TABLES: dict[str, tuple[dict[str, float], str, str]] = {
    "coco_17": (_COCO, _COCO_BONES, "COCO-17 preset"),
    "mpii_16": (_MPII, _MPII_BONES, "MPII-16 preset (MPII publishes none; the values MMPose uses)"),
    "crowdpose_14": (_CROWDPOSE, _BONES.replace("head_top", "head"), "CrowdPose-14 preset"),
    "lsp_14": (_LSP, _BONES, "LSP-14 preset (LSP publishes none; COCO's values by body part)"),
    "aic_14": (_AIC, _BONES, "AIC-14 preset"),
    "wepdtof_14": (_WEPDTOF, _BONES, "WEPDTOF-14 preset (COCO's values by body part)"),
}
"""Sigmas by keypoint name, bones, and the source of the sigmas.

AIC, LSP and WEPDTOF share their names. AIC is recognized by its order, and any other order is taken for LSP. Choose
WEPDTOF's values with `sigmas: wepdtof_14` in a skeleton file.
"""


def bone_names(bones: str) -> list[tuple[str, str]]:
    """Split the bones of a table into pairs of names."""
    return [(a, b) for a, _, b in (bone.partition(" ") for bone in bones.split(", "))]
