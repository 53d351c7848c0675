"""The Faust app that a worker is: with everything switched off that Heed does itself.

Promises: its settings are pinned by `tests/unit/test_app.py`.
Called by: `streams.app`.
"""

from __future__ import annotations

import faust

from schemas import settings
from streams import batches, broker


def make(chosen: settings.Settings) -> faust.App:
    """The Faust app with everything switched off that Heed does itself."""
    app = faust.App(
        chosen.group,
        **broker.of(chosen).faust,
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        datadir=str(chosen.home / "faust" / chosen.worker_name),
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=1 << 20,
        consumer_metadata_max_age_ms=5_000,  # how soon a topic that was away is shared out again
        consumer_group_instance_id=f"{chosen.group}-{chosen.worker_name}",
        broker_client_id=f"heed-{chosen.worker_name}",
        broker_session_timeout=10.0,
        broker_heartbeat_interval=0.5,  # how soon a worker hears of a rebalance, for which all others wait
        broker_rebalance_timeout=20.0,
        broker_request_timeout=40.0,
        broker_max_poll_records=batches.TARGET,
        broker_max_poll_interval=300.0,
        stream_buffer_maxsize=4,
        stream_wait_empty=False,
    )
    app.transport = batches.Transport(app.conf.broker_consumer, app)
    return app
