"""What the demo's plain Kafka clients are made with: the settings of Heed in librdkafka's words.

Called by `deploy.demo_send` and `deploy.demo_report`.
"""

from __future__ import annotations

from typing import Any

from schemas import settings
from streams import broker


def configuration(servers: str) -> dict[str, Any]:
    """For a client of confluent-kafka, by the environment. Raises errors.Usage."""
    chosen = settings.Settings.load()
    into = broker.of(chosen)
    given = {
        "bootstrap.servers": servers,
        "security.protocol": chosen.kafka_security_protocol,
        "ssl.ca.location": chosen.kafka_ca_file,
        "ssl.certificate.location": chosen.kafka_certificate,
        "ssl.key.location": chosen.kafka_certificate_key or chosen.kafka_certificate,
        "sasl.username": into.user,
        "sasl.password": into.password,
        "sasl.mechanism": into.mechanism if into.user else None,
    }
    return {name: str(value) for name, value in given.items() if value}
