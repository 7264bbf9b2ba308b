"""Print the methods as text: a table for the terminal or the README, a page for each method."""

import textwrap

from semipose.config.parsing import expected
from semipose.methods import MethodInfo, available, describe

WIDTH = 100


def table(markdown: bool = False) -> str:
    """List all methods with their first line, deployed network and options."""
    infos = [describe(name) for name in available()]
    return _markdown(infos) if markdown else "\n\n".join(_block(info) for info in infos)


def explain(name: str) -> str:
    """Describe one method: its docstring, and each option with type, default and help."""
    info = describe(name)
    rows = [f"{info.name} ({info.source})", "", info.docstring, "", f"deployed: {deployed(info)}", ""]
    for option in info.options:
        rows.append(f"  --method.{option.name}  {expected(option.type)}; default {option.default}")
        rows.append(textwrap.indent(option.help, "      "))
    return "\n".join(rows)


def deployed(info: MethodInfo) -> str:
    """Name the network that is used after training, in words."""
    return f"the {info.deployed}" if info.deployed else "whichever is best on val"


def _options(info: MethodInfo) -> str:
    return ", ".join(f"{option.name}={option.default}" for option in info.options) or "none"


def _block(info: MethodInfo) -> str:
    options = textwrap.fill(f"options: {_options(info)}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    return f"{info.name}\n  {info.summary}\n  deployed: {deployed(info)}\n{options}"


def _markdown(infos: list[MethodInfo]) -> str:
    head = "| method | what it does | deployed | options |\n|---|---|---|---|\n"
    return head + "\n".join(
        f"| `{info.name}` | {info.summary} | {deployed(info)} | `{_options(info)}` |" for info in infos
    )
