"""Spans of OpenTelemetry: request, append, intake, fold; exported by OTLP over HTTP where a setting says so.

Promises: off by default, and then nothing of OpenTelemetry is loaded and a batch pays one comparison. On, a
batch is one span however many records it has, with at most `LINKS` links to the traces that its events name
(`traceparent`). Spans hold numbers, names of ours and route templates: never an address, a subject, a payload
or an error's text. Exporting has a thread and a bounded queue of its own: a collector that is away or slow
loses spans and holds up nothing.
Limits: headers, certificates and sampling are the standard's own variables (`OTEL_EXPORTER_OTLP_HEADERS`,
`OTEL_TRACES_SAMPLER` …), read by its SDK.
Called by: `streams.app`, lanes, the API.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from schemas import metrics
from streams import fetches

LINKS: Final = 16
LOOKED_AT: Final = 64  # records of a batch whose headers are looked at for links
EXPORT_SECONDS: Final = 5
STOP_SECONDS: Final = 2.0
TRACEPARENT: Final = "traceparent"

_is_traceparent: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch
_tracer: Any = None
_provider: Any = None


def start(endpoint: str, service: str, instance: str) -> None:
    """Export from now on, if there is somewhere to; once a process, before its work begins."""
    global _tracer, _provider
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http import trace_exporter
    from opentelemetry.sdk import resources, trace
    from opentelemetry.sdk.trace import export

    about = {"service.name": service, "service.instance.id": instance, "service.version": metrics.version()}
    exporter = trace_exporter.OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS
    )
    _provider = trace.TracerProvider(resource=resources.Resource.create(about), shutdown_on_exit=False)
    _provider.add_span_processor(export.BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    _tracer = _provider.get_tracer("heed", metrics.version())
    fetches.keep_headers()


def stop() -> None:
    """Send what is left, for a while."""
    if _provider is not None:
        sending = threading.Thread(target=_provider.shutdown, name="tracing", daemon=True)
        sending.start()
        sending.join(STOP_SECONDS)


def on() -> bool:
    """Whether spans are exported."""
    return _tracer is not None


class Span:
    """A span under way; without export, nothing."""

    def __init__(self, inner: Any = None) -> None:
        self._inner = inner

    def tell(self, attributes: Mapping[str, int | str], name: str | None = None) -> None:
        """Add attributes (numbers, and names of ours); name it anew."""
        if self._inner is None:
            return
        if name is not None:
            self._inner.update_name(name)
        for key, value in attributes.items():
            self._inner.set_attribute(key, value)

    def link(self, traceparents: Iterable[str]) -> None:
        """Link the traces of events, at most `LINKS`."""
        if self._inner is not None:
            for context in _contexts(traceparents):
                self._inner.add_link(context)


_NOTHING: Final = Span()
_OFF: Final = contextlib.nullcontext(_NOTHING)


def batch(name: str, read: object) -> contextlib.AbstractContextManager[Span]:
    """A span around what is done with a batch, if anything was read."""
    return span(name, "consumer") if _tracer is not None and read else _OFF


@contextlib.contextmanager
def span(
    name: str, kind: str = "internal", parent: str | None = None, **attributes: int | str
) -> Iterator[Span]:
    """A span around what is done; `parent` is a traceparent, else the span around it. What is raised is told
    by its name alone."""
    if _tracer is None:
        yield _NOTHING
        return
    from opentelemetry import trace

    above = next(iter(_contexts([parent or ""])), None)
    around = trace.set_span_in_context(trace.NonRecordingSpan(above)) if above is not None else None
    with _tracer.start_as_current_span(
        name, around, trace.SpanKind[kind.upper()], record_exception=False, set_status_on_exception=False
    ) as inner:
        told = Span(inner)
        told.tell(attributes)
        try:
            yield told
        except BaseException as error:
            inner.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
            raise


def done(name: str, seconds: float, traceparents: Iterable[str], **attributes: int | str) -> None:
    """A span of what has just been done, and took so long."""
    if _tracer is None:
        return
    from opentelemetry import trace

    ended = time.time_ns()
    links = [trace.Link(context) for context in _contexts(traceparents)]
    inner = _tracer.start_span(
        name, kind=trace.SpanKind.CONSUMER, links=links, start_time=ended - int(seconds * 1e9)
    )
    Span(inner).tell(attributes)
    inner.end(ended)


def current() -> str | None:
    """The traceparent of the span that is under way here, where spans are exported."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def of_records(records: Sequence[Any]) -> Iterator[str]:
    """Traceparents in the headers of a batch's records: some of them are looked at, spread evenly."""
    for record in records[:: max(1, len(records) // LOOKED_AT)]:
        for name, value in record.headers:
            if name == TRACEPARENT:
                yield value.decode("ascii", "replace")


def trace_id(traceparent: str | None) -> str | None:
    """The id of the trace, where it is one."""
    match = _is_traceparent(traceparent or "")
    return match[1] if match else None


def _contexts(traceparents: Iterable[str]) -> Iterator[Any]:
    from opentelemetry import trace

    number = 0
    for text in dict.fromkeys(traceparents):
        match = _is_traceparent(text)
        if match is None:
            continue
        context = trace.SpanContext(
            int(match[1], 16), int(match[2], 16), True, trace.TraceFlags(int(match[3], 16))
        )
        if context.is_valid:
            yield context
            number += 1
        if number == LINKS:
            return
