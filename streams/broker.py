"""Kafka as every client of Heed meets it: where it is, how it is spoken to, and why it lets nobody in.

Promises: the one place where settings become arguments of a client, so TLS and SASL hold for all of them.
Names in certificates are always checked. A broker that answers but refuses is told from one that is away,
with what to change; no password stands in any message or `repr`.
Limits: files and password are read once, at the start of a process. Frozen: share it between threads.
Called by: whatever in `streams` and `api` makes a client of Kafka.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

import aiokafka.conn
import aiokafka.errors
import faust
from aiokafka.protocol.metadata import MetadataRequest

from schemas import errors, settings

LOOK_SECONDS: Final = 2.0  # for one server, when asked why it refuses

_RIGHTS: Final = (
    aiokafka.errors.TopicAuthorizationFailedError,
    aiokafka.errors.GroupAuthorizationFailedError,
    aiokafka.errors.ClusterAuthorizationFailedError,
)
_FAILURES: Final = (OSError, TimeoutError, aiokafka.errors.KafkaError)
_OTHER_NAME: Final = {62, 64}  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH


@dataclasses.dataclass(frozen=True, slots=True)
class Broker:
    """A cluster: `servers` as in HEED_KAFKA, and by which protocol, trust and name it is entered."""

    servers: str
    protocol: str = "PLAINTEXT"
    trust: ssl.SSLContext | None = None
    mechanism: str = "PLAIN"
    user: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)

    @property
    def client(self) -> dict[str, Any]:
        """What every client of aiokafka is made with."""
        return {"bootstrap_servers": self.servers, **self._security}

    @property
    def faust(self) -> dict[str, Any]:
        """What a Faust app is made with."""
        made: faust.auth.Credentials | None = faust.SSLCredentials(self.trust) if self.trust else None
        if self.user is not None:
            made = faust.SASLCredentials(
                username=self.user, password=self.password, mechanism=self.mechanism, ssl_context=self.trust
            )
        servers = ";".join(f"kafka://{server.strip()}" for server in self.servers.split(","))
        return {"broker": servers, "broker_credentials": made}

    async def reachable(self, seconds: float) -> bool:
        """Whether a server lets us in now; never raises, and takes `seconds` a server at the most."""
        for host, port in self._places():
            with contextlib.suppress(*_FAILURES):
                async with asyncio.timeout(seconds), self._connected(host, port):
                    return True
        return False

    async def away(self, error: BaseException, says: str = "") -> errors.Away:
        """What to raise after `error`: `errors.Refused` where a server says why, else `errors.Away`."""
        says = says or (
            f"Kafka cannot be reached at {self.servers}: is it running, are HEED_KAFKA and "
            "HEED_KAFKA_SECURITY_PROTOCOL right?"
        )
        if isinstance(error, _RIGHTS):
            return errors.Refused(
                f"Kafka does not allow this user something that Heed needs ({type(error).__name__}): grant "
                "it the rights that docs/operations.md lists under TLS and SASL."
            )
        if self.protocol == "PLAINTEXT":
            return errors.Away(says)
        sentence = await self._why()
        return errors.Refused(sentence) if sentence else errors.Away(says)

    async def _why(self) -> str | None:
        """Why a server refuses: aiokafka keeps the reason to itself, so the simplest thing is tried again.

        Those that HEED_KAFKA names first, then those that they name: their certificates may differ.
        """
        left, seen = list(self._places()), set[tuple[str, int]]()
        while left:
            place = left.pop(0)
            if place in seen:
                continue
            seen.add(place)
            try:
                async with asyncio.timeout(LOOK_SECONDS), self._connected(*place) as connection:
                    told = await connection.send(MetadataRequest([]))
                left += [(host, port) for _, host, port, *_ in told.brokers]
            except _FAILURES as error:
                if sentence := self._refusal(error, f"{place[0]}:{place[1]}"):
                    return sentence
        return None

    def _refusal(self, error: BaseException | None, server: str) -> str | None:
        """The sentence for an error of TLS or SASL; None for one that says nothing of them."""
        while error is not None:
            match error:
                case ssl.SSLCertVerificationError() if error.verify_code in _OTHER_NAME:
                    return (
                        f"Kafka's certificate at {server} is for another name: name the brokers (in "
                        "HEED_KAFKA, and in their advertised.listeners) as their certificates do."
                    )
                case ssl.SSLCertVerificationError():
                    return (
                        f"Kafka's certificate at {server} is not trusted ({error.verify_message}): set "
                        "HEED_KAFKA_CA_FILE to the certificate of the authority that signed it."
                    )
                case ssl.SSLError() if "ALERT" in (error.reason or ""):
                    return (
                        f"Kafka at {server} does not take this client's certificate ({error.reason}): set "
                        "HEED_KAFKA_CERTIFICATE and HEED_KAFKA_CERTIFICATE_KEY to one that it trusts."
                    )
                case ssl.SSLError():
                    return (
                        f"Kafka does not speak TLS at {server} ({error.reason}): check the port in "
                        "HEED_KAFKA, and HEED_KAFKA_SECURITY_PROTOCOL."
                    )
                case aiokafka.errors.SaslAuthenticationFailed():
                    return (
                        f"Kafka at {server} does not take this user or password: check HEED_KAFKA_USER, "
                        "HEED_KAFKA_PASSWORD (or its file) and HEED_KAFKA_SASL_MECHANISM."
                    )
                case aiokafka.errors.UnsupportedSaslMechanismError():
                    return (
                        f"Kafka at {server} does not offer {self.mechanism}: set "
                        "HEED_KAFKA_SASL_MECHANISM to one that its listener has enabled."
                    )
                case aiokafka.errors.IllegalSaslStateError():
                    return (
                        f"Kafka at {server} asks for no user: check the port in HEED_KAFKA, and "
                        "HEED_KAFKA_SECURITY_PROTOCOL."
                    )
            error = error.__cause__
        return None

    @contextlib.asynccontextmanager
    async def _connected(self, host: str, port: int) -> AsyncIterator[aiokafka.conn.AIOKafkaConnection]:
        """One connection, greeted and let in, for the time of a `with`."""
        connection = await aiokafka.conn.create_conn(host, port, **self._security)
        try:
            yield connection
        finally:
            connection.close()

    def _places(self) -> list[tuple[str, int]]:
        found = aiokafka.conn.collect_hosts(self.servers, randomize=False)
        return [(host, port) for host, port, _ in found]

    @property
    def _security(self) -> dict[str, Any]:
        return {
            "security_protocol": self.protocol,
            "ssl_context": self.trust,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.user,
            "sasl_plain_password": self.password,
        }


@functools.lru_cache(maxsize=8)
def of(chosen: settings.Settings) -> Broker:
    """The cluster that the settings name; raises `errors.Usage` for a file that cannot be used."""
    protocol = chosen.kafka_security_protocol.upper()
    if not protocol.startswith("SASL"):
        return Broker(chosen.kafka, protocol, _trust(chosen))
    return Broker(
        chosen.kafka,
        protocol,
        _trust(chosen),
        chosen.kafka_sasl_mechanism,
        chosen.kafka_user,
        _password(chosen),
    )


def _trust(chosen: settings.Settings) -> ssl.SSLContext | None:
    if not chosen.kafka_security_protocol.endswith("ssl"):
        return None
    try:
        made = ssl.create_default_context(cafile=chosen.kafka_ca_file)
    except (OSError, ValueError) as error:
        raise errors.Usage(
            f"HEED_KAFKA_CA_FILE cannot be used ({type(error).__name__}): it names a file in PEM form with "
            "the certificates of the authorities that are trusted."
        ) from None
    if chosen.kafka_certificate:
        try:
            # Without a password of ours OpenSSL would ask the terminal for that of an encrypted key.
            made.load_cert_chain(chosen.kafka_certificate, chosen.kafka_certificate_key, password="")
        except (OSError, ValueError) as error:
            raise errors.Usage(
                f"HEED_KAFKA_CERTIFICATE and HEED_KAFKA_CERTIFICATE_KEY do not make a certificate "
                f"({type(error).__name__}): they name two files in PEM form, the second with the key of the "
                "first, not encrypted."
            ) from None
    return made


def _password(chosen: settings.Settings) -> str:
    if chosen.kafka_password_file is None:
        return chosen.kafka_password
    try:
        found = chosen.kafka_password_file.read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise errors.Usage(
            f"HEED_KAFKA_PASSWORD_FILE cannot be read ({type(error).__name__}): it names a file that holds "
            "the password, and that this process may read."
        ) from None
    if not found:
        raise errors.Usage("HEED_KAFKA_PASSWORD_FILE is empty: write the password into it.")
    return found
