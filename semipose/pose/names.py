"""Keypoint names: when two writings are the same name, and which name is another's mirror image."""

import difflib
import re
from collections.abc import Iterable, Sequence

SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")


def normalized(name: str) -> str:
    """A name without case, spaces and punctuation: "Right-ankle" and "right_ankle" are the same keypoint."""
    return re.sub(r"[\W_]+", "", name.casefold())


def nearest(word: object, known: Iterable[str]) -> str:
    """The sentence " Did you mean 'x'?" when a known name is close, else nothing."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def flip_by_names(names: Sequence[str]) -> tuple[int, ...]:
    """Partner of every name by left and right in it, its own index where there is none.

    Tried from the clearest writing to the shortest: "left_ear"/"right_ear" or "earLeft"/"earRight", "l_hip"/"r_hip",
    "paw_LF"/"paw_RF", "lsho"/"rsho", "earL"/"earR". A pair needs both partners, so "lip" or "tail_top" stay alone.

    >>> flip_by_names(["snout", "leftear", "rightear", "tail_top"])
    (0, 2, 1, 3)
    """
    flip = list(range(len(names)))
    at = {normalized(name): i for i, name in enumerate(names)}
    for mirrored in (_swap_words, _swap_tokens, _swap_first, _swap_last):
        for i, name in enumerate(names):
            if flip[i] != i:
                continue
            partners = (at.get(other, i) for other in mirrored(name))
            j = next((j for j in partners if j != i and flip[j] == j), i)
            flip[i], flip[j] = j, i
    return tuple(flip)


def names_a_side(name: str) -> bool:
    """Whether a name speaks of a side: "left_ear", "l_hip", or a token such as LH (left hind) in capitals."""
    tokens = _TOKEN.findall(name)
    short = any(token.casefold() in SIDES or (token.isupper() and token[0] in "LR") for token in tokens)
    return short or bool(re.search("left|right", normalized(name)))


def _swap_words(name: str) -> list[str]:
    # Every occurrence: the mirror image of "left_eye_left_corner" is "right_eye_right_corner".
    return [re.sub("left|right", lambda match: SIDES[match[0]], normalized(name))]


def _swap_tokens(name: str) -> list[str]:
    # "hip_L_1" -> "hip_R_1"; then one token of the shape LF, RH (side, then place) -> RF, LH.
    tokens = [token.casefold() for token in _TOKEN.findall(name)]
    whole = "".join(SIDES.get(token, token) for token in tokens)
    parts = ["".join([*tokens[:i], _swap_head(token), *tokens[i + 1 :]]) for i, token in enumerate(tokens) if i]
    return [whole, *parts]


def _swap_head(word: str) -> str:
    return SIDES[word[0]] + word[1:] if word[:1] in ("l", "r") else word


def _swap_first(name: str) -> list[str]:
    return [_swap_head(normalized(name))]


def _swap_last(name: str) -> list[str]:
    return [_swap_head(normalized(name)[::-1])[::-1]]


_PLURALS = {"person": "people", "human": "humans", "mouse": "mice", "rat": "rats", "fly": "flies", "fish": "fish"}


def plural(category: str) -> str:
    """The plural of a category's name for messages: "people", "mice"; "instances of lynx" where it is not known."""
    return _PLURALS.get(category.casefold(), f"instances of {category}")


def counted(number: int, category: str) -> str:
    """A number of instances in words: "1 person", "466 mice", "2 instances of lynx"."""
    if number == 1:
        return f"1 {category}" if category.casefold() in _PLURALS else f"1 instance of {category}"
    return f"{number} {plural(category)}"
