"""How a command of `heed` ends when something goes wrong under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import aiokafka.errors
import psycopg
import pytest
import typer

from schemas import errors
from streams import cli, cli_contact


def _ends(monkeypatch: pytest.MonkeyPatch, error: Exception) -> int:
    def app(**_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    "make",
    [
        lambda: errors.Away("Kafka cannot be reached"),
        lambda: aiokafka.errors.KafkaConnectionError("Unable to bootstrap"),
        lambda: psycopg.OperationalError("the connection is closed"),
        lambda: psycopg.errors.AdminShutdown("terminating connection"),
    ],
    ids=["told so", "Kafka under it", "PostgreSQL's connection", "PostgreSQL shuts down"],
)
def test_a_server_that_goes_away_under_a_command_is_told_without_a_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make: Callable[[], Exception]
) -> None:
    assert _ends(monkeypatch, make()) == 69
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("heed: ")


@pytest.mark.parametrize("error", [ValueError("ours"), psycopg.errors.UndefinedTable("ours")])
def test_a_fault_of_ours_has_its_trace_and_is_doubt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert _ends(monkeypatch, error) == 3
    assert "Traceback" in capsys.readouterr().err


def test_what_is_no_command_is_a_contact_to_show() -> None:
    group = typer.main.get_command(cli_contact.app)
    assert isinstance(group, cli_contact.ShownByDefault)
    context = group.make_context("contact", ["ada"], resilient_parsing=True)
    assert group.resolve_command(context, ["ada", "--limit", "3"])[::2] == ("show", ["ada", "--limit", "3"])
    assert group.resolve_command(context, ["merge", "ada"])[::2] == ("merge", ["ada"])
    assert group.resolve_command(context, ["show", "merge"])[::2] == ("show", ["merge"])
