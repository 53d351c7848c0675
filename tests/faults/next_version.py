"""A next version of Heed for tests of an upgrade: a copy of this tree with a change of each kind that a
release has.

Promises: the copy's packages are this tree's, but for an event type in a new version (a field of
`mail.clicked` has another name, with the upcaster) and one more revision of the tables (a column, a table, a
view). Processes started with `env` run the copy, whatever is installed.
Limits: made by replacing texts; a text that is not there any more fails the test. It is what this version
would find beside it, not any real release: the differences are chosen so that each way of being too old, or
newer, occurs.
Called by: `tests/faults/test_upgrade.py`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests import stack

PACKAGES = ("schemas", "projections", "streams", "api")
REVISION = "9001"
VERSION = f'''"""What a next version changes in the tables."""

from alembic import op

from projections.migrations import sql

revision = "{REVISION}"
down_revision = "{{before}}"


def upgrade() -> None:
    for statement in sql.machinery("{REVISION}"):
        op.get_bind().exec_driver_sql(statement)
    for statement in sql.pair("{REVISION}", sql.LIVE):
        op.get_bind().exec_driver_sql(statement)
'''
OPS = """-- A next version's machinery.
create table {ops}.next_version (id bigint generated always as identity primary key);
"""
DATA = """-- A next version's column, on the table that every fold writes, and an index on it.
alter table {data}.engagement add column note text;
alter table {data}.fact add column note text;
create index engagement_by_note on {data}.engagement (note);
"""
READ = """-- A next version's view.
create view {read}.next_version as select contact_id, note from {data}.engagement;
comment on view {read}.next_version is 'A view of the next version.';
comment on column {read}.next_version.contact_id is 'The contact.';
comment on column {read}.next_version.note is 'A note.';
grant select on {read}.next_version to heed_dashboard;
"""
RENAMED = """

# The next version: the link of a click has another name.
class ClickedNext(msgspec.Struct, frozen=True, omit_defaults=True):
    link: str
    mailing_id: str | None = None
    message_id: str | None = None
    test: bool | None = None


EVENTS["mail.clicked"] = EventType(
    "mail.clicked", topics.EMAIL_ACTIVITY, version=2, struct=ClickedNext, personal=("link", "message_id")
)
"""
UPCASTER = """

def _clicked(data: Data) -> Data:
    return {("link" if name == "url" else name): value for name, value in data.items()}


UPCASTERS["mail.clicked"] = {1: _clicked}
"""


class NextVersion:
    """The copy in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in PACKAGES:
            shutil.copytree(
                stack.ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copytree(stack.ROOT / "docs", folder / "docs")  # the API serves its pages
        self._append("schemas/events.py", RENAMED)
        self._append("schemas/upcasters.py", UPCASTER)
        migrations = folder / "projections" / "migrations"
        before = max(path.name.split("_")[0] for path in (migrations / "versions").glob("[0-9]*.py"))
        (migrations / "versions" / f"{REVISION}_next.py").write_text(VERSION.replace("{before}", before))
        for part, text in (("ops", OPS), ("data", DATA), ("read", READ)):
            (migrations / "sql" / f"{REVISION}_{part}.sql").write_text(text)

    def _append(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(path.read_text() + text)

    @property
    def env(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder)}

    @property
    def heed(self) -> list[str | Path]:
        """The command, as a list to add arguments to."""
        return [sys.executable, "-c", "from streams import cli; cli.main()"]
