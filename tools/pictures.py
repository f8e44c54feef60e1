"""`make pictures`: docs/images/detect-*.svg, sessions of the demo on their time axis and what was told of them, by the program itself."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
STREAM = ROOT / "agentwatch" / "demo" / "stream.jsonl"

PICTURES = {
    "error_loop": "attempt-101-login",
    "tool_loop": "attempt-102-tests",
    "stuck_agent": "attempt-103-settings",
    "cost_anomaly": "attempt-104-importer",
}
"""Which session shows which rule."""

WIDTH, LEFT, RIGHT = 900, 90, 24
ROWS = {"session_start": "start", "agent_output": "says", "tool_call": "call", "tool_result": "result", "error": "error", "session_end": "end"}
ROW_H, TOP = 22, 30
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #57606a } .told { fill: #b3261e; font-weight: 600 }
.line { stroke: #d0d7de } .alert { stroke: #b3261e; stroke-width: 2 } .window { fill: #b3261e; opacity: .10 }
.mark { fill: #4c6b8a } .error { fill: #b3261e } .start, .end { fill: #1a7f37 }
@media (prefers-color-scheme: dark) { text { fill: #9da7b3 } .line { stroke: #3d444d } .mark { fill: #8fb3d9 } }
"""


class Told(NamedTuple):
    """An alert: when its evidence was complete, the evidence's times, and what it says."""

    at: float
    evidence: list[float]
    text: str


def _seconds(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def alerts() -> list[dict[str, Any]]:
    """What `agentwatch run --once` tells of the demo's stream."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(STREAM, Path(folder, "agent-work-stream.jsonl"))
        environ = {**os.environ, "AGENTWATCH_SOURCES": "none", "PYTHONPATH": str(ROOT), "HOME": folder}
        command = [sys.executable, "-m", "agentwatch", "run", "--once", "--log-dir", folder]
        subprocess.run(command, env=environ, cwd=folder, capture_output=True, check=True)
        return [json.loads(line) for line in Path(folder, "agent-alerts.jsonl").read_text("utf-8").splitlines()]


def picture(events: list[dict[str, Any]], told: list[Told]) -> str:
    """Marks by kind over time; a red line where something was told, shaded what it rests on."""
    start = _seconds(events[0])
    end = max([_seconds(events[-1]), *(one.at for one in told)])
    scale = (WIDTH - LEFT - RIGHT) / (end - start)
    kinds = [kind for kind in ROWS if any(event["event_type"] == kind for event in events)]
    bottom = TOP + ROW_H * len(kinds)

    def x(at: float) -> float:
        return round(LEFT + (at - start) * scale, 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {bottom + 30 + 20 * len(told)}" xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>']
    for number, one in enumerate(told, 1):
        first = min([*one.evidence, one.at])
        parts.append(f'<rect class="window" x="{x(first)}" y="{TOP - 8}" width="{max(1.0, x(one.at) - x(first)):.1f}" height="{bottom - TOP + 8}"/>')
        parts.append(f'<line class="alert" x1="{x(one.at)}" x2="{x(one.at)}" y1="{TOP - 8}" y2="{bottom}"/>')
        parts.append(f'<text class="told" x="{x(one.at)}" y="{TOP - 13}" text-anchor="middle">{number}</text>')
        parts.append(f'<text x="{LEFT}" y="{bottom + 38 + 20 * (number - 1)}"><tspan class="told">{number}</tspan>  {escape(one.text)}</text>')
    for row, kind in enumerate(kinds):
        y = TOP + ROW_H * row
        parts.append(f'<text x="{LEFT - 12}" y="{y + 10}" text-anchor="end">{ROWS[kind]}</text>')
        parts.append(f'<line class="line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y + 6}" y2="{y + 6}"/>')
        marks = [event for event in events if event["event_type"] == kind]
        parts += [f'<rect class="mark {ROWS[kind]}" x="{x(_seconds(event)) - 3:.1f}" y="{y}" width="6" height="12" rx="1"/>' for event in marks]
    minutes = int((end - start) // 60)
    step = max(1, minutes // 8)
    parts += [f'<text x="{x(start + 60 * minute)}" y="{bottom + 12}" text-anchor="middle">{minute} min</text>' for minute in range(0, minutes + 1, step)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    events = [json.loads(line) for line in STREAM.read_text("utf-8").splitlines()]
    found = alerts()
    for kind, attempt in PICTURES.items():
        told = [
            Told(
                _seconds(one),
                [_seconds(line) for line in one["evidence"]],
                textwrap.shorten(f"{one['type']}, {one['severity']}: {one['summary']}", 120, placeholder=" …"),
            )
            for one in found
            if one["attempt_id"] == attempt and one["status"] == "open"
        ]
        mine = [event for event in events if event["attempt_id"] == attempt]
        (IMAGES / f"detect-{kind.replace('_', '-')}.svg").write_text(picture(mine, told), "utf-8")


if __name__ == "__main__":
    main()
