"""The dashboards are fresh, name what exists, and everything they ask is answered by the real thing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from deploy import dashboards
from deploy import stack as local_stack
from schemas import metrics
from tests import prometheus, stack

GRAFANA = dashboards.FOLDER.parent
FILES = sorted(dashboards.FOLDER.glob("*.json"))
UNITS = {"none", "s", "ops", "reqps", "percentunit", "bytes"}

by_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def panels(file: Path) -> list[dict[str, Any]]:
    return list(json.loads(file.read_text())["panels"])


def asks(key: str) -> list[tuple[str, str]]:
    """(where, what) of everything asked in one of the two languages."""
    return [
        (f"{file.stem}: {panel['title']}", target[key])
        for file in FILES
        for panel in panels(file)
        for target in panel["targets"]
        if key in target
    ]


def test_the_files_are_fresh() -> None:
    assert dashboards.stale() == [], "run `python -m deploy.dashboards`"
    assert [file.stem for file in FILES] == ["api", "engagement", "overview", "workers"]


@by_file
def test_panels_lie_side_by_side_and_say_how_to_read_them(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(file):
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= dashboards.COLUMNS and not cells & taken, panel["title"]
        taken |= cells
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"] and panel["type"] in dashboards.OPTIONS


def test_the_data_sources_are_those_that_are_provisioned() -> None:
    read = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "heed.yml").read_text())
    given = {(one["type"], one["uid"]) for one in read["datasources"]}
    used = {
        (source["type"], source["uid"])
        for file in FILES
        for panel in panels(file)
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"]))
    }
    assert used == given
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "heed.yml").read_text())[
        "providers"
    ]
    assert provider["type"] == "file"


def test_every_name_in_a_panel_exists() -> None:
    for where, asked in asks("expr"):
        assert prometheus.named(asked) or "ALERTS" in asked, where
        assert prometheus.unknown(asked) == set(), where


def test_every_label_in_a_panel_exists() -> None:
    """What an expression groups by, and what a legend shows."""
    scraped = {"role", "name", "instance", "job", "le", "alertname", "alertstate"}
    known = scraped | {label for metric in metrics.DECLARED.values() for label in metric.labels}
    for file in FILES:
        for panel in panels(file):
            for target in panel["targets"]:
                grouped = re.findall(r"by \(([^)]*)\)", target.get("expr", ""))
                named = {label.strip() for labels in grouped for label in labels.split(",")}
                named |= set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
                assert named <= known, f"{panel['title']}: {named - known}"


def test_every_metric_is_looked_at() -> None:
    """Declared, and then in no rule and no panel: nobody would see it."""
    rules = "\n".join((prometheus.SHIPPED / name).read_text() for name in ("rules.yml", "alerts.yml"))
    seen = prometheus.named("\n".join([rules, *(asked for _, asked in asks("expr"))]))
    assert set(metrics.DECLARED) - seen == set(), "show it in a panel of deploy/panels.py"


def test_what_is_recorded_is_used() -> None:
    """A rule that nobody asks is work at every turn for nothing."""
    rules = "\n".join((prometheus.SHIPPED / name).read_text() for name in ("rules.yml", "alerts.yml"))
    text = "\n".join([rules, *(asked for _, asked in asks("expr"))])
    assert [name for name in prometheus.recorded() if len(re.findall(rf"{name}\b", text)) < 2] == []


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[prometheus.Prometheus]:
    with prometheus.running(tmp_path_factory.mktemp("grafana") / "prometheus", []) as running:
        yield running


def test_every_expression_runs(asked: prometheus.Prometheus) -> None:
    for where, expression in asks("expr"):
        text = expression.replace("$__rate_interval", "1m")
        assert "$" not in text, where
        asked.query(text)
    with pytest.raises(AssertionError, match="parse error"):
        asked.query("sum by (")


def test_every_query_runs_as_the_dashboards_role(servers: stack.Servers, module_database: str) -> None:
    with psycopg.connect(module_database, autocommit=True) as connection:
        connection.execute(FILL)
    found = {}
    with psycopg.connect(local_stack.dashboard_dsn(module_database), autocommit=True) as connection:
        for where, sql in asks("rawSql"):
            assert "$" not in sql, f"{where}: no macro, so that what is tested is what runs"
            found[where] = connection.execute(sql.encode()).fetchall()
            plan = "\n".join(row[0] for row in connection.execute(f"explain {sql}".encode()).fetchall())
            assert plan.count(" on engagement ") <= 1, f"{where}: reads every row more than once"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select from heed_data.engagement")
    assert found["engagement: Contacts"] == [(3, 1, 9.67, pytest.approx(29 / 12))]
    assert found["engagement: Mailings clicked in"] == [("2", 1), ("3", 1), ("20+", 1)]
    assert found["engagement: Last click"] == [("1 to 4 weeks", 1), ("1 to 3 months", 1), ("longer ago", 1)]
    assert [row[0] for row in found["engagement: Most engaged"]] == ["c1", "c2", "c3"]
    assert [row[0] for row in found["engagement: Slipping away"]] == ["c2"]


# Three contacts, whose last clicks are 8, 40 and 200 days ago.
FILL = """
insert into heed_data.engagement (contact_id, home, date_first_click, date_last_click, frequency, volume,
    volume_last_30, period_months, valid_until)
select 'c' || n, 0, now() - make_interval(days => 300), now() - make_interval(days => (array[8, 40, 200])[n]),
    (array[24, 3, 2])[n], 4, 0, 12, now() + interval '1 day'
from generate_series(1, 3) n
"""
