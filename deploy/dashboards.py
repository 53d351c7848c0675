"""Grafana's dashboards, `deploy/grafana/dashboards/*.json`, made from the panels of `deploy.panels`.

`python -m deploy.dashboards` writes the files; with `--check` it writes nothing and exits 1 when one is not
what it would write. Promises: every panel asks Prometheus or a view of `heed_read`, has a unit and a sentence
that says how to read it; the same input gives the same bytes.
Limits: Grafana 10 or later. Two data sources, by the uids that `deploy/grafana/provisioning` gives them.
Called by hand, and by a test that keeps the files fresh.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from deploy import panels

FOLDER: Final = Path(__file__).with_name("grafana") / "dashboards"
COLUMNS: Final = 24
SOURCES: Final = {
    "prometheus": {"type": "prometheus", "uid": "heed-prometheus"},
    "sql": {"type": "postgres", "uid": "heed-postgres"},
}


def dashboard(made: panels.Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    return {
        "uid": f"heed-{made.name}",
        "title": f"Heed: {made.title}",
        "description": made.about,
        "tags": ["heed"],
        "timezone": "utc",
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": made.refresh,
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {"type": "dashboards", "title": "Heed", "tags": ["heed"], "asDropdown": True, "keepTime": True}
        ],
        "templating": {"list": []},
        "annotations": {"list": []},
        "panels": _placed(made.panels),
    }


def files() -> dict[Path, str]:
    """Every file as it must stand."""
    return {FOLDER / f"{one.name}.json": json.dumps(dashboard(one), indent=1) + "\n" for one in panels.ALL}


def stale() -> list[Path]:
    """The files that are missing, differ, or belong to no dashboard."""
    wanted = files()
    old = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return old + [path for path in sorted(FOLDER.glob("*.json")) if path not in wanted]


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` say which are not fresh."""
    old, wanted = stale(), files()
    if "--check" in arguments:
        for path in old:
            sys.stderr.write(f"{path.name} is not fresh: run `python -m deploy.dashboards`.\n")
        return 1 if old else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in old:
        if path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
        sys.stdout.write(f"{path.name}\n")
    return 0


def _placed(found: Sequence[panels.Panel]) -> list[dict[str, Any]]:
    """From left to right, and below when a row of 24 columns is full."""
    placed, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(found, 1):
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        placed.append({"id": number, "gridPos": place, **_panel(panel)})
        x, height = x + panel.width, max(height, panel.height)
    return placed


def _panel(panel: panels.Panel) -> dict[str, Any]:
    source = SOURCES["sql" if panel.sql else "prometheus"]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.bad is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.bad}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        if panel.kind == "timeseries":
            defaults["custom"] = {"thresholdsStyle": {"mode": "line"}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "targets": [_target(panel, source, number, *one) for number, one in enumerate(panel.asks)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": OPTIONS[panel.kind],
    }


def _target(
    panel: panels.Panel, source: dict[str, str], number: int, asked: str, legend: str
) -> dict[str, Any]:
    target: dict[str, Any] = {"refId": chr(ord("A") + number), "datasource": source}
    if panel.sql:
        return target | {"rawQuery": True, "editorMode": "code", "format": "table", "rawSql": asked}
    once = panel.kind in ("stat", "table")
    return target | {
        "expr": asked,
        "legendFormat": legend,
        "instant": once,
        "range": not once,
        "format": "table" if panel.kind == "table" else "time_series",
    }


OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "none",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
    "barchart": {"xTickLabelRotation": 0, "showValue": "auto", "legend": {"showLegend": False}},
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
