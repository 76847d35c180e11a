"""Bars as SVG: one picture a figure, the hub beside its peers, each with the range of its rounds; pure."""

import re
from collections.abc import Sequence
from html import escape

from clients.load.peers.figures import HUB, Line, Range, short

WIDTH, LEFT, RIGHT, TOP, STEP, BAR = 640, 110, 150, 56, 34, 20
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.t{font-weight:600}.u{fill:#666}"
    ".hub{fill:#0b6e4f}.peer{fill:#9aa5b1}.range{stroke:#222;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#eee}.u{fill:#aaa}.range{stroke:#eee}}"
)


def bars(title: str, unit: str, values: Sequence[tuple[str, Range]]) -> str:
    """
    A picture of at least one value: a bar to each median, a line from the lowest to the highest.

    Bars begin at zero, so lengths compare as the figures do.
    """
    longest = max(value.high for _, value in values) or 1.0
    height = TOP + STEP * len(values) + 8
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="t" x="8" y="20">{escape(title)}</text><text class="u" x="8" y="39">{escape(unit)}</text>',
    ]
    for number, (name, value) in enumerate(values):
        y = TOP + STEP * number
        middle = y + BAR / 2
        low, high = LEFT + value.low * scale, LEFT + value.high * scale
        kind = "hub" if name == HUB else "peer"
        parts += [
            f'<text x="{LEFT - 8}" y="{middle + 5:g}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{value.median * scale:.1f}" height="{BAR}" rx="2"/>',
            f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>',
            f'<text x="{high + 8:.1f}" y="{middle + 5:g}">{escape(short(value.median))}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def pictures(lines: Sequence[Line]) -> dict[str, str]:
    """File name to SVG, one for each figure."""
    grouped: dict[tuple[str, str, str], list[tuple[str, Range]]] = {}
    for line in lines:
        question = line.question
        grouped.setdefault((question.scenario, question.title, question.unit), []).append((line.server, line.value))
    return {
        f"{file_name(scenario, title)}.svg": bars(f"{scenario}: {title}", unit, values)
        for (scenario, title, unit), values in grouped.items()
    }


def file_name(scenario: str, title: str) -> str:
    """Words of a title as a file's name, without its ending."""
    return re.sub(r"[^a-z0-9]+", "-", f"{scenario} {title}".lower()).strip("-")
