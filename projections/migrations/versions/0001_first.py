"""The three schemas: heed_ops (machinery), heed_data (what a replay rebuilds), heed_read (what dashboards
read)."""

from alembic import op

from projections.migrations import sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    for statement in sql.machinery("0001"):
        op.get_bind().exec_driver_sql(statement)
    for statement in sql.pair("0001", sql.LIVE):
        op.get_bind().exec_driver_sql(statement)
