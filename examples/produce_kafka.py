"""Tells Heed of one click by its Kafka door, with nothing but a plain Kafka client.

    pip install confluent-kafka
    HEED_KAFKA=127.0.0.1:9092 python produce_kafka.py [contact]

Over TLS and SASL the client needs more settings of its own; KAFKA_CLIENT takes them as JSON:

    KAFKA_CLIENT='{"security.protocol": "sasl_ssl", "ssl.ca.location": "ca.pem", "sasl.mechanism":
    "SCRAM-SHA-512", "sasl.username": "shop", "sasl.password": "…"}'

Any client in any language will do: an event is JSON, the key is its subject, the partitioner is the client's
own default. Heed finds the contact in the event, never in the key or the partition.
"""

import json
import os
import sys
import uuid
from datetime import UTC, datetime

from confluent_kafka import KafkaError, Message, Producer


def report(error: KafkaError | None, message: Message) -> None:
    """Say what became of a message; an error here means: send it again, with the same id."""
    print(
        f"not delivered: {error}" if error else f"{message.topic()} {message.partition()} {message.offset()}"
    )


contact = sys.argv[1] if len(sys.argv) > 1 else "ada"
subject = f"contact:{contact}"
event = {
    "specversion": "1.0",
    "id": str(uuid.uuid4()),
    "source": "urn:example:produce-kafka",
    "type": "mail.clicked",
    "subject": subject,
    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    "data": {"mailing_id": "spring-2026", "url": "https://example.org/spring"},
}

client = {"bootstrap.servers": os.environ["HEED_KAFKA"], "enable.idempotence": True}
producer = Producer(client | json.loads(os.environ.get("KAFKA_CLIENT", "{}")))
producer.produce("email-activity", key=subject, value=json.dumps(event), on_delivery=report)
if producer.flush(10):
    sys.exit("Kafka has not answered within 10 seconds.")
