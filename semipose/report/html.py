"""Pieces of the report's page: its style sheet, tables, numbers and pictures as HTML text.

Whatever comes from data or files passes `text` (html.escape) before it is part of a page.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from numpy import uint8
from numpy.typing import NDArray

from semipose.drawing import encode_jpeg
from semipose.metrics.metric import digits

MINUS = "\N{MINUS SIGN}"
METRIC_NAMES = {
    "oks_ap": "OKS-AP",
    "oks_ap50": "OKS-AP50",
    "oks_ap75": "OKS-AP75",
    "oks_ar": "OKS-AR",
    "pixel_error": "pixel error",
}


def text(value: object) -> str:
    """`value` as text that is safe anywhere in a page."""
    return escape(str(value), quote=True)


def metric_name(key: str) -> str:
    """A metric as people write it: "pck_torso@0.1" -> "PCK-torso@0.1"."""
    return METRIC_NAMES.get(key) or key.replace("pck", "PCK").replace("_", "-")


def number(value: object, metric: str = "") -> str:
    """A number with the digits that mean something; a dash where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:.{digits(metric)}f}"


def signed(value: object, metric: str = "") -> str:
    """A difference, with a typographic minus."""
    plain = number(value, metric)
    if plain == "–":
        return plain
    plain = plain.removeprefix("-") if float(plain) == 0 else plain
    return plain.replace("-", MINUS) if plain.startswith("-") else f"+{plain}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """A table of finished HTML cells; the first column is the rows' names."""
    header = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def picture(image: NDArray[uint8], alt: str, caption: str) -> str:
    """An embedded jpeg of `image` (H, W, 3) RGB; `alt` and `caption` are plain text."""
    data = base64.b64encode(encode_jpeg(image, 84)).decode()
    return (
        f'<figure class="tile"><img width="{image.shape[1]}" height="{image.shape[0]}" loading="lazy" '
        f'alt="{text(alt)}" src="data:image/jpeg;base64,{data}"><figcaption>{text(caption)}</figcaption></figure>'
    )


def section(title: str, body: str, lead: str = "") -> str:
    """A section with heading; "" when it has no body."""
    intro = f'<p class="lead">{text(lead)}</p>' if lead else ""
    return f"<section><h2>{text(title)}</h2>{intro}{body}</section>" if body else ""


def folded(title: str, body: str) -> str:
    """Something that is there for whoever looks for it."""
    return f"<details><summary>{text(title)}</summary>{body}</details>" if body else ""


def plain(value: Any) -> str:
    """A setting's value as a person would write it, escaped."""
    if value is None:
        return '<span class="muted">none</span>'
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return text(", ".join(str(item) for item in value))
    return text(f"{value:g}" if isinstance(value, float) else value)


def page(title: str, body: str) -> str:
    """The whole file: it loads nothing from anywhere and runs no script."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f'<meta name="color-scheme" content="light dark">\n<title>{text(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


STYLE = """
:root { --paper:#fdfcfa; --card:#fff; --ink:#1d2126; --soft:#5c646e; --rule:#e3e0da; --grid:#ebe8e2;
  --good:#1a7f4b; --bad:#b3362b; --open:#8a6d1f; --accent:#2b5fa8;
  --t0:#2b5fa8; --t1:#d9730d; --t2:#1a8a6a; --t3:#a4428f; --t4:#8a6d1f; --t5:#4b8fd0; --t6:#b3362b; --t7:#5c646e; }
@media (prefers-color-scheme: dark) { :root { --paper:#15181c; --card:#1c2025; --ink:#e8e6e1; --soft:#9aa2ac;
  --rule:#30353c; --grid:#282d33; --good:#5cc98d; --bad:#f0877b; --open:#d9b84f; --accent:#86b4f0;
  --t0:#86b4f0; --t1:#f2a154; --t2:#5fd0ad; --t3:#dd8fcb; --t4:#d9b84f; --t5:#5b9bd8; --t6:#f0877b; --t7:#9aa2ac; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--paper); color:var(--ink);
  font:16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  -webkit-text-size-adjust:100%; }
main { max-width:60rem; margin:0 auto; padding:2.5rem 1.25rem 4rem; }
header { margin-bottom:1.75rem; }
h1 { font-size:1.75rem; line-height:1.2; letter-spacing:-.015em; margin:.15rem 0 .35rem; overflow-wrap:anywhere; }
h2 { font-size:1.15rem; letter-spacing:-.005em; margin:0 0 .35rem; }
h3 { font-size:.95rem; margin:1.5rem 0 .5rem; }
section { margin:2.75rem 0 0; padding-top:1.5rem; border-top:1px solid var(--rule); }
p { margin:.35rem 0 .75rem; max-width:44rem; }
.eyebrow { font-size:.8rem; font-weight:600; letter-spacing:.08em; text-transform:uppercase; margin:0;
  color:var(--accent); }
.lead, .small, .muted, header p { color:var(--soft); }
.small, small { font-size:.82rem; }
.answer { background:var(--card); border:1px solid var(--rule); border-left:5px solid var(--soft); border-radius:8px;
  padding:1.25rem 1.4rem 1rem; }
.answer.yes { border-left-color:var(--good); } .answer.no { border-left-color:var(--bad); }
.answer.unclear { border-left-color:var(--open); }
.answer .question { color:var(--soft); margin:0; font-size:.95rem; }
.answer .verdict { font-size:1.55rem; line-height:1.25; font-weight:650; letter-spacing:-.015em;
  margin:.15rem 0 .5rem; }
.answer.yes b { color:var(--good); } .answer.no b { color:var(--bad); } .answer.unclear b { color:var(--open); }
.scroll { overflow-x:auto; margin:.75rem 0; }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; font-size:.92rem; }
th, td { text-align:right; padding:.42rem .7rem; border-bottom:1px solid var(--rule); vertical-align:top;
  white-space:nowrap; }
thead th { font-weight:600; font-size:.8rem; color:var(--soft); border-bottom-color:var(--soft); }
th:first-child { text-align:left; padding-left:0; font-weight:500; }
td small, th small { display:block; color:var(--soft); font-weight:400; }
b { font-weight:650; }
table.words td { text-align:left; white-space:normal; overflow-wrap:anywhere; }
table.words thead th { text-align:left; }
table.keypoints td:last-child { width:140px; }
table.keypoints small { display:inline-block; min-width:8.2em; margin-left:.5em; }
.good { color:var(--good); } .bad { color:var(--bad); }
.charts { display:grid; grid-template-columns:repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap:1.5rem 2rem; }
figure { margin:0; }
.chart figcaption { font-size:.88rem; min-height:3.1rem; }
.chart svg { display:block; width:100%; height:auto; overflow:visible; }
.chart text { font-size:11.5px; fill:var(--soft); font-family:inherit; }
.chart text.x { text-anchor:middle; } .chart text.y { text-anchor:end; }
.grid { stroke:var(--grid); fill:none; }
.legend { list-style:none; display:flex; flex-wrap:wrap; gap:.1rem .9rem; margin:.1rem 0 0; padding:0;
  color:var(--soft); }
.legend svg { display:inline-block !important; width:22px !important; height:8px !important; margin-right:.35rem; }
.line { fill:none; stroke-width:2; stroke-linejoin:round; stroke-linecap:round; }
.dashed { stroke-dasharray:5 4; } .faint { opacity:.28; stroke-width:1; }
.t0 { stroke:var(--t0); } .t1 { stroke:var(--t1); } .t2 { stroke:var(--t2); } .t3 { stroke:var(--t3); }
.t4 { stroke:var(--t4); } .t5 { stroke:var(--t5); } .t6 { stroke:var(--t6); } .t7 { stroke:var(--t7); }
.dot { fill:var(--paper); stroke-width:1.6; }
.whisker { width:120px; height:14px; vertical-align:middle; }
.whisker .zero { stroke:var(--soft); opacity:.45; } .whisker .span { stroke-width:2; stroke:var(--soft); }
.whisker circle { fill:var(--soft); }
.whisker.good .span { stroke:var(--good); } .whisker.good circle { fill:var(--good); }
.whisker.bad .span { stroke:var(--bad); } .whisker.bad circle { fill:var(--bad); }
.tiles { display:grid; grid-template-columns:repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap:.9rem; }
.tiles.narrow { grid-template-columns:repeat(auto-fill, minmax(8.5rem, 1fr)); }
.tile img { display:block; width:100%; height:auto; border-radius:6px; }
.tile figcaption { font-size:.78rem; color:var(--soft); margin-top:.3rem; overflow-wrap:anywhere; line-height:1.35; }
.key { display:inline-block; width:.7em; height:.7em; border-radius:50%; margin:0 .3em 0 .2em; }
details { border-bottom:1px solid var(--rule); padding:.5rem 0; }
section > details:last-child, .scroll + p + details { border-bottom:0; }
summary { cursor:pointer; font-weight:550; }
pre { background:var(--card); border:1px solid var(--rule); border-radius:6px; padding:.75rem 1rem; font-size:.84rem;
  white-space:pre-wrap; overflow-wrap:anywhere; }
ul { padding-left:1.2rem; } li { margin:.15rem 0; overflow-wrap:anywhere; }
@media (max-width:30rem) { main { padding-top:1.5rem; } .answer .verdict { font-size:1.3rem; }
  th, td { padding:.4rem .5rem; } }
@media print { body { background:#fff; } section { break-inside:avoid; } details > * { display:block; } }
"""
