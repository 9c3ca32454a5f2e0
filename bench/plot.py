"""Plots of figures that other commands wrote with --json, as PNG and SVG.

The machine, the load of others before the run, and how a write is made durable stand below each
plot: without them a figure says nothing.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.drawings import DRAWINGS, Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELP = "draw files of figures, as PNG and SVG"
FORMATS = ("png", "svg")
SIZE_INCHES = (9.0, 5.6)
DOTS_PER_INCH = 150
FOOTER_WIDTH = 170
FOOTER_LINE = 0.021
"""Of the height, for each line below."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="written with --json")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: beside each file")


def run(arguments: argparse.Namespace, console: Console) -> int:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        console.print("plots need matplotlib: python -m pip install 'rsqlite[bench]'", markup=False)
        return 2
    code = 0
    for file in arguments.files:
        content = json.loads(file.read_text())
        drawing = DRAWINGS.get(content.get("kind"))
        if drawing is None:
            console.print(f"{file}: no plot for figures of {content.get('kind')!r}", markup=False)
            code = 2
            continue
        folder = arguments.output or file.parent
        folder.mkdir(parents=True, exist_ok=True)
        for path in save(drawn(content, drawing), folder / file.stem):
            console.print(str(path), highlight=False, markup=False)
    return code


def drawn(content: dict[str, Any], drawing: Drawing) -> Figure:
    """The plot of one file, with what it was measured on."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    text = footer(content)
    below = FOOTER_LINE * (text.count("\n") + 2)
    layout = ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below))
    figure = Figure(figsize=SIZE_INCHES, layout=layout)
    drawing(figure, content)
    figure.text(0.01, 0.01, text, fontsize=6.5, color="#555555", va="bottom")
    return figure


def footer(content: dict[str, Any]) -> str:
    """The machine and the sync mode, in words."""
    machine = content["machine"]
    versions = ", ".join(
        f"{name} {version}" for name, version in machine["packages"].items() if version
    )
    words = [
        f"{machine['processor']}, {machine['cores']} cores for nodes, clients and disk; "
        f"{machine['system']}, Python {machine['python']}; load before the run "
        f"{content['load_before']}",
        versions,
        f"sync: {content['sync']}",
        " ".join(content["command"]),
    ]
    if "ours_sync" in content:
        words.insert(3, f"ours: {content['ours_sync']}")
    lines = [line for one in words for line in textwrap.wrap(one, FOOTER_WIDTH)]
    return "\n".join(lines)


def save(figure: Figure, stem: Path) -> list[Path]:
    """The files that were written."""
    from matplotlib import rc_context

    paths = []
    # The same figures give the same file, and its words stay words.
    with rc_context({"svg.hashsalt": "rsqlite", "svg.fonttype": "none"}):
        for form in FORMATS:
            path = stem.with_name(f"{stem.name}.{form}")
            metadata = {"Date": None} if form == "svg" else {"Software": None}
            figure.savefig(path, format=form, dpi=DOTS_PER_INCH, metadata=metadata)
            paths.append(path)
    return paths
