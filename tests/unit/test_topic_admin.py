"""Topics asked about while Kafka goes away: that is no doubt."""

from __future__ import annotations

import aiokafka.errors
import pytest

from schemas import errors
from streams import broker, topic_admin


class Admin:
    """A client whose broker fails at the first question."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = False

    async def list_topics(self) -> list[str]:
        raise self.error

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Admin:
    admin = Admin(aiokafka.errors.KafkaConnectionError("closed"))

    async def connect(_: broker.Broker) -> Admin:
        return admin

    monkeypatch.setattr(topic_admin, "connect", connect)
    return admin


@pytest.mark.parametrize("question", [topic_admin.check, topic_admin.check_there, topic_admin.create])
async def test_a_broker_that_goes_while_it_is_asked_is_away(failing: Admin, question: object) -> None:
    """Found by the soak: a worker that started just then ended in doubt, instead of waiting."""
    with pytest.raises(errors.Away):
        await question(broker.Broker("kafka:9092"), 8)  # type: ignore[operator]
    assert failing.closed


async def test_what_waiting_does_not_mend_is_not_waited_for(failing: Admin) -> None:
    failing.error = aiokafka.errors.TopicAuthorizationFailedError()
    with pytest.raises(errors.Refused, match=r"grant it the rights that docs/operations\.md lists"):
        await topic_admin.wait(broker.Broker("kafka:9092"), 8)
    assert failing.closed


async def test_what_is_no_matter_of_rights_or_of_waiting_is_raised_as_it_is(failing: Admin) -> None:
    failing.error = aiokafka.errors.InvalidTopicError()
    with pytest.raises(aiokafka.errors.InvalidTopicError):
        await topic_admin.wait(broker.Broker("kafka:9092"), 8)
    assert failing.closed
