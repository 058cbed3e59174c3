"""What reports are made of: one HTML file that needs nothing beside it, its tables, and pictures as SVG text.

Notable: figures are drawn without pyplot, so nothing global changes and no display is needed; the same figures give the
same bytes, and text stays text, so a report can be searched. Cells of tables are escaped: they may be the user's data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from twotower.cli import plain
from twotower.files import atomic_directory

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733; }
table { display: block; overflow-x: auto; border-collapse: collapse; margin: 1rem 0; font-size: 13px; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #dde3ea; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.model { background: #eaf3fa; } .note { color: #a04000; } svg { max-width: 100%; height: auto; }
"""


def write_folder(folder: str | Path, html: str, **figures: Any) -> None:
    """`report.html` and NAME.json for each of `figures`, NaN and infinity as null, in a new folder, whole or not at
    all. Raises OutputError: the folder exists already or cannot be written."""
    with atomic_directory(folder) as partial:
        (partial / "report.html").write_text(html, encoding="utf-8")
        for name, data in figures.items():
            text = json.dumps(plain(data), indent=1, ensure_ascii=False, allow_nan=False)
            (partial / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def page(title: str, body: Iterable[str]) -> str:
    """The file; `body` is HTML already, the title is not."""
    head = f'<head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head>'
    return f'<!DOCTYPE html>\n<html lang="en">{head}<body>\n' + "\n".join(body) + "\n</body></html>\n"


def table(head: Iterable[str], rows: Iterable[Sequence[str]], model: str | None = None) -> str:
    """Rows of plain text; the one whose first cell is `model` stands out."""
    lines = ["<table>", "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in rows:
        mark = ' class="model"' if model is not None and row[0] == model else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return "\n".join([*lines, "</table>"])


def svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    """What `draw` draws on a matplotlib figure of so many inches."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "twotower", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
