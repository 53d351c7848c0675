"""What a broker tells of itself that aiokafka does not ask: which Kafka it is, and how full its disks are.

Promises: asked in the versions of the protocol that hold these answers (ApiVersions 3, DescribeLogDirs 4);
`None` where a broker does not know them or may not tell.
Limits: brokers tell the version of their protocol's features, not of their packages.
Called by: `streams.doctor_kafka`; pinned by `tests/contract/test_broker_facts.py`.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import aiokafka.errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol import api, types

METADATA: Final = "metadata.version"
# The last feature level of each release (server-common's MetadataVersion).
RELEASES: Final = {7: "3.3", 8: "3.4", 11: "3.5", 14: "3.6", 19: "3.7", 20: "3.8", 21: "3.9", 25: "4.0",
                   27: "4.1", 29: "4.2", 30: "4.3"}  # fmt: skip

_name = types.CompactString("utf-8")
_feature: Final = types.CompactArray(
    ("name", _name), ("least", types.Int16), ("most", types.Int16), ("tags", types.TaggedFields)
)
_partitions: Final = types.CompactArray(
    ("partition", types.Int32), ("size", types.Int64), ("lag", types.Int64), ("future", types.Boolean),
    ("tags", types.TaggedFields),
)  # fmt: skip
_topics: Final = types.CompactArray(
    ("name", _name), ("partitions", _partitions), ("tags", types.TaggedFields)
)


class _VersionsAnswer(api.Response):  # type: ignore[misc]
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = types.Schema(
        ("error_code", types.Int16),
        (
            "apis",
            types.CompactArray(
                ("key", types.Int16), ("least", types.Int16), ("most", types.Int16),
                ("tags", types.TaggedFields),
            ),
        ),
        ("throttle_time_ms", types.Int32),
        ("tags", types.TaggedFields),
    )  # fmt: skip


class _AskVersions(api.RequestStruct):  # type: ignore[misc]
    API_KEY = 18
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _VersionsAnswer
    SCHEMA = types.Schema(("software", _name), ("version", _name), ("tags", types.TaggedFields))

    def parse_response_header(self, read_buffer: Any) -> Any:
        return api.ResponseHeader_v0.decode(read_buffer)  # this answer alone keeps the old header


class Versions(api.Request[_AskVersions]):  # type: ignore[misc]
    """Which Kafka a broker is."""

    API_KEY = 18
    ALLOW_UNKNOWN_API_VERSION = True

    def build(self, struct: type[_AskVersions]) -> _AskVersions:
        return struct("heed", "1", {})


class _DisksAnswer(api.Response):  # type: ignore[misc]
    API_KEY = 35
    API_VERSION = 4
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        ("error_code", types.Int16),
        (
            "results",
            types.CompactArray(
                ("error_code", types.Int16), ("log_dir", _name), ("topics", _topics),
                ("total", types.Int64), ("usable", types.Int64), ("tags", types.TaggedFields),
            ),
        ),
        ("tags", types.TaggedFields),
    )  # fmt: skip


class _AskDisks(api.RequestStruct):  # type: ignore[misc]
    API_KEY = 35
    API_VERSION = 4
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DisksAnswer
    SCHEMA = types.Schema(
        (
            "topics",
            types.CompactArray(
                ("topic", _name), ("partitions", types.CompactArray(types.Int32)),
                ("tags", types.TaggedFields),
            ),
        ),
        ("tags", types.TaggedFields),
    )  # fmt: skip


class Disks(api.Request[_AskDisks]):  # type: ignore[misc]
    """How full the disks of a broker are."""

    API_KEY = 35

    def build(self, struct: type[_AskDisks]) -> _AskDisks:
        return struct([], {})  # of no topic: the sizes of the disks come with the answer


async def release(admin: AIOKafkaAdminClient, node: int) -> str | None:
    """The release of a broker, as "4.3", by the newest feature level that it supports."""
    try:
        answer = await admin._client.send(node, Versions())
        offered = _feature.decode(BytesIO(answer.tags[0])) or []
    except (aiokafka.errors.KafkaError, NotImplementedError, KeyError, ValueError):
        return None
    level = next((most for name, _, most, _ in offered if name == METADATA), None)
    if level is None:
        return None
    exact = next((name for last, name in sorted(RELEASES.items()) if level <= last), None)
    return exact or f"newer than {RELEASES[max(RELEASES)]}"


async def disks(admin: AIOKafkaAdminClient, node: int) -> list[tuple[str, int, int]] | None:
    """(folder, bytes in all, bytes free) of a broker's disks."""
    try:
        answer = await admin._client.send(node, Disks())
    except (aiokafka.errors.KafkaError, NotImplementedError, ValueError):
        return None
    if answer.error_code:
        return None
    return [(folder, total, free) for error, folder, _, total, free, _ in answer.results if not error]
