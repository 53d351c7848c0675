"""What a real broker tells by the requests that aiokafka does not know: its release, its disks. And that to
ask whether it is there leaves the asker as he was.
"""

from __future__ import annotations

import pytest

from streams import broker, broker_facts, log, topic_admin
from tests import stack


@pytest.mark.asyncio
async def test_a_broker_tells_its_release_and_its_disks(servers: stack.Servers) -> None:
    admin = await topic_admin.connect(broker.Broker(servers.bootstrap))
    try:
        (node,) = [one["node_id"] for one in (await admin.describe_cluster())["brokers"]]
        assert await broker_facts.release(admin, node) == "4.3"
        found = await broker_facts.disks(admin, node)
    finally:
        await admin.close()
    assert found is not None
    ((folder, total, free),) = found
    assert folder.startswith(str(servers.home))
    assert 0 < free <= total


@pytest.mark.asyncio
async def test_a_consumer_that_is_let_go_at_once_cancels_nobody(servers: stack.Servers) -> None:
    """Its tasks had not begun yet: aiokafka awaits them as they are cancelled."""
    async with log.reading(broker.Broker(servers.bootstrap)) as consumer:
        assert await consumer.end_offsets([]) == {}
    assert consumer._client._conns == {}, "closed to the end"
