"""Facts and rows put into a real database as the fold would have put them, and the API over it.

Limits: the API's log is never asked; nobody owns the homes.
Called by the integration tests of engagement.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import psycopg
from psycopg import rows

from api import app
from schemas import settings
from tests import keyring

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
INDIA = timezone(timedelta(hours=5, minutes=30))

FACT = """
insert into heed_data.fact
    (subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing, data)
values (%s, %s, '/tests', %s, %s, %s, 1, %s, now(), false, 0, 0, %s, '{}')
"""
ROW = """
insert into heed_data.engagement
select contact_id, %s, date_first_click, date_last_click, frequency, volume, volume_last_30, period_months,
    valid_until
from heed_data.engagement_at(array[%s], clock_timestamp(), 'infinity')
"""
MANY = """
insert into heed_data.fact
    (subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing, data)
select %(subject)s, md5(i::text)::uuid, '/tests', 'f' || i,
    case i %% 2 when 0 then 'mail.clicked' else 'mail.delivered' end,
    date_trunc('milliseconds', now()) - make_interval(secs => i), 1, md5(i::text)::uuid, now(), false, 0, 0,
    case i %% 2 when 0 then 'm' || i else 'm' end, '{}'
from generate_series(1, %(count)s) i
"""


def connected(dsn: str) -> psycopg.Connection[rows.DictRow]:
    return psycopg.connect(dsn, autocommit=True, row_factory=rows.dict_row)


@asynccontextmanager
async def api(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    """The application in this loop; its log is never asked."""
    served = app.create_app(settings.Settings(kafka="127.0.0.1:1", postgres=dsn), keys=keyring.held())
    transport = httpx.ASGITransport(served)  # type: ignore[arg-type]
    async with served.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://heed") as client:
        yield client


def tell(sql: psycopg.Connection[Any], contact: str, type: str, mailing: str, time: datetime) -> str:
    """A fact, as the fold would have put it; answers its id."""
    key, digest = uuid.uuid4(), uuid.uuid4()
    sql.execute(FACT, (f"contact:{contact}", key, str(key), type, time, digest, mailing))
    return str(key)


def tell_many(sql: psycopg.Connection[Any], contact: str, count: int) -> None:
    """So many facts, every second a click of a mailing of its own, the others deliveries of one mailing."""
    sql.execute(MANY, {"subject": f"contact:{contact}", "count": count})


def fold(sql: psycopg.Connection[Any], contact: str, home: int = 3) -> None:
    """The contact's row, as its owner would have written it."""
    sql.execute("delete from heed_data.engagement where contact_id = %s", (contact,))
    sql.execute(ROW, (home, contact))


def seen(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
