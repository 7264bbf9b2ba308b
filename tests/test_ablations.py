"""Every row of the accuracy benchmark that changes a part of a method does change it."""

from benchmarks.accuracy import ABLATIONS, ROWS
from semipose import methods


def settings(method: str, options: dict[str, object]) -> dict[str, object]:
    """All options of `method`, those that are given and the defaults of the others."""
    defaults = {option.name: option.default for option in methods.describe(method).options}
    assert set(options) <= set(defaults)
    return defaults | options


def test_an_ablation_is_neither_the_method_itself_nor_another_ablation() -> None:
    rows = {name: (method, settings(method, options)) for name, (method, options, _) in {**ROWS, **ABLATIONS}.items()}
    del rows["bound"]  # other labels
    names = list(rows)
    same = {(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if rows[a] == rows[b]}
    assert same == set()
