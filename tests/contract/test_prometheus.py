"""What Prometheus is given: its own tool takes it, names are declared, and each alert has its page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from deploy import watch
from schemas import errors
from tests import prometheus

RUNBOOK_PAGE = Path(__file__).parents[2] / "docs" / "runbook.md"
RUNBOOK = RUNBOOK_PAGE.read_text()
PARTS = ("See", "Means", "Do", "Check")


def test_promtool_takes_the_configuration_and_the_rules(tmp_path: Path) -> None:
    (tmp_path / "targets.json").write_text("[]")
    for name in watch.FILES:
        (tmp_path / name).symlink_to(prometheus.SHIPPED / name)
    done = prometheus.promtool("check", "config", "--lint=all", watch.CONFIGURATION, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_shall_and_only_then() -> None:
    done = prometheus.promtool("test", "rules", "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_of_the_alerts_can_fail(tmp_path: Path) -> None:
    shutil.copy(prometheus.SHIPPED / "rules.yml", tmp_path)
    dulled = (prometheus.SHIPPED / "alerts.yml").read_text().replace("> 0.01", "> 0.5")
    (tmp_path / "alerts.yml").write_text(dulled)
    tests = yaml.safe_load((prometheus.SHIPPED / "alerts_test.yml").read_text())
    tests["tests"] = [one for one in tests["tests"] if one["name"].startswith("HeedConflicts")]
    (tmp_path / "alerts_test.yml").write_text(yaml.safe_dump(tests))
    done = prometheus.promtool("test", "rules", "alerts_test.yml", cwd=tmp_path)
    assert done.returncode != 0, "a threshold that is never passed goes unnoticed"
    assert 'exp: {alertname="HeedConflicts"}' in done.stdout + done.stderr


def test_each_alert_has_a_test_in_which_it_fires() -> None:
    read = yaml.safe_load((prometheus.SHIPPED / "alerts_test.yml").read_text())
    fired = set()
    for one in read["tests"]:
        for check in one["promql_expr_test"]:
            fired |= {re.search(r'alertname="(\w+)"', sample["labels"])[1] for sample in check["exp_samples"]}  # type: ignore[index]
        before = [check for check in one["promql_expr_test"] if not check["exp_samples"]]
        assert before, f"{one['name']}: never quiet"
    assert fired == set(prometheus.alerts())


def test_rules_ask_for_what_is_declared() -> None:
    for name in ("rules.yml", "alerts.yml"):
        for rule in prometheus.rules_of(name):
            unknown = prometheus.unknown(rule["expr"])
            assert not unknown, f"{rule.get('record') or rule['alert']}: {unknown}"


def test_alerts_and_the_runbook_agree() -> None:
    headings = re.findall(r"(?m)^## (\w+)$", RUNBOOK)
    assert headings == list(prometheus.alerts()), "the same names, in the same order"
    for name, alert in prometheus.alerts().items():
        assert set(alert["labels"]) == {"severity"} and alert["labels"]["severity"] in ("page", "ticket")
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


@pytest.mark.parametrize("name", prometheus.alerts())
def test_a_page_of_the_runbook_says_what_to_see_think_do_and_check(name: str) -> None:
    page = re.search(rf"(?ms)^## {name}\n(.*?)(?=^## |\Z)", RUNBOOK)
    assert page
    assert tuple(re.findall(r"(?m)^\*\*(\w+)\.\*\* \S", page[1])) == PARTS
    asked = prometheus.alerts()[name]["expr"]
    check = page[1].partition("**Check.**")[2]
    assert prometheus.named(asked) & prometheus.named(check) or "`heed " in check, (
        "the check looks at what the alert looks at"
    )


def test_the_runbook_names_what_exists() -> None:
    told = "\n".join(re.findall(r"`([^`\n]+)`", RUNBOOK))
    assert prometheus.unknown(told) == set()
    assert len(prometheus.named(told)) > 15


def test_the_runbook_names_commands_that_exist() -> None:
    operations = (RUNBOOK_PAGE.parent / "operations.md").read_text()
    known = set(re.findall(r"(?<=`)heed [a-z-]+(?: [a-z-]+)?", operations))
    told = {" ".join(one.split()) for one in re.findall(r"`(heed [a-z-]+(?:\s[a-z-]+)?)", RUNBOOK)}
    assert told and told <= known, told - known


def test_without_apt_and_without_prometheus_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.Away, match="install `prometheus` and `promtool`"):
        watch.find(print, tmp_path / "cache")
