"""`heed parked`: what could not be folded, by hand.

Promises: what is listed and shown is what the API answers; what is driven again or discarded goes the same
way. Ctrl-C lets the step under way come to its end and says what was done, and `--after` goes on from there.
Exit 1 where something stays parked that was to go.
Called by: `streams.cli`, which registers it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple

import typer

from projections import database
from projections import parked as store
from schemas import errors, topics
from streams import broker, discarding, master_key, producer, vault
from streams import parked as driving
from streams.console import Json, actor, answer, of_api, servers, table

app = typer.Typer(no_args_is_help=True, help="What could not be folded.")

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Ids = Annotated[list[int] | None, typer.Argument(help="Numbers of parked records.", min=0)]
Reason = Annotated[errors.Reason | None, typer.Option(help="Only this reason.")]
Type = Annotated[str | None, typer.Option("--type", help="Only this event type.")]
Door = Annotated[str | None, typer.Option(help="Only what came by this door.")]
Topic = Annotated[str | None, typer.Option(help="Only what stands on this topic.")]
Older = Annotated[str | None, typer.Option(help="Only what was parked longer ago, as 90m, 12h, 7d.")]
Newer = Annotated[str | None, typer.Option(help="Only what was parked since, as 90m, 12h, 7d.")]
All = Annotated[bool, typer.Option("--all", help="Everything that is parked.")]
After = Annotated[int, typer.Option(min=0, help="Go on behind this number, where the last walk ended.")]
Limit = Annotated[int, typer.Option(min=1, max=1000)]


class Done(NamedTuple):
    """A walk: what it is called when it is done, what takes its steps, and the keys that those need."""

    status: str
    make: Any
    keys: vault.Vault | None = None


@app.command("list")
def parked_list(
    reason: Reason = None,
    type_: Type = None,
    door: Door = None,
    topic: Topic = None,
    older_than: Older = None,
    newer_than: Newer = None,
    after: Annotated[int | None, typer.Option(min=0, help="`next` of the page before.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Show what is parked, the newest first; never the bytes."""
    from api import parked

    which = _filter(reason, type_, door, topic, older_than, newer_than)
    page = of_api(lambda base: parked.page(base, which, after=after, limit=limit))
    if as_json:
        answer(page, True, "")
    else:
        where = [f"{row['topic']} {row['partition']}@{row['offset']}" for row in page["items"]]
        shown = [
            [row["id"], row["reason"], at, row["detail"]]
            for row, at in zip(page["items"], where, strict=True)
        ]
        table("Parked", ["id", "reason", "where", "what to do"], shown)


@app.command("overview")
def parked_overview(
    reason: Reason = None,
    type_: Type = None,
    door: Door = None,
    topic: Topic = None,
    older_than: Older = None,
    newer_than: Newer = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """How many are parked, by reason, type and topic, and since when."""
    from api import parked

    which = _filter(reason, type_, door, topic, older_than, newer_than)
    found = of_api(lambda base: parked.overview(base, which, limit=limit))
    if as_json:
        answer(found, True, "")
    else:
        names = ["reason", "type", "topic", "count", "oldest", "newest"]
        shown = [[one[name] for name in names] for one in found["items"]]
        table(f"Parked: {found['total']}", names, shown)


@app.command("show")
def parked_show(record: Annotated[int, typer.Argument(min=0)], as_json: Json = False) -> None:
    """One parked record, with its bytes: as base64 with --json, else as text where they are UTF-8."""
    from api import parked

    found = of_api(lambda base: parked.one(base, str(record)))
    said = [f"{name:12}{value}" for name, value in found.items() if name not in ("bytes", "text")]
    text = found["bytes"] if found["text"] is None else found["text"]
    answer(found, as_json, "\n".join([*said, "", text if text.isprintable() else repr(text)]))


@app.command("redrive")
def parked_redrive(
    ids: Ids = None,
    reason: Reason = None,
    type_: Type = None,
    door: Door = None,
    topic: Topic = None,
    older_than: Older = None,
    newer_than: Newer = None,
    all_: All = False,
    after: After = 0,
    as_json: Json = False,
) -> None:
    """Judge parked records again, by today's rules and clock; what is admitted goes onto the log."""
    which = _meant(ids, _filter(reason, type_, door, topic, older_than, newer_than), all_)
    settings = servers()
    ahead = timedelta(seconds=settings.ahead_seconds)

    keys = vault.Vault(master_key.of(settings), settings.postgres)

    def make(connection: Any, append: driving.Append) -> driving.Step:
        return driving.Driver(connection, append, homes=settings.homes, ahead=ahead, keys=keys).step

    _walk(settings, which, Done(driving.DRIVEN, make, keys), after, as_json)


@app.command("discard")
def parked_discard(
    ids: Ids = None,
    reason: Reason = None,
    type_: Type = None,
    door: Door = None,
    topic: Topic = None,
    older_than: Older = None,
    newer_than: Newer = None,
    all_: All = False,
    after: After = 0,
    as_json: Json = False,
) -> None:
    """Throw parked records away; each is recorded in the registry, with who, where and why."""
    which = _meant(ids, _filter(reason, type_, door, topic, older_than, newer_than), all_)
    who = actor()

    def make(connection: Any, append: driving.Append) -> driving.Step:
        return discarding.Discarder(connection, append, who).step

    _walk(servers(), which, Done(discarding.DISCARDED, make), after, as_json)


def _walk(settings: Any, which: store.Filter | list[int], done: Done, after: int, as_json: bool) -> None:
    report = driving.Report(dict.fromkeys((done.status, driving.PARKED, driving.GONE), 0))
    asyncio.run(_run(settings, which, done, report, after))
    counts = report.counts
    text = f"{counts[done.status]} {done.status}, {counts['parked']} stay parked, {counts['gone']} were gone."
    if report.next is not None:
        text += f" Interrupted: go on with --after {report.next}."
    told = {**counts, "next": report.next, "outcomes": [dataclasses.asdict(one) for one in report.outcomes]}
    answer(told, as_json, text)
    sys.exit(1 if counts["parked"] or report.next is not None else 0)


async def _run(
    settings: Any, which: store.Filter | list[int], done: Done, report: driving.Report, after: int
) -> None:
    out = producer.LogProducer(broker.of(settings), "heed-parked")
    loop, stop = asyncio.get_running_loop(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def walk() -> None:
        with database.connect(
            settings.postgres, database.OPS_PATH, "heed parked", idle_seconds=driving.IDLE_SECONDS
        ) as connection:
            step = done.make(connection, lambda records: out.append_from_thread(records, loop))
            driving.walk(connection, which, step, report, after=after, stopped=stop.is_set)

    try:
        if done.keys is not None:
            await done.keys.open(broker.of(settings), out.append)
        await asyncio.to_thread(walk)
    finally:
        await out.stop()


def _meant(ids: list[int] | None, which: store.Filter, all_: bool) -> store.Filter | list[int]:
    """What a walk goes over: it has to be said, so that a slip does not mean everything."""
    if (bool(ids), not which.empty, all_).count(True) != 1:
        raise errors.Usage("Say which records: their numbers, or options such as --reason, or --all.")
    return ids or which


def _filter(
    reason: errors.Reason | None,
    type_: str | None,
    door: str | None,
    topic: str | None,
    older_than: str | None,
    newer_than: str | None,
) -> store.Filter:
    if door is not None and door not in topics.DOORS:
        raise errors.Usage(f"--door takes one of {', '.join(topics.DOORS)}.")
    if topic is not None and topic not in (known := [one.name for one in topics.all_topics(1)]):
        raise errors.Usage(f"--topic takes one of {', '.join(known)}.")
    if type_ is not None and not type_.isprintable():
        raise errors.Usage("--type takes printable characters.")
    now = datetime.now(UTC)
    return store.Filter(
        reason, type_, door, topic,
        since=None if newer_than is None else now - _duration("--newer-than", newer_than),
        before=None if older_than is None else now - _duration("--older-than", older_than),
    )  # fmt: skip


def _duration(option: str, text: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if match is None:
        raise errors.Usage(f"{option} takes a number and a unit of s, m, h, d, as 90m, 12h, 7d.")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
