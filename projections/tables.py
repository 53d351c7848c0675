"""Tables and views as SQLAlchemy Core sees them: what the API reads, and the nudges it appends.

Promises: names and types as the migrations make them; a test compares them with a real database. The fold
and the timers do not use this module: their statements are SQL of their own, in `projections/sql`.

Limits: only the columns that are read here; the migrations say the rest (keys, checks, comments).
Used by `api`, in what it asks.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import selectable

METADATA: Final = sa.MetaData()
Moment: Final = postgresql.TIMESTAMP(timezone=True)
FOR_EVER: Final = sa.cast(sa.literal("infinity"), Moment)


def _row(*more: sa.Column[object]) -> tuple[sa.Column[object], ...]:
    """What is told of a contact, in a stored row and in an answer alike."""
    return (
        sa.Column("contact_id", sa.Text),
        sa.Column("date_first_click", Moment),
        sa.Column("date_last_click", Moment),
        sa.Column("frequency", sa.Integer),
        sa.Column("volume", sa.Integer),
        sa.Column("volume_last_30", sa.Integer),
        sa.Column("period_months", sa.Integer),
        *more,
    )


contact_engagement: Final = sa.Table(
    "contact_engagement",
    METADATA,
    *_row(sa.Column("recency", sa.Integer), sa.Column("date_calculated", Moment)),
    schema="heed_read",
)
freshness: Final = sa.Table(
    "freshness",
    METADATA,
    sa.Column("projection", sa.Text),
    sa.Column("topic", sa.Text),
    sa.Column("partition", sa.Integer),
    sa.Column("owner_state", sa.Text),
    sa.Column("lag_records", sa.BigInteger),
    schema="heed_read",
)
data_key: Final = sa.Table(
    "data_key",
    METADATA,
    sa.Column("kid", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Column("wrapped", sa.LargeBinary),
    sa.Column("master", sa.Text),
    sa.Column("destroyed", sa.Boolean),
    sa.Column("off", sa.BigInteger),
    schema="heed_ops",
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
    sa.Column("event_time", Moment),
    sa.Column("parked_at", Moment),
    schema="heed_read",
)
parked_bytes: Final = sa.Table(
    "parked",
    METADATA,
    sa.Column("id", sa.BigInteger),
    sa.Column("batch", sa.Boolean),
    sa.Column("bytes", sa.LargeBinary),
    schema="heed_ops",
)
engagement: Final = sa.Table(
    "engagement",
    METADATA,
    *_row(sa.Column("home", sa.SmallInteger), sa.Column("valid_until", Moment)),
    schema="heed_data",
)
rule: Final = sa.Table("rule", METADATA, sa.Column("period_months", sa.Integer), schema="heed_data")
recalculation: Final = sa.Table(
    "recalculation",
    METADATA,
    sa.Column("home", sa.SmallInteger),
    sa.Column("contact_id", sa.Text),
    schema="heed_data",
)
recalculation_cause: Final = sa.Table(
    "recalculation_cause", METADATA, sa.Column("after", sa.Text), schema="heed_data"
)
position: Final = sa.Table(
    "position",
    METADATA,
    sa.Column("reader", sa.Text),
    sa.Column("topic", sa.Text),
    sa.Column("part", sa.Integer),
    sa.Column("as_of", Moment),
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

member: Final = sa.Table(
    "member", METADATA, sa.Column("subject", sa.Text), sa.Column("root", sa.Text), schema="heed_data"
)


def rule_at(upto: sa.ColumnElement[Any]) -> selectable.TableValuedAlias:
    """The settings that a row depends on, as they were at an instant."""
    return sa.func.heed_data.rule_at(upto).table_valued(sa.Column("period_months", sa.Integer), name="rule")


def engagement_at(
    contact: sa.ColumnElement[str],
    at: sa.ColumnElement[Any],
    upto: sa.ColumnElement[Any] | None = None,
    name: str = "computed",
) -> selectable.LateralFromClause:
    """The row of one contact at an instant, by the one SQL function that says what a row is; else no row.

    With `upto` the facts dated later are left out; without, all count.
    """
    alone = sa.func.array_append(sa.cast(postgresql.array[str]([]), postgresql.ARRAY(sa.Text)), contact)
    row = sa.func.heed_data.engagement_at(alone, at, FOR_EVER if upto is None else upto)
    return row.table_valued(*_row(sa.Column("valid_until", Moment))).lateral(name)


def engagement_behind(
    contact: sa.ColumnElement[str],
    at: sa.ColumnElement[Any],
    upto: sa.ColumnElement[Any],
    most: sa.ColumnElement[int],
) -> selectable.LateralFromClause:
    """The facts behind each number of a contact at an instant, at most so many of a number."""
    return (
        sa.func.heed_data.engagement_behind(contact, at, upto, most)
        .table_valued(
            sa.Column("field", sa.Text),
            sa.Column("unit", sa.BigInteger),
            sa.Column("alone", sa.Boolean),
            sa.Column("source", sa.Text),
            sa.Column("id", sa.Text),
            sa.Column("type", sa.Text),
            sa.Column("time", Moment),
            sa.Column("behind", sa.BigInteger),
        )
        .lateral("behind")
    )
