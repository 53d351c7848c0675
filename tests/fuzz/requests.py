"""Hostile payloads on their way to the API: batches, single events, and requests that are hostile themselves.

Promises: the same requests for one seed; each says which outcomes the contract asks for, where it is exact.
Limits: at most 16 requests under way; each request is bounded in time.
Called by the fuzz tests.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp

from tests.fuzz import payloads, verdict

BATCH = "application/cloudevents-batch+json"
ONE = "application/cloudevents+json"
UNDER_WAY = 16
SECONDS = 30
LARGE = 300_000  # bytes: with another event it stays a request that is taken
STATUS = {
    "accepted": verdict.Verdict.TAKEN,
    "parked": verdict.Verdict.WAITS,
    "refused": verdict.Verdict.REFUSED,
}
ODD_TYPES = (
    "",
    "text/plain",
    "application/xml",
    "application/json; charset=utf-16",
    "application/cloudevents+xml",
    "application/json;;;",
    "*/*",
    "a" * 4_000,
    "application/cloudevents-batch+json; charset=UTF-8",
)
ODD_ENCODINGS = ("gzip", "deflate", "br", "gzip, gzip", "x-gzip", "identity", "zstd", "", "GZIP")
HEADERS = (
    ("Idempotency-Key", "k"),
    ("Idempotency-Key", "é"),
    ("traceparent", "00-0-0-00"),
    ("traceparent", "x" * 999),
    ("ce-specversion", "1.0"),
    ("ce-type", "%FF"),
    ("ce-id", '"\\'),
    ("X-Forwarded-For", "::1"),
    ("Accept", "x/y"),
    ("Accept-Encoding", "*;q=0"),
    ("Cookie", "a=b;" * 99),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request and the payloads in it; `exact`: each has the outcome that the verdict names."""

    headers: dict[str, str]
    body: bytes
    told: Sequence[payloads.Payload]
    exact: bool


@dataclass(slots=True)
class Answers:
    """What came back: outcomes by their status, statuses of requests, and what is wrong with any."""

    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def requests(seed: int, count: int) -> Iterator[Request]:
    """Requests with so many payloads in all."""
    choice = random.Random(f"{seed}:requests")
    waiting: list[payloads.Payload] = []
    for one in payloads.payloads(seed, count):
        if choice.random() < 0.7 and _is_json(one.raw):
            waiting.append(one)
            if len(waiting) >= choice.randrange(1, 60) or sum(len(each.raw) for each in waiting) > LARGE:
                yield _batch(waiting)
                waiting = []
        else:
            yield _single(one, choice)
    if waiting:
        yield _batch(waiting)


def _batch(told: Sequence[payloads.Payload]) -> Request:
    body = b"[" + b",".join(one.raw for one in told) + b"]"
    return Request({"Content-Type": BATCH}, body, list(told), exact=True)


def _single(one: payloads.Payload, choice: random.Random) -> Request:
    """One event, as it is, or in a request that is odd, too."""
    match choice.randrange(8):
        case 0:
            headers = {"Content-Type": ONE, "Content-Encoding": "gzip"}
            return Request(headers, gzip.compress(one.raw, 1), [one], exact=True)
        case 1:
            return Request({"Content-Type": choice.choice(ODD_TYPES)}, one.raw, [one], False)
        case 2:
            squeezed = bytearray(gzip.compress(one.raw, 1))
            squeezed[choice.randrange(len(squeezed))] ^= 1 << choice.randrange(8)
            headers = {"Content-Type": ONE, "Content-Encoding": choice.choice(ODD_ENCODINGS)}
            return Request(headers, bytes(squeezed[: choice.randrange(1, len(squeezed) + 1)]), [one], False)
        case 3:
            odd = dict(choice.sample(HEADERS, choice.randrange(1, 5)))
            return Request({"Content-Type": "application/json", **odd}, one.raw, [one], False)
        case 4:
            bad = b"[" + one.raw + choice.choice((b",", b"", b",]", b"]]", b"},{}]")) + b"]"
            return Request({"Content-Type": BATCH}, bad, [one], False)
        case _:
            return Request({"Content-Type": ONE}, one.raw, [one], True)


def _is_json(raw: bytes) -> bool:
    """Whether it can stand in a list of JSON without breaking the list."""
    try:
        json.loads(raw.decode())
    except (ValueError, RecursionError):
        return False
    return b"NaN" not in raw and b"Infinity" not in raw and bool(raw.strip())


async def send(url: str, told: Iterator[Request]) -> Answers:
    """Sends all of them, some at a time; gives what came back."""
    answers = Answers()
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, skip_auto_headers=["Content-Type"]) as session:
        await asyncio.gather(*(_work(session, f"{url}/v1/events", told, answers) for _ in range(UNDER_WAY)))
    return answers


async def _work(session: aiohttp.ClientSession, url: str, told: Iterator[Request], answers: Answers) -> None:
    for request in told:
        try:
            async with session.post(url, data=request.body, headers=request.headers) as found:
                _judge(answers, request, found.status, await found.read(), found.content_type)
        except (aiohttp.ClientError, TimeoutError) as error:
            answers.wrong.append(f"{_name(request)}: no answer: {error!r}")


def _judge(answers: Answers, request: Request, status: int, body: bytes, media: str) -> None:
    answers.statuses[status] += 1
    found = json.loads(body)
    if status not in (202, 400, 413, 415) or (status != 202 and media != "application/problem+json"):
        answers.wrong.append(f"{_name(request)}: {status} {body[:200]!r}")
    outcomes = found.get("outcomes", [])
    if status == 202:
        answers.outcomes.update(one["status"] for one in outcomes)
    if any(one["status"] == "refused" and not one["reason"] for one in outcomes):
        answers.wrong.append(f"{_name(request)}: refused without a reason")
    if request.exact:
        _compare(answers, request, outcomes)


def _compare(answers: Answers, request: Request, outcomes: list[dict[str, Any]]) -> None:
    if len(outcomes) != len(request.told):
        answers.wrong.append(f"{_name(request)}: {len(outcomes)} outcomes for {len(request.told)} events")
        return
    now = datetime.now(UTC)
    for one, outcome in zip(request.told, outcomes, strict=True):
        wanted = verdict.judge(one.raw, now, None)
        if STATUS[outcome["status"]] is not wanted:
            answers.wrong.append(f"{one.number} {one.mutation}: {wanted} but {outcome}: {one.raw[:400]!r}")


def _name(request: Request) -> str:
    return f"payloads {[one.number for one in request.told][:3]} {request.headers}"[:300]
