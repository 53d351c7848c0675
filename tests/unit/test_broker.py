"""Settings of Kafka become arguments of clients in one place, for every client."""

from __future__ import annotations

import ast
import ssl
from pathlib import Path

import faust
import pytest

from schemas import errors, settings
from streams import broker
from tests import certificates

ROOT = Path(__file__).resolve().parent.parent.parent
SASL = {
    "HEED_KAFKA": "a:9092, b:9093",
    "HEED_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
    "HEED_KAFKA_USER": "heed",
    "HEED_KAFKA_PASSWORD": "hunter2",
}


def of(env: dict[str, str]) -> broker.Broker:
    return broker.of(settings.Settings.load(env))


def test_without_a_word_nothing_is_secured() -> None:
    made = of({"HEED_KAFKA": "a:9092"})
    assert made == broker.Broker("a:9092")
    assert made.client["security_protocol"] == "PLAINTEXT"
    assert made.faust == {"broker": "kafka://a:9092", "broker_credentials": None}


def test_sasl_over_tls() -> None:
    made = of(SASL)
    trust = made.client.pop("ssl_context")
    assert (trust.verify_mode, trust.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.client == {
        "bootstrap_servers": "a:9092, b:9093",
        "security_protocol": "SASL_SSL",
        "ssl_context": trust,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "heed",
        "sasl_plain_password": "hunter2",
    }
    of_faust = made.faust["broker_credentials"]
    assert made.faust["broker"] == "kafka://a:9092;kafka://b:9093"
    assert isinstance(of_faust, faust.SASLCredentials)
    assert (of_faust.protocol.value, of_faust.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (of_faust.username, of_faust.password, of_faust.ssl_context) == ("heed", "hunter2", trust)


def test_sasl_without_tls() -> None:
    made = of(SASL | {"HEED_KAFKA_SECURITY_PROTOCOL": "sasl_plaintext"})
    assert (made.client["security_protocol"], made.client["ssl_context"]) == ("SASL_PLAINTEXT", None)
    assert made.faust["broker_credentials"].protocol.value == "SASL_PLAINTEXT"


def test_certificates_on_both_sides(tmp_path: Path) -> None:
    authority = certificates.Authority(tmp_path, "authority")
    signed = authority.sign("heed")
    env = {
        "HEED_KAFKA": "a:9092",
        "HEED_KAFKA_SECURITY_PROTOCOL": "ssl",
        "HEED_KAFKA_CA_FILE": str(authority.file),
    }
    apart = {
        "HEED_KAFKA_CERTIFICATE": str(signed.certificate),
        "HEED_KAFKA_CERTIFICATE_KEY": str(signed.key),
    }
    for given in (apart, {"HEED_KAFKA_CERTIFICATE": str(signed.both)}):
        made = of(env | given)
        assert made.trust is not None
        assert [dict(*one["subject"]) for one in made.trust.get_ca_certs()] == [{"commonName": "authority"}]
        assert isinstance(made.faust["broker_credentials"], faust.SSLCredentials)


def test_a_password_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(" hunter3 \n")
    made = of(SASL | {"HEED_KAFKA_PASSWORD": "", "HEED_KAFKA_PASSWORD_FILE": str(tmp_path / "password")})
    assert made.password == " hunter3 "


def test_a_password_stands_in_no_repr() -> None:
    assert "hunter2" not in repr(of(SASL)) + repr(of(SASL).faust)


def test_files_that_cannot_be_used_are_refused_with_what_they_must_be(tmp_path: Path) -> None:
    authority = certificates.Authority(tmp_path, "authority")
    one, other = authority.sign("one"), authority.sign("other")
    empty, locked = tmp_path / "empty", tmp_path / "locked.key"
    empty.touch()
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    tls = {"HEED_KAFKA": "a:9092", "HEED_KAFKA_SECURITY_PROTOCOL": "ssl"}
    for env, says in (
        (tls | {"HEED_KAFKA_CA_FILE": str(tmp_path / "none")}, "HEED_KAFKA_CA_FILE cannot be used"),
        (tls | {"HEED_KAFKA_CA_FILE": str(empty)}, "HEED_KAFKA_CA_FILE cannot be used"),
        *(
            (
                tls | {
                    "HEED_KAFKA_CERTIFICATE": str(one.certificate),
                    "HEED_KAFKA_CERTIFICATE_KEY": str(key),
                },
                "do not make a certificate .* with the key of the first",
            )
            for key in (other.key, locked, empty, tmp_path)
        ),
        (
            SASL | {"HEED_KAFKA_PASSWORD": "", "HEED_KAFKA_PASSWORD_FILE": str(tmp_path)},
            "HEED_KAFKA_PASSWORD_FILE cannot be read",
        ),
        (
            SASL | {"HEED_KAFKA_PASSWORD": "", "HEED_KAFKA_PASSWORD_FILE": str(empty)},
            "HEED_KAFKA_PASSWORD_FILE is empty",
        ),
    ):  # fmt: skip
        with pytest.raises(errors.Usage, match=says):
            of(env)


def test_every_client_of_kafka_is_made_by_what_the_settings_say() -> None:
    made = []
    for path in (one for folder in ("streams", "api") for one in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
                "AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient", "AIOKafkaClient",
                "create_conn", "App",
            ):  # fmt: skip
                spread = [ast.unparse(one.value) for one in node.keywords if one.arg is None]
                made.append((path.name, spread))
    assert len(made) == 6, made
    for name, spread in made:
        assert any(one.endswith((".client", ".faust", "._security")) for one in spread), name
