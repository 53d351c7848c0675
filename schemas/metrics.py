"""Every metric, declared once: name, what it says, its labels and the closed list of their values.

Base units, no ids and no partitions as labels. Where a label has a closed list of values, its series stand at
zero from the start, so that a rate or an alert never waits for a first event. `DECLARED` is what docs and
tests read.
Limits: one registry a process, prometheus_client's own; `labels` with a value that is not on the list is a
mistake that `check` finds, not one that is refused at run time.
Called by streams and api (count) and by whoever serves /metrics.
"""

import importlib.metadata
import itertools
import platform
from dataclasses import dataclass
from typing import Final

import prometheus_client as prometheus

from schemas import errors, events, topics

HTTP: Final = "http"
READERS: Final = ("intake", "fold", "registry", "keys")
SCHEDULES: Final = ("refresh-expired", "run-queue")
COMMAND_KINDS: Final = ("engagement.expire",)
PARTS: Final = ("kafka", "postgres", "homes")
FUTURE: Final = "parked.future"
REDRIVES: Final = ("driven", "parked", "gone")

Values = tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is declared; a label without values is bounded by the code that counts (routes)."""

    name: str
    kind: str
    about: str
    labels: dict[str, Values]


DECLARED: Final[dict[str, Metric]] = {}

# Without this every counter has a twin that tells when it was made.
prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RECORDS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 4000, 8000)


def _declare(name: str, kind: str, about: str, labels: dict[str, Values]) -> None:
    assert name not in DECLARED, name
    DECLARED[name] = Metric(name, kind, about, labels)


def _start(metric: prometheus.metrics.MetricWrapperBase, labels: dict[str, Values]) -> None:
    if labels and None not in labels.values():
        for values in itertools.product(*(values or () for values in labels.values())):
            metric.labels(*values)


def _counter(name: str, about: str, **labels: Values) -> prometheus.Counter:
    _declare(name, "counter", about, labels)
    metric = prometheus.Counter(name, about, tuple(labels))
    _start(metric, labels)
    return metric


def _gauge(name: str, about: str, **labels: Values) -> prometheus.Gauge:
    _declare(name, "gauge", about, labels)
    metric = prometheus.Gauge(name, about, tuple(labels))
    _start(metric, labels)
    return metric


def _histogram(name: str, about: str, buckets: tuple[float, ...], **labels: Values) -> prometheus.Histogram:
    _declare(name, "histogram", about, labels)
    metric = prometheus.Histogram(name, about, tuple(labels), buckets=buckets)
    _start(metric, labels)
    return metric


_REASONS: Final = tuple(errors.Reason)
_TYPES: Final = tuple(event.name for event in events.built())
_REGISTERED: Final = tuple(event.name for event in events.registered())

ADMITTED: Final = _counter(
    "heed_admitted_total",
    "Events put on the log, by the door they came by.",
    door=(HTTP, *topics.DOORS),
)
PARKED: Final = _counter("heed_parked_total", "Events that could not be folded and wait.", reason=_REASONS)
REDRIVEN: Final = _counter(
    "heed_redriven_total", "Parked records judged again, by what became of them.", outcome=REDRIVES
)
DISCARDED: Final = _counter(
    "heed_discarded_total", "Parked records thrown away by somebody.", reason=_REASONS
)
PARKED_EXPIRED: Final = _counter(
    "heed_parked_expired_total", "Parked records deleted after HEED_PARKED_DAYS.", reason=_REASONS
)
REFUSED: Final = _counter("heed_refused_total", "Events refused by HTTP, not kept.", reason=_REASONS)
EVENTS_FOLDED: Final = _counter("heed_events_folded_total", "Facts folded for the first time.", type=_TYPES)
REGISTERED: Final = _counter(
    "heed_registered_total",
    "Facts of the registry folded: settings, keys, what was discarded.",
    type=_REGISTERED,
)
DUPLICATES: Final = _counter("heed_duplicates_total", "Copies of facts already known; they change nothing.")
CONFLICTS: Final = _counter("heed_conflicts_total", "Facts told again with another time or other content.")
CONTACT_ERRORS: Final = _gauge("heed_contact_errors", "Contacts whose rows cannot be computed now.")
ROW_DIFFERENCES: Final = _counter("heed_row_differences_total", "Rows found to differ from their facts.")
LAG_RECORDS: Final = _gauge(
    "heed_lag_records", "Records of its topics a reader has yet to read.", reader=READERS
)
LAG_SECONDS: Final = _gauge(
    "heed_lag_seconds", "Age of the oldest record a reader has yet to read; 0 when idle.", reader=READERS
)
BATCH_RECORDS: Final = _histogram("heed_batch_records", "Records in one batch of the fold.", _RECORDS)
TRANSACTION_SECONDS: Final = _histogram(
    "heed_transaction_seconds", "How long a transaction of the fold takes, commit included.", _SECONDS
)
ROW_DELAY_SECONDS: Final = _histogram(
    "heed_row_delay_seconds", "From an event's acceptance to its committed row.", _SECONDS
)
TIMER_LATENESS_SECONDS: Final = _histogram(
    "heed_timer_lateness_seconds",
    "From the instant something was due to its row.",
    _SECONDS,
    kind=(*COMMAND_KINDS, FUTURE),
)
COMMANDS: Final = _counter("heed_commands_total", "Commands put into the outbox.", kind=COMMAND_KINDS)
NUDGES: Final = _gauge("heed_nudges", "Contacts waiting to be looked at again.")
CLAIMS: Final = _counter("heed_claims_total", "Homes and doors claimed by this process.")
SCHEDULED: Final = _counter(
    "heed_scheduled_total", "Slots of schedules fired by this process.", schedule=SCHEDULES
)
FENCED: Final = _counter("heed_fenced_total", "Times this process found that another owns what it held.")
OUTBOX_BACKLOG: Final = _gauge(
    "heed_outbox_backlog", "Commands in the outbox, not yet read back from the log."
)
OUTBOX_SECONDS: Final = _gauge(
    "heed_outbox_seconds", "Age of the oldest command in the outbox; 0 when it is empty."
)
MISSING: Final = _gauge(
    "heed_missing", "What the API finds missing: 1 for a server that is away, else the homes.", part=PARTS
)
HTTP_REQUEST_SECONDS: Final = _histogram(
    "heed_http_request_seconds",
    "How long a request takes; the route is the template, never the path.",
    _SECONDS,
    route=None,
    method=None,
    status=None,
)
BUILD_INFO: Final = _gauge(
    "heed_build_info", "1, with the version of Heed and of Python.", version=None, python=None
)


def version() -> str:
    """The version of Heed; "0" where it is not installed as a distribution."""
    try:
        return importlib.metadata.version("heed")
    except importlib.metadata.PackageNotFoundError:
        return "0"


BUILD_INFO.labels(version(), platform.python_version()).set(1)


def check() -> list[str]:
    """Every series of this process that was counted under a value that is not declared; for tests."""
    wrong = []
    for family in prometheus.REGISTRY.collect():
        for sample in family.samples:
            declared = DECLARED.get(family.name) or DECLARED.get(f"{family.name}_total")
            for label, value in sample.labels.items():
                values = declared.labels.get(label) if declared else None
                if values is not None and value not in values:
                    wrong.append(f"{sample.name}{{{label}={value!r}}}")
    return wrong
