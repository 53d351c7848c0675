"""Who reads while pairs are swapped, on a real PostgreSQL: nobody is stopped, nobody is shown a mix."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests import swaps
from tests.laws import world


@pytest.fixture
def stand(database: str) -> Iterator[swaps.Stand]:
    with swaps.standing(database) as made:
        yield made


def dashboard(stand: swaps.Stand) -> psycopg.Connection:
    return psycopg.connect(stand.dsn.replace("//heed@", "//heed_dashboard@"), autocommit=True)


def test_an_open_transaction_reads_the_new_tables_from_its_next_statement_on(stand: swaps.Stand) -> None:
    """All of them, though it had read some before and others not: PostgreSQL alone would give it a mix."""
    stand.build()
    with psycopg.connect(stand.dsn) as reader, dashboard(stand) as shown:
        reader.execute("select count(*) from heed_data.engagement")
        shown.execute("begin")
        assert shown.execute("select count(*) from heed_read.contact_engagement").fetchall() == [(60,)]
        stand.swap()
        stand.tell(7, "after")
        stand.worker.advance()
        both = "select (select count(*) from heed_data.engagement), (select count(*) from heed_data.fact)"
        assert reader.execute(both.encode()).fetchall() == [(67, 67)]
        joined = "select count(distinct contact_id), max(recency) >= 0, count(distinct partition) from "
        joined += "heed_read.contact_engagement, heed_read.freshness where topic = 'facts'"
        assert shown.execute(joined.encode()).fetchall() == [(67, True, world.HOMES)]
        shown.execute("commit")


def test_a_transaction_that_keeps_its_snapshot_is_refused_clearly(stand: swaps.Stand) -> None:
    with dashboard(stand) as shown:
        shown.execute("begin isolation level repeatable read")
        shown.execute("select 1")  # its snapshot is older than the next pair
        stand.build()
        stand.swap()
        with pytest.raises(psycopg.errors.SerializationFailure, match="replaced by heed replay after this"):
            shown.execute("select count(*) from heed_read.contact_engagement")
        shown.execute("rollback")
        shown.execute("begin isolation level repeatable read")
        assert shown.execute("select count(*) from heed_read.contact_engagement").fetchall() == [(60,)]
        assert shown.execute("select count(*) > 0 from heed_read.freshness").fetchall() == [(True,)]
        shown.execute("commit")
        shown.execute("begin isolation level serializable")
        assert shown.execute("select count(*) from heed_read.contact_engagement").fetchall() == [(60,)]
        shown.execute("commit")


def test_dashboards_may_read_the_same_in_every_pair(stand: swaps.Stand) -> None:
    views = ("contact_engagement", "freshness", "parked")

    def shut() -> None:
        with dashboard(stand) as shown:
            for view in views:
                shown.execute(f"select * from heed_read.{view} limit 1".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                shown.execute("select * from heed_data.fact")

    stand.build()
    stand.swap()
    shut()
    swaps.back(stand)
    shut()
