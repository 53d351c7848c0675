"""Tables and views as SQLAlchemy Core sees them: what the API reads, and the nudges it appends.

Promises: names and types as the migrations make them; a test compares them with a real database. The fold
and the timers do not use this module: their statements are SQL of their own, in `projections/sql`.

Limits: only the columns that are read here; the migrations say the rest (keys, checks, comments).
Used by `api.engagement` and `api.operations`.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import selectable

METADATA: Final = sa.MetaData()
_Moment: Final = postgresql.TIMESTAMP(timezone=True)


def _row(*more: sa.Column[object]) -> tuple[sa.Column[object], ...]:
    """What is told of a contact, in a stored row and in an answer alike."""
    return (
        sa.Column("contact_id", sa.Text),
        sa.Column("date_first_click", _Moment),
        sa.Column("date_last_click", _Moment),
        sa.Column("frequency", sa.Integer),
        sa.Column("volume", sa.Integer),
        sa.Column("volume_last_30", sa.Integer),
        sa.Column("period_months", sa.Integer),
        *more,
    )


contact_engagement: Final = sa.Table(
    "contact_engagement",
    METADATA,
    *_row(sa.Column("recency", sa.Integer), sa.Column("date_calculated", _Moment)),
    schema="heed_read",
)
freshness: Final = sa.Table(
    "freshness",
    METADATA,
    sa.Column("projection", sa.Text),
    sa.Column("topic", sa.Text),
    sa.Column("partition", sa.Integer),
    sa.Column("owner_state", sa.Text),
    schema="heed_read",
)
parked: Final = sa.Table(
    "parked",
    METADATA,
    sa.Column("id", sa.BigInteger),
    sa.Column("reason", sa.Text),
    sa.Column("detail", sa.Text),
    sa.Column("type", sa.Text),
    sa.Column("source", sa.Text),
    sa.Column("event_id", sa.Text),
    sa.Column("door", sa.Text),
    sa.Column("topic", sa.Text),
    sa.Column("partition", sa.Integer),
    sa.Column("offset", sa.BigInteger),
    sa.Column("event_time", _Moment),
    sa.Column("parked_at", _Moment),
    schema="heed_read",
)
engagement: Final = sa.Table(
    "engagement",
    METADATA,
    *_row(sa.Column("home", sa.SmallInteger), sa.Column("valid_until", _Moment)),
    schema="heed_data",
)
rule: Final = sa.Table("rule", METADATA, sa.Column("period_months", sa.Integer), schema="heed_data")
position: Final = sa.Table(
    "position",
    METADATA,
    sa.Column("reader", sa.Text),
    sa.Column("topic", sa.Text),
    sa.Column("part", sa.Integer),
    sa.Column("as_of", _Moment),
    schema="heed_data",
)
nudge: Final = sa.Table(
    "nudge",
    METADATA,
    sa.Column("id", sa.BigInteger),
    sa.Column("home", sa.SmallInteger),
    sa.Column("subject", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("error", sa.Text),
    schema="heed_data",
)


def engagement_at(contact: sa.BindParameter[str], at: sa.ColumnElement[Any]) -> selectable.LateralFromClause:
    """The row of one contact at an instant, by the one SQL function that says what a row is; else no row."""
    alone = sa.func.array_append(sa.cast(postgresql.array[str]([]), postgresql.ARRAY(sa.Text)), contact)
    for_ever = sa.cast(sa.literal("infinity"), _Moment)
    row = sa.func.heed_data.engagement_at(alone, at, for_ever)
    return row.table_valued(*_row(sa.Column("valid_until", _Moment))).lateral("computed")
