"""One contact's timeline, for the end of the demo: who came by unknown, logged in, was merged.

Promises: reads the view `heed_read.activity` alone, some tenths of a second for the demo's history. Shown are
visits, what links them, merges and what was decided, in the order of time; mails are counted.
Limits: a history too small to have such a contact has one who logged in; without any, nothing is shown.
Called by `deploy.demo_report`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg
from rich import box
from rich.table import Table

LINES: Final = 14

# Purpose: a contact to whom both a visit and another contact belong, the one most was told of; else a visit.
_WHO: Final = """
select contact_id from heed_read.activity where event_type in ('session.linked', 'contact.merged')
group by contact_id having bool_or(event_type = 'session.linked')
order by bool_or(event_type = 'contact.merged') desc, max(time) desc, contact_id limit 1
"""
_LINES: Final = """
select time, text, subject from heed_read.activity
where contact = 'contact:' || %s and type <> 'Email' and event_type not in ('mail.opened', 'mail.clicked')
order by time, subject, event_id limit %s
"""
_REST: Final = "select count(*) as n from heed_read.activity where contact = 'contact:' || %s"


@dataclass(frozen=True, slots=True)
class Timeline:
    """Whose it is, the lines that are shown, and how many more there are."""

    contact: str
    lines: list[dict[str, Any]]
    more: int


def gather(connection: psycopg.Connection[dict[str, Any]]) -> Timeline | None:
    """A timeline worth looking at; None where nobody logged in. Raises psycopg.Error."""
    for found in connection.execute(_WHO).fetchall():
        contact = found["contact_id"]
        lines = connection.execute(_LINES, (contact, LINES)).fetchall()
        [whole] = connection.execute(_REST, (contact,)).fetchall()
        return Timeline(contact, lines, whole["n"] - len(lines))
    return None


def table(timeline: Timeline) -> Table:
    """The same for people."""
    made = Table(title=f"What happened to {timeline.contact}", box=box.SIMPLE_HEAD, title_justify="left")
    made.add_column("time", no_wrap=True)
    made.add_column("what", no_wrap=True)
    made.add_column("of", no_wrap=True)
    for line in timeline.lines:
        own = line["subject"] == f"contact:{timeline.contact}"
        whose = "" if own else line["subject"].replace("contact:", "merged ").replace("session:", "session ")
        made.add_row(f"{line['time']:%Y-%m-%d %H:%M:%S}", line["text"], whose)
    return made


def rest(timeline: Timeline) -> str:
    """How much more there is, and how it is asked for."""
    asked = f"heed contact activity {timeline.contact}"
    return f"{timeline.more:,} more, mails above all: {asked}" if timeline.more else f"The same: {asked}"
