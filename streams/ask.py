"""Questions that the command line answers from the read views and the settings.

Promises: reads `heed_read` only.
Called by: `heed engagement`, `heed settings`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import psycopg.rows

from projections import database
from schemas import errors, identity, settings

COLUMNS = (
    "contact_id, date_first_click, date_last_click, recency, frequency, volume, volume_last_30, "
    "period_months, date_calculated"
)
ONE = f"""
select {COLUMNS} from heed_read.contact_engagement where contact_id = %(contact)s
"""


def engagement(chosen: settings.Settings, contact: str) -> dict[str, Any]:
    """A contact's row; without one every value but its id is None. `errors.Usage` for an ill-formed id."""
    if not identity.is_contact_id(contact):
        raise errors.Usage("A contact id is 1 to 64 characters of A-Z a-z 0-9 _ . ~ -")
    with database.connect(chosen.postgres, "heed_read", "heed engagement") as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        row = cursor.execute(ONE, {"contact": contact}).fetchone()
    empty: dict[str, Any] = dict.fromkeys(COLUMNS.split(", ")) | {"contact_id": contact}
    return row or empty


def settings_in_force(chosen: settings.Settings) -> dict[str, str]:
    """Every setting by its variable; passwords in the DSN are masked."""
    values = {
        settings.variable(one.name): str(getattr(chosen, one.name)) for one in dataclasses.fields(chosen)
    }
    values["HEED_POSTGRES"] = re.sub(r"(?<=:)[^:@/]+(?=@)|(?<=password=)\S+", "***", values["HEED_POSTGRES"])
    return values
