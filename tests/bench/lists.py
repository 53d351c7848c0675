"""How long a page of `GET /v1/engagement` takes, pair by pair of filter and sort.

Promises: a million rows, made by SQL in the table itself (frequencies of one to twenty, 37 % of them one;
last clicks over a year, 29 % of them in the last 30 days); each pair is asked for its first page and for
pages behind, in turn with all other pairs, and quoted as p50 and p95 of all requests.
Limits: the application is asked in this process, without a socket; nobody folds meanwhile.

`python -m tests.bench.lists [--rows N] [--requests N]`
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx
import psycopg

from api import app
from deploy import processes
from deploy.postgres import Postgres
from projections.migrations import apply
from schemas import settings
from tests import keyring

HOMES: Final = 8
PAGES: Final = 5
PAIRS: Final = (
    "sort=contact_id",
    "sort=-contact_id",
    "sort=-frequency",
    "sort=recency",
    "sort=-recency",
    "sort=-date_last_click",
    "frequency_gte=3&sort=-frequency",
    "frequency_gte=3&recency_lt=30&sort=-frequency",
    "frequency=5&sort=-frequency",
    "recency_lt=30&sort=-frequency",
    "recency_lt=30&sort=recency",
    "recency_gte=90&recency_lt=180&sort=recency",
    "frequency_gte=3&sort=recency",
    "frequency_gte=3&recency_lt=30&sort=recency",
    "frequency_gte=3&recency_lt=30&sort=contact_id",
    "volume_gte=50&sort=contact_id",
    "sort=frequency",
    "sort=-volume",
    "recency_gte=300&sort=-frequency",
    "volume_gte=60&sort=-volume_last_30",
)
# Purpose: rows as folding would leave them, with no facts behind them; none is past its time.
ROWS: Final = """
insert into heed_data.engagement
select 'c' || lpad(i::text, 7, '0'), i %% 8, f, l, n, v, least(v, hashint4(i # 99) & 7), 12,
    now() + interval '20 days'
from (
    select i, date_trunc('milliseconds', now() - make_interval(secs => 60
            + (hashint4(i) & 2147483647) / 2147483648.0 * 30800000)) as f,
        1 + floor(20 * power((hashint4(i # 5) & 65535) / 65536.0, 3))::int as n,
        3 + (hashint4(i # 17) & 63) as v
    from generate_series(0, %(rows)s - 1) i
) a
cross join lateral (
    select date_trunc('milliseconds', f + (now() - f) * ((hashint4(i # 31) & 65535) / 65536.0)) as l
) b
"""


async def measure(dsn: str, requests: int) -> dict[str, list[float]]:
    """Seconds of each request, by pair."""
    served = app.create_app(settings.Settings(kafka="127.0.0.1:1", postgres=dsn), keys=keyring.held())
    transport = httpx.ASGITransport(served)  # type: ignore[arg-type]
    took: dict[str, list[float]] = {pair: [] for pair in PAIRS}
    behind: dict[str, str | None] = dict.fromkeys(PAIRS)
    async with served.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://heed") as client:
        for number, pair in itertools.product(range(requests), PAIRS):
            after = behind[pair] if number % PAGES else None
            began = time.perf_counter()
            response = await client.get(f"/v1/engagement?{pair}" + (f"&after={after}" if after else ""))
            took[pair].append(time.perf_counter() - began)
            behind[pair] = response.json()["next"] if response.status_code == 200 else None
    return took


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.lists", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=50, help="of each pair")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heed-lists-", ignore_cleanup_errors=True) as folder:
        (port,) = processes.free_ports(1)
        postgres = Postgres(Path(folder) / "postgres", port, settings={"shared_buffers": "1GB"})
        try:
            postgres.start()
            postgres.wait()
            apply.upgrade(postgres.dsn())
            with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
                connection.execute(ROWS, {"rows": chosen.rows})
                connection.execute("vacuum analyze heed_data.engagement")
            took = asyncio.run(measure(postgres.dsn(), chosen.requests))
        finally:
            postgres.stop()
    for pair, seconds in took.items():
        cuts = statistics.quantiles(seconds, n=20, method="inclusive")
        sys.stdout.write(f"| `{pair}` | {cuts[9] * 1e3:.1f} | {cuts[18] * 1e3:.1f} |\n")


if __name__ == "__main__":
    main()
