from pathlib import Path

import pytest

from semipose.errors import DataError
from semipose.formats.labels import load_labels
from semipose.pose.names import flip_by_names
from semipose.pose.skeleton import PRESETS, Skeleton

COCO_SIGMAS = (
    0.026,
    0.025,
    0.025,
    0.035,
    0.035,
    0.079,
    0.079,
    0.072,
    0.072,
    0.062,
    0.062,
    0.107,
    0.107,
    0.087,
    0.087,
    0.089,
    0.089,
)
MOUSE = {"name": "mouse", "keypoints": ["snout", "leftear", "rightear", "tail"]}


@pytest.mark.parametrize(
    ("names", "pairs", "remark"),
    [
        (["snout", "leftear", "rightear", "tailbase"], [(1, 2)], "no separator"),
        (["Left Eye", "right-eye"], [(0, 1)], "case, space and dash"),
        (["earLeft", "earRight"], [(0, 1)], "side behind"),
        (["l_hip", "r_hip", "lip"], [(0, 1)], "short prefix; lip has no rip"),
        (["lsho", "rsho", "lwri", "rear"], [(0, 1)], "three-letter codes; rear and lwri stay alone"),
        (["hip_L", "hip_R", "knee_l_1", "knee_r_1"], [(0, 1), (2, 3)], "short token anywhere"),
        (["paw_LF", "paw_RF", "paw_LH", "paw_RH"], [(0, 1), (2, 3)], "side and place in one token"),
        (["earL", "EarR"], [(0, 1)], "capital at the end"),
        (["shol", "shor"], [(0, 1)], "last letter"),
        (["l_x_l", "r_x_l", "r_x_r"], [(0, 2)], "nobody has two partners"),
        (["left_eye_left", "right_eye_right", "left_eye_right", "right_eye_left"], [(0, 1), (2, 3)], "two sides"),
        (["nose_top", "nose_bot", "obs_top"], [], "top and bottom are no sides"),
        (["paw1LH_top", "paw2LF_top", "paw3RF_top", "paw4RH_top"], [], "numbers differ: not guessed"),
        (["left_ear", "right_eye"], [], "partners of nothing"),
        (["Hand", "Finger1", "Tongue", "Joystick1", "Joystick2"], [], "no sides at all"),
    ],
)
def test_partners_are_found_by_name(names: list[str], pairs: list[tuple[int, int]], remark: str) -> None:
    flip = flip_by_names(names)
    assert [(i, j) for i, j in enumerate(flip) if i < j] == pairs, remark
    assert [flip[j] for j in flip] == list(range(len(names)))


def test_presets_have_their_sets_values() -> None:
    assert PRESETS["coco_17"].sigmas == COCO_SIGMAS
    assert {name: len(preset) for name, preset in PRESETS.items()} == {
        "coco_17": 17,
        "mpii_16": 16,
        "aic_14": 14,
        "crowdpose_14": 14,
        "lsp_14": 14,
        "wepdtof_14": 14,
    }
    assert PRESETS["wepdtof_14"].sigmas == (0.079, 0.072, 0.062) * 2 + (0.107, 0.087, 0.089) * 2 + (0.026, 0.026)
    assert PRESETS["wepdtof_14"].keypoints == PRESETS["aic_14"].keypoints


def test_the_torso_goes_from_shoulders_to_opposite_hips() -> None:
    assert PRESETS["coco_17"].torso == ((5, 12), (6, 11))
    short = Skeleton.from_category({"keypoints": ["lsho", "rsho", "lhip", "rhip"]})
    assert short.torso == ((0, 3), (1, 2))
    assert Skeleton.from_category({"keypoints": ["left_shoulder", "right_hip"]}).torso == ()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_partners_a_torso_and_survives_json(name: str) -> None:
    preset = PRESETS[name]
    assert all(preset.flip[i] != i for i, key in enumerate(preset.keypoints) if key.startswith(("left", "right")))
    assert len(preset.torso) == 2
    assert Skeleton.from_dict(preset.to_dict()) == preset
    again = Skeleton.from_category(preset.to_category())
    assert (again.keypoints, again.bones, again.flip) == (preset.keypoints, preset.bones, preset.flip)


@pytest.mark.parametrize(
    ("category", "source", "first", "remark"),
    [
        ({"keypoints": list(PRESETS["coco_17"].keypoints)}, "COCO-17 preset", 0.026, "same names"),
        ({"keypoints": [k.replace("_", " ") for k in PRESETS["mpii_16"].keypoints]}, "MPII-16", 0.089, "spelling"),
        ({"keypoints": list(PRESETS["lsp_14"].keypoints)}, "LSP-14", 0.089, "LSP's order"),
        ({"keypoints": list(PRESETS["aic_14"].keypoints)}, "AIC-14", 0.01388152, "AIC's order of the same names"),
        ({"keypoints": list(PRESETS["coco_17"].keypoints[::-1])}, "COCO-17 preset", 0.089, "another order"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1, 0.2]}, "given in json", 0.1, "in the category"),
        ({"keypoints": ["left_ear", "right_ear"]}, "COCO-17 by name", 0.035, "all from COCO"),
        ({"keypoints": ["tail", "nose"]}, "COCO-17 by name; default 0.072 for tail", 0.072, "partly"),
        ({"keypoints": ["snout", "tail"]}, "default 0.072 (no published sigmas)", 0.072, "none known"),
    ],
)
def test_sigmas_say_where_they_come_from(category: dict, source: str, first: float, remark: str) -> None:
    skeleton = Skeleton.from_category(category)
    assert skeleton.sigmas_source.startswith(source), remark
    assert skeleton.sigmas[0] == first, remark


def test_bones_are_counted_from_one_in_a_category_and_may_be_missing_or_broken() -> None:
    assert Skeleton.from_category(MOUSE | {"skeleton": [[1, 2], [2, 4]]}).bones == ((0, 1), (1, 3))
    assert Skeleton.from_category(MOUSE).bones == ()
    crowdpose = PRESETS["crowdpose_14"].to_category() | {"skeleton": [[16, 14], [1, 2]]}
    assert Skeleton.from_category(crowdpose).bones == PRESETS["crowdpose_14"].bones


def test_an_override_replaces_partners_bones_and_sigmas() -> None:
    override = {
        "flip_pairs": [["snout", "tail"]],
        "skeleton": [["snout", "Left Ear"]],
        "sigmas": {"snout": 0.1, "leftear": 0.2, "rightear": 0.2, "tail": 0.3},
    }
    skeleton = Skeleton.from_category(MOUSE, override, override_source="file x.yaml")
    assert skeleton.flip == (3, 1, 2, 0)
    assert skeleton.bones == ((0, 1),)
    assert skeleton.sigmas == (0.1, 0.2, 0.2, 0.3)
    assert skeleton.sigmas_source == "file x.yaml"
    assert Skeleton.from_category(MOUSE, {"flip_pairs": []}).flip == (0, 1, 2, 3)
    fisheye = Skeleton.from_category(PRESETS["lsp_14"].to_category(), {"sigmas": "wepdtof_14"})
    assert dict(zip(fisheye.keypoints, fisheye.sigmas, strict=True))["head_top"] == 0.026


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"flip_pair": []}, "did you mean 'flip_pairs'"),
        ({"flip_pairs": [["snout", "tial"]]}, "did you mean 'tail'"),
        ({"flip_pairs": [["snout", "tail"], ["tail", "leftear"]]}, "tail twice"),
        ({"flip_pairs": [["snout", "snout"]]}, "with itself"),
        ({"flip_pairs": "leftear"}, "pairs of names"),
        ({"sigmas": {"snout": 0.1}}, "leaves out leftear, rightear, tail"),
        ({"sigmas": [0.1, 0.1, 0.1, 0]}, "4 numbers above 0"),
        ({"sigmas": "coco_17"}, "no preset with these keypoints"),
        ({"keypoints": ["a", "b", "c", "d"]}, "can only be given for a category that has none"),
    ],
)
def test_a_wrong_override_is_refused(override: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Skeleton.from_category(MOUSE, override)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keypoints": ()}, "has no keypoints"),
        ({"keypoints": ("a", "a")}, "more than once"),
        ({"flip": (1, 1)}, "expected pairs that swap"),
        ({"sigmas": (0.1,)}, "expected 2 numbers"),
        ({"bones": ((0, 2),)}, "indices of its 2 keypoints"),
    ],
)
def test_a_wrong_skeleton_is_refused(change: dict, said: str) -> None:
    sound = {
        "name": "x",
        "keypoints": ("a", "b"),
        "bones": (),
        "flip": (0, 1),
        "sigmas": (0.1, 0.1),
        "sigmas_source": "",
    }
    with pytest.raises(DataError, match=said):
        Skeleton(**(sound | change))


def test_a_stored_skeleton_that_misses_a_part_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Skeleton.from_dict({"name": "x"})


@pytest.mark.parametrize(
    ("name", "pairs"),
    [("openfield", (("leftear", "rightear"),)), ("mirror_mouse", ()), ("reaching", ())],
)
def test_laboratory_mice_get_the_partners_their_names_tell(data_root: Path, name: str, pairs: tuple) -> None:
    folder = data_root / "animal" / name
    people = load_labels(folder / "annotations" / "keypoints_train.json", folder / "images")
    assert people.skeleton is not None
    assert people.skeleton.flip_pairs == pairs
