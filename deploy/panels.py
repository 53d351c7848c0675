"""What Heed's dashboards show: each panel with what it asks, its unit, and how to read it.

Promises: overview first (is it well, what flows, how fresh is it), then workers, API, and what the rows say.
Expressions ask declared metrics and recorded ones; SQL asks views of `heed_read`, each query reading
`contact_engagement` at most once.
Limits: no contact id is shown but where a table is of contacts.
Called by `deploy.dashboards`, which writes the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Ask = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `asks` are expressions with their legends (of SQL without); `bad` is where red begins."""

    kind: str
    title: str
    unit: str
    about: str
    asks: Sequence[Ask]
    width: int = 8
    height: int = 8
    bad: float | None = None
    sql: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    name: str
    title: str
    about: str
    refresh: str
    panels: Sequence[Panel]


def _lines(title: str, unit: str, about: str, *asks: Ask, bad: float | None = None) -> Panel:
    return Panel("timeseries", title, unit, about, asks, bad=bad)


def _stat(title: str, unit: str, about: str, expression: str, bad: float | None = None) -> Panel:
    return Panel("stat", title, unit, about, [(expression, "")], width=4, height=4, bad=bad)


def _sql(kind: str, title: str, unit: str, about: str, asked: str, width: int = 8, height: int = 9) -> Panel:
    return Panel(kind, title, unit, about, [(" ".join(asked.split()), "")], width, height, sql=True)


def _quantiles(name: str, by: str = "") -> list[Ask]:
    labels, legend = (f"{by}, ", f"{{{{{by}}}}} ") if by else ("", "")
    return [
        (
            f"histogram_quantile({share}, sum by ({labels}le) (rate({name}_bucket[$__rate_interval])))",
            f"{legend}{told}",
        )
        for share, told in ((0.5, "half"), (0.99, "99 %"))
    ]


def _rate(name: str, by: str = "") -> Ask:
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({name}[$__rate_interval]))", f"{{{{{by}}}}}" if by else "all"


FRESHNESS: Final = """
select projection, topic, count(*) as partitions, count(*) filter (where owner_state = 'silent') as silent,
    sum(lag_records)::bigint as records_behind, max(lag_seconds) as seconds_behind, min(as_of) as brought_to
from heed_read.freshness group by projection, topic order by projection, topic
"""
PARKED: Final = """
select reason, coalesce(type, 'not readable') as type, count(*) as events, max(parked_at) as latest
from heed_read.parked where parked_at > now() - interval '1 day' group by 1, 2 order by 3 desc limit 20
"""
TOTALS: Final = """
select count(*) as contacts, count(*) filter (where recency < 30) as clicked_in_30_days,
    round(avg(frequency), 2)::float8 as mean_frequency,
    (sum(frequency)::float8 / nullif(sum(volume), 0)) as clicked_of_delivered
from heed_read.contact_engagement
"""
FREQUENCY: Final = """
select case when frequency >= 20 then '20+' else frequency::text end as frequency, count(*) as contacts
from heed_read.contact_engagement group by 1, least(frequency, 20) order by least(frequency, 20)
"""
RECENCY: Final = """
select (array['under a week', '1 to 4 weeks', '1 to 3 months', '3 to 6 months', 'longer ago'])[band + 1]
    as last_click, contacts
from (select width_bucket(recency, array[7, 30, 90, 180]) as band, count(*) as contacts
    from heed_read.contact_engagement where recency is not null group by 1) counted order by band
"""
LEADERS: Final = """
select contact_id, frequency, volume, volume_last_30, recency, date_last_click
from heed_read.contact_engagement order by frequency desc, date_last_click desc, contact_id limit 20
"""
SLIPPING: Final = """
select contact_id, frequency, volume_last_30, recency, date_last_click
from heed_read.contact_engagement where frequency >= 3 and recency between 30 and 180
order by frequency desc, recency desc, contact_id limit 20
"""

OVERVIEW: Final = Dashboard(
    "overview", "overview", "Is it well, what flows, how fresh is it.", "30s",
    [
        _stat("Alerts", "none", "Alerts that fire now; the runbook has a heading for each.",
              'count(ALERTS{alertstate="firing", alertname=~"Heed.+"}) or vector(0)', bad=1),
        _stat("Processes away", "none", "Workers and APIs that do not answer Prometheus.",
              'count(up{job="heed"} == 0) or vector(0)', bad=1),
        _stat("Servers away", "none", "Kafka, PostgreSQL: as the APIs find them.",
              'sum(heed:missing:max{part=~"kafka|postgres"})', bad=1),
        _stat("Homes without a worker", "none", "Their contacts stand still; events wait on the log.",
              'heed:missing:max{part="homes"}', bad=1),
        _stat("Oldest unread", "s", "Age of the oldest record a reader has yet to read.",
              "max(heed:lag_seconds:max)", bad=60),
        _stat("Rows that differ", "none", "Rows found to differ from their facts, within a day.",
              "round(sum(increase(heed_row_differences_total[1d])))", bad=1),
        _lines("Came, by door", "ops", "Events put on the log, each second.",
               ("heed:admitted:rate5m", "{{door}}")),
        _lines("Folded, by type", "ops", "Facts folded for the first time, each second.",
               ("heed:folded:rate5m", "{{type}}")),
        _lines("Parked, by reason", "ops", "What could not be folded and waits; nothing vanishes.",
               ("heed:parked:rate5m", "{{reason}}")),
        _lines("From acceptance to row", "s", "99 of 100 within 250 ms is what is promised (CEE-1).",
               *_quantiles("heed_row_delay_seconds"), ("heed:row_delay_seconds:p99_5m", "99 %, 5 min"),
               bad=0.25),
        _lines("Timers' lateness", "s", "From when something was due to its row (CEE-8: 99 of 100 in 1 s).",
               ("heed:timer_lateness_seconds:p99_5m", "{{kind}} 99 %"), bad=1),
        _lines("Share parked", "percentunit", "Of the last 10,000 that came; over 1 % is an alert (LAW-7).",
               ("heed:parked:share10000", "parked"), bad=0.01),
        _lines("Records unread", "none", "Falling: a backlog worked off. Rising: more comes than is done.",
               ("heed:lag_records:sum", "{{reader}}")),
        _lines("Oldest unread", "s", "Age of the oldest unread record of each reader.",
               ("heed:lag_seconds:max", "{{reader}}"), bad=60),
        _lines("Copies and conflicts", "ops", "Copies change nothing. Conflicts: one id, two contents.",
               (_rate("heed_duplicates_total")[0], "copies"),
               (_rate("heed_conflicts_total")[0], "conflicts")),
        _sql("table", "Freshness, by what is fed", "none", "Silent: nobody has brought it on for 10 seconds.",
             FRESHNESS, 12),
        _sql("table", "Parked within a day", "none", "What could not be folded, and why.", PARKED, 12),
    ],
)  # fmt: skip
WORKERS: Final = Dashboard(
    "workers", "workers", "How the fold does: transactions, batches, nudges, outbox, processes.", "30s",
    [
        _lines("Transaction", "s", "How long one takes, commit included; both lanes of all workers.",
               *_quantiles("heed_transaction_seconds"), ("heed:transaction_seconds:p99_5m", "99 %, 5 min")),
        _lines("Records in a batch", "none", "Large: the fold is busy. One: it waits for events.",
               *_quantiles("heed_batch_records")),
        _lines("Facts of the registry", "ops", "Settings, keys, what was discarded.",
               _rate("heed_registered_total", "type")),
        _lines("Parked records settled", "ops", "Driven again, discarded, expired.",
               _rate("heed_redriven_total", "outcome"), _rate("heed_discarded_total", "reason"),
               _rate("heed_parked_expired_total", "reason")),
        _lines("Nudges waiting", "none", "Contacts to be looked at again; those in error stay for a while.",
               ("heed:nudges:sum", "waiting"), ("heed:contact_errors:sum", "in error")),
        _lines("Outbox", "none", "Commands not yet read back from the log.",
               ("heed:outbox_backlog:sum", "commands")),
        _lines("Oldest in the outbox", "s", "Over two minutes is an alert.",
               ("heed:outbox_seconds:max", "oldest"), bad=120),
        _lines("Commands", "ops", "What timers tell, by kind.", _rate("heed_commands_total", "kind")),
        _lines("Claims and fences", "none", "Claims: homes were shared out anew. Fences: one stood still.",
               ("sum by (name) (changes(heed_claims_total[5m]))", "{{name}} claims"),
               ("sum by (name) (changes(heed_fenced_total[5m]))", "{{name}} fences")),
        _lines("Started within an hour", "none", "How often each process began anew.",
               ('changes(process_start_time_seconds{job="heed"}[1h])', "{{role}} {{name}}")),
        _lines("CPU", "percentunit", "1 is a core. A worker at 1 wants company.",
               ('rate(process_cpu_seconds_total{role="worker"}[$__rate_interval])', "{{name}}")),
        _lines("Memory", "bytes", "Resident.",
               ('process_resident_memory_bytes{role="worker"}', "{{name}}")),
        _lines("Schedules fired within an hour", "none", "Each slot once, by whichever worker came first.",
               ("round(sum by (schedule) (increase(heed_scheduled_total[1h])))", "{{schedule}}")),
        Panel("table", "Versions", "none", "Two versions for long: a deploy that was not finished.",
              [("count by (role, version, python) (heed_build_info)", "")]),
    ],
)  # fmt: skip
API: Final = Dashboard(
    "api", "API", "Requests, answers, what is taken and what is refused.", "30s",
    [
        _lines("Requests, by route", "reqps", "All statuses.",
               ("heed:http_requests:rate5m", "{{method}} {{route}}")),
        _lines("Answers, by status", "reqps", "4xx is the sender's, 5xx is ours.",
               _rate("heed_http_request_seconds_count", "status")),
        _lines("Share of failures", "percentunit", "5xx of all, readiness left out; over 5 % is an alert.",
               ("heed:http_errors:share5m", "5xx"), bad=0.05),
        _lines("99 of 100 within", "s", "By route; calculate and refresh-expired wait for workers by design.",
               ("heed:http_request_seconds:p99_5m", "{{method}} {{route}}"), bad=1),
        _lines("All requests within", "s", "Over all routes.", *_quantiles("heed_http_request_seconds")),
        _lines("Taken by HTTP", "ops", "Events acknowledged by the log.",
               (_rate('heed_admitted_total{door="http"}')[0], "taken")),
        _lines("Refused, by reason", "ops", "Not kept; the sender was told.",
               _rate("heed_refused_total", "reason")),
        _lines("Share refused", "percentunit", "Of what is sent by HTTP; over a fifth is an alert.",
               ("heed:http_refused:share15m", "refused"), bad=0.2),
        _lines("Share of conflicts", "percentunit", "Facts told again with other content, within the hour.",
               ("heed:conflicts:share1h", "conflicts"), bad=0.01),
        _lines("CPU", "percentunit", "An API is one core; at 1 start another.",
               ('rate(process_cpu_seconds_total{role="api"}[$__rate_interval])', "{{name}}")),
        _lines("Memory", "bytes", "Resident.", ('process_resident_memory_bytes{role="api"}', "{{name}}")),
        _lines("What is missing", "none", "As each API finds it: 1 for a server, else the homes.",
               ("heed_missing", "{{name}} {{part}}")),
    ],
)  # fmt: skip
ENGAGEMENT: Final = Dashboard(
    "engagement", "engagement", "What the rows say, now: never a value past its time.", "5m",
    [
        _sql("stat", "Contacts", "none", "With a click inside the window; how many lately.", TOTALS, 24, 5),
        _sql("barchart", "Mailings clicked in", "none", "Contacts by frequency.", FREQUENCY, 12),
        _sql("barchart", "Last click", "none", "Contacts by how long ago they clicked last.", RECENCY, 12),
        _sql("table", "Most engaged", "none", "By the number of mailings clicked in.", LEADERS, 12, 12),
        _sql("table", "Slipping away", "none", "Clicked in three mailings or more, but not for a month.",
             SLIPPING, 12, 12),
    ],
)  # fmt: skip
ALL: Final = (OVERVIEW, WORKERS, API, ENGAGEMENT)
