"""What came of the demo: how far the rows are, who leads and why, what was set aside, what to try, and what
happened to one.

Promises: reads only what anyone may read (the views of `heed_read`, the ends of topics, `/metrics`). A row
is waited for by offsets: what stood on the doors is in the log, and what then stood on the log is in the
rows.

Limits: counters of `/metrics` begin when a process does, so after a kill they tell of the time since; the
parked ones are counted in the table.

Called by `deploy.demo`.
"""

from __future__ import annotations

import shlex
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import confluent_kafka
import msgspec
import psycopg
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import dict_row
from rich import box
from rich.console import Console
from rich.table import Table

from deploy import demo_client, demo_send, demo_timeline
from schemas import errors, topics

LEADERS: Final = 10
LOOK_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 300.0
READ_SECONDS: Final = 10.0
COUNTERS: Final = {
    "admitted": "heed_admitted_total",
    "folded": "heed_events_folded_total",
    "duplicates": "heed_duplicates_total",
    "conflicts": "heed_conflicts_total",
}
REFUSED: Final = "heed_refused_total"

Ends = dict[tuple[str, int], int]


class Counted(msgspec.Struct):
    """What the processes counted since they started: by what became of an event; refused ones by reason."""

    counts: dict[str, int]
    refused: dict[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """What the tables say now; `counted` is what the processes had counted when the demo ended."""

    leaders: list[dict[str, Any]]
    contacts: int
    parked: dict[str, int]
    counted: Counted
    timeline: demo_timeline.Timeline | None = None


class Watch:
    """How far the readers are, looked at from outside; a database that is away is no news."""

    def __init__(self, stack: dict[str, Any]) -> None:
        self._dsn = stack["dashboard_dsn"]
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._consumer = confluent_kafka.Consumer(
            {
                **demo_client.configuration(stack["bootstrap"]),
                "group.id": f"heed-demo-{uuid.uuid4().hex}",
            },
            logger=demo_send.silent(),
        )

    def close(self) -> None:
        self._consumer.close()
        self._disconnect()

    def ends(self, names: Iterable[str]) -> Ends:
        """The ends of these topics now; errors.Away when the broker does not say."""
        try:
            found = self._consumer.list_topics(timeout=READ_SECONDS).topics
            parts = [
                confluent_kafka.TopicPartition(name, part)
                for name in names
                for part in found[name].partitions
            ]
            return {
                (part.topic, part.partition): self._consumer.get_watermark_offsets(part, READ_SECONDS)[1]
                for part in parts
            }
        except (confluent_kafka.KafkaException, KeyError, TypeError) as error:
            raise errors.Away(f"Kafka does not say where its topics end: {error}") from None

    def positions(self) -> Ends:
        """The next offset of each reader that is alive."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row)
            rows = self._connection.execute(
                """
                select topic, partition, log_end - lag_records as next_offset
                  from heed_read.freshness where lag_records is not null
                """
            ).fetchall()
        except psycopg.OperationalError:
            self._disconnect()
            return {}
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def wait_for_rows(watch: Watch, stop: threading.Event, show: Callable[[int, int], None]) -> None:
    """Return when all that was sent is in the rows, or on `stop`; errors.Away when nothing moves."""
    for names in (topics.DOORS, (topics.FACTS, topics.REGISTRY)):
        _wait(watch, watch.ends(names), stop, show)


def _wait(watch: Watch, ends: Ends, stop: threading.Event, show: Callable[[int, int], None]) -> None:
    reached, moved = -1, time.monotonic()
    while not stop.is_set():
        positions = watch.positions()
        show(*folded(positions, ends))
        if all(positions.get(place, 0) >= end for place, end in ends.items()):
            return
        now = sum(positions.values())
        if now > reached:
            reached, moved = now, time.monotonic()
        if time.monotonic() - moved > PATIENCE_SECONDS:
            raise errors.Away(
                f"the rows have not moved for {PATIENCE_SECONDS:.0f} s: see heed_read.freshness."
            )
        stop.wait(LOOK_SECONDS)


def folded(positions: Ends, ends: Ends) -> tuple[int, int]:
    """(records folded, records to fold, as far as is known)."""
    done = sum(offset for (topic, _), offset in positions.items() if topic == topics.FACTS)
    return done, max(done, sum(end for (topic, _), end in ends.items() if topic == topics.FACTS))


def count(stack: dict[str, Any]) -> Counted:
    """What the processes have counted up to now."""
    found = _counters(stack["metrics"])
    return Counted(
        counts={name: sum(found[metric].values()) for name, metric in COUNTERS.items()},
        refused={reason: number for reason, number in found[REFUSED].most_common() if number},
    )


def gather(stack: dict[str, Any], counted: Counted) -> Report:
    """What the tables say now, beside what was counted."""
    with psycopg.connect(stack["dashboard_dsn"], row_factory=dict_row) as connection:
        leaders = connection.execute(
            """
            select contact_id, frequency, recency, volume, volume_last_30, date_first_click, date_last_click
              from heed_read.contact_engagement
             order by frequency desc, recency, date_last_click desc, contact_id
             limit %s
            """,
            (LEADERS,),
        ).fetchall()
        contacts = connection.execute("select count(*) as n from heed_read.contact_engagement").fetchall()
        parked = connection.execute(
            "select reason, count(*) as n from heed_read.parked group by reason order by n desc, reason"
        ).fetchall()
        timeline = demo_timeline.gather(connection)
    return Report(
        leaders=leaders,
        contacts=contacts[0]["n"],
        parked={row["reason"]: row["n"] for row in parked},
        counted=counted,
        timeline=timeline,
    )


def _counters(urls: list[str]) -> dict[str, Counter[str]]:
    """The counters asked for, over all processes, by their label; one that does not answer counts nothing."""
    found: dict[str, Counter[str]] = {name: Counter() for name in (*COUNTERS.values(), REFUSED)}
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=READ_SECONDS) as response:  # noqa: S310 (our own loopback)
                text = response.read().decode()
        except OSError:
            continue
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in found:
                    found[sample.name]["".join(sample.labels.values())] += int(sample.value)
    return found


def show_sending(console: Console, events: int, sending: float, whole: float) -> None:
    """One line, also where there is no terminal."""
    rate = events / max(sending, 0.001)
    console.print(
        f"history: {events:,} events sent in {sending:.1f} s ({rate:,.0f}/s),"
        f" in the rows after {whole:.1f} s",
        highlight=False,
    )


def show(report: Report, stack: dict[str, Any], home: Path, console: Console) -> None:
    """The table, the counts, where everything is, and three things to try."""
    console.print(_table(report))
    _say(
        console,
        f"{report.contacts:,} contacts have a row. They lead because they clicked in the most mailings.",
    )
    _say(console, _numbers("counted since the processes started", report.counted.counts))
    _say(console, _numbers("refused by HTTP", report.counted.refused))
    _say(console, _numbers("parked", report.parked))
    _say(console)
    for name, value in (
        ("console", f"{stack['url']}/console"),
        ("API", stack["url"]),
        ("key", stack["key"] or "none is needed as long as none was made (heed keys create)"),
        ("dashboards", stack["dashboard_dsn"]),
        ("database", stack["dsn"]),
        ("Kafka", stack["bootstrap"]),
    ):
        _say(console, f"{name:<11}{value}")
    _say(console)
    for line in _next_things(stack["url"], stack["key"], home):
        _say(console, line)
    if report.timeline is not None:
        _say(console)
        console.print(demo_timeline.table(report.timeline))
        _say(console, demo_timeline.rest(report.timeline))


def _table(report: Report) -> Table:
    table = Table(title="The ten most engaged contacts", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("contact")
    for name in ("frequency", "recency", "volume", "last 30", "first click", "last click"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.leaders:
        table.add_row(
            row["contact_id"],
            str(row["frequency"]),
            "" if row["recency"] is None else f"{row['recency']} d",
            str(row["volume"]),
            str(row["volume_last_30"]),
            *(
                f"{row[name]:%Y-%m-%d}" if row[name] else ""
                for name in ("date_first_click", "date_last_click")
            ),
        )
    return table


def _next_things(url: str, key: str | None, home: Path) -> list[str]:
    event = (
        '{"specversion":"1.0","source":"urn:me","type":"mail.clicked","subject":"contact:ada",'
        '"data":{"mailing_id":"my-first","url":"https://example.org/"}}'
    )
    curl = f"  curl -s -H 'Authorization: Bearer {key}' {url}" if key else f"  curl -s {url}"
    elsewhere = "" if home.resolve() == Path(".heed").resolve() else f"HEED_HOME={shlex.quote(str(home))} "
    return [
        "One click, and its row:",
        f"{curl}/v1/events -H 'Content-Type: application/json' -d '{event}'",
        f"{curl}/v1/contacts/ada/engagement",
        "The whole log folded again, held against the live rows:",
        f"  {elsewhere}.venv/bin/heed replay --check",
        "The same rows by brute force, from code that shares nothing with Heed:",
        f"  {elsewhere}make oracle",
    ]


def _numbers(title: str, numbers: dict[str, int]) -> str:
    return f"{title}: " + (", ".join(f"{name} {number:,}" for name, number in numbers.items()) or "none")


def _say(console: Console, line: str = "") -> None:
    """A line as it is: never wrapped, so that it can be copied."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)
