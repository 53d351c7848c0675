"""A Kafka that asks who one is, over TLS by SCRAM or PLAIN or by certificates, and knows what each may do.

Promises: names, passwords and rights are those of this file, made anew for each broker; `heed` may do what
docs/operations.md says that Heed needs, and nothing else. Its own plain listener stays, for making them.
Called by `tests.integration.test_tls`.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from deploy.kafka import Kafka
from deploy.processes import LOOPBACK, free_ports
from schemas import topics
from tests import certificates, keyring

USER = "heed"
STRANGER = "stranger"  # has a password, and no rights
ADDRESSES = ("sasl", "mutual", "misnamed", "sasl_plaintext")
_MODULES = "org.apache.kafka.common.security"


class Secured:
    """The broker, the authority that everyone trusts, and another that nobody does."""

    def __init__(self, home: Path) -> None:
        broker, controller, *own = free_ports(2 + len(ADDRESSES))
        self.authority = certificates.Authority(home, "authority")
        self.other = certificates.Authority(home, "other")
        self.password = secrets.token_hex(12)
        self.at = {name: f"{LOOPBACK}:{port}" for name, port in zip(ADDRESSES, own, strict=True)}
        server = self.authority.sign("kafka", LOOPBACK)
        self.client = self.authority.sign(USER)
        plain = f'user_{USER}="{self.password}"'
        self.kafka = Kafka(
            home / "kafka", broker, controller, say=lambda _: None,
            settings={
                **_listeners(broker, controller, dict(zip(ADDRESSES, own, strict=True))),
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(server.both),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.authority.file),
                "listener.name.mutual.ssl.client.auth": "required",
                "listener.name.mutual.ssl.principal.mapping.rules": r"RULE:^CN=(.*)$/$1/",
                "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
                "listener.name.sasl.scram-sha-512.sasl.jaas.config":
                    f"{_MODULES}.scram.ScramLoginModule required;",
                "listener.name.sasl.plain.sasl.jaas.config":
                    f"{_MODULES}.plain.PlainLoginModule required {plain};",
                "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "SCRAM-SHA-256",
                "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config":
                    f"{_MODULES}.scram.ScramLoginModule required;",
            },
        )  # fmt: skip

    def start(self) -> None:
        self.kafka.start()
        self.kafka.wait()
        self._admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 2})
        self._let_in()

    def scram(self, **env: str) -> dict[str, str]:
        """What an environment says for SCRAM over TLS, with these instead."""
        return {
            "HEED_KAFKA": self.at["sasl"],
            "HEED_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
            "HEED_KAFKA_CA_FILE": str(self.authority.file),
            "HEED_KAFKA_USER": USER,
            "HEED_KAFKA_PASSWORD": self.password,
            "HEED_MASTER_KEY": keyring.MASTER_TEXT,
            **env,
        }

    def mutual(self, **env: str) -> dict[str, str]:
        """What an environment says for certificates on both sides, with these instead."""
        return {
            "HEED_KAFKA": self.at["mutual"],
            "HEED_KAFKA_SECURITY_PROTOCOL": "ssl",
            "HEED_KAFKA_CA_FILE": str(self.authority.file),
            "HEED_KAFKA_CERTIFICATE": str(self.client.certificate),
            "HEED_KAFKA_CERTIFICATE_KEY": str(self.client.key),
            "HEED_MASTER_KEY": keyring.MASTER_TEXT,
            **env,
        }

    def change(self, password: str) -> None:
        """Another password, for who connects from now on."""
        for kind in (ScramMechanism.SCRAM_SHA_512, ScramMechanism.SCRAM_SHA_256):  # one a request
            told: list[UserScramCredentialAlteration] = [
                UserScramCredentialUpsertion(user, ScramCredentialInfo(kind, 4096), password.encode())
                for user in (USER, STRANGER)
            ]
            for one in self._admin.alter_user_scram_credentials(told).values():
                one.result(30)

    def _let_in(self) -> None:
        self.change(self.password)
        of = AclOperation
        rights = [
            (ResourceType.TOPIC, topic.name, right)
            for topic in topics.all_topics(1)
            for right in (of.READ, of.WRITE, of.CREATE, of.DESCRIBE_CONFIGS)
        ]
        rights += [
            (ResourceType.GROUP, "heed", of.READ),
            (ResourceType.BROKER, "kafka-cluster", of.DESCRIBE),
        ]
        granted = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{USER}", "*", right,
                       AclPermissionType.ALLOW)
            for kind, name, right in rights
        ]  # fmt: skip
        for right in self._admin.create_acls(granted).values():
            right.result(30)


def _listeners(broker: int, controller: int, own: dict[str, int]) -> dict[str, str]:
    kinds = {"SASL": "SASL_SSL", "MUTUAL": "SSL", "MISNAMED": "SSL", "SASL_PLAINTEXT": "SASL_PLAINTEXT"}
    named = {"PLAINTEXT": broker} | {name.upper(): port for name, port in own.items()}
    listening = [f"{name}://{LOOPBACK}:{port}" for name, port in named.items()]
    told = [one.replace(LOOPBACK, "localhost") if "MISNAMED" in one else one for one in listening]
    kinds |= {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    return {
        "listeners": ",".join([*listening, f"CONTROLLER://{LOOPBACK}:{controller}"]),
        "advertised.listeners": ",".join(told),
        "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in kinds.items()),
    }
