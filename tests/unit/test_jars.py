"""Kafka's jars: a half-filled folder is mended, a wrong file is never taken, and trouble is one sentence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy import jars
from schemas import errors

FILES = {f"/org/heed/{name}/1.0/{name}-1.0.jar": f"the bytes of {name}".encode() * 99 for name in "abcd"}


class Repository:
    """A Maven repository on the loopback address, with what it serves and how often it was asked."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.asked: list[str] = []
        self.break_off: set[str] = set()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        body = self.files.get(handler.path)
        handler.send_response(200 if body is not None else 404)
        handler.send_header("Content-Length", str(len(body or b"")))
        handler.end_headers()
        if handler.path in self.break_off:
            self.break_off.discard(handler.path)
            body = (body or b"")[:10]
        handler.wfile.write(body or b"")


@pytest.fixture
def repository() -> Iterator[tuple[Repository, dict[str, str]]]:
    served = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served, {"here": f"http://127.0.0.1:{server.server_port}"}
        server.shutdown()
        thread.join()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    lines = (f"org.heed:{path.split('/')[3]}:1.0 {sha256(body).hexdigest()}" for path, body in FILES.items())
    path = tmp_path / "kafka.lock"
    path.write_text("# a lock\n" + "\n".join(lines) + "\n")
    return path


def test_the_lock_pins_every_jar_and_names_no_host() -> None:
    kept = jars.locked()
    assert len({jar.filename for jar in kept}) == len(kept) >= 40
    assert all(len(jar.sha256) == 64 for jar in kept)
    assert f"org.apache.kafka:kafka_2.13:{jars.VERSION}" in {jar.coordinate for jar in kept}
    assert "//" not in jars.LOCK.read_text()


def test_an_empty_folder_is_filled_once(
    tmp_path: Path, lock: Path, repository: tuple[Repository, dict[str, str]]
) -> None:
    served, remotes = repository
    said: list[str] = []
    paths = jars.ensure(tmp_path / "jars", said.append, lock, remotes)
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert said[0] == f"Kafka {jars.VERSION}: fetching 4 of 4 jars"
    assert [line.split()[0] for line in said[1:-1]] == [path.name for path in paths]
    served.asked.clear()
    assert jars.ensure(tmp_path / "jars", said.append, lock, remotes) == paths
    assert served.asked == [] and len(said) == 6


def test_what_is_missing_or_damaged_is_fetched_again_and_nothing_else(
    tmp_path: Path, lock: Path, repository: tuple[Repository, dict[str, str]]
) -> None:
    served, remotes = repository
    folder = tmp_path / "jars"
    gone, short, other, _ = jars.ensure(folder, lambda _: None, lock, remotes)
    gone.unlink()
    short.write_bytes(short.read_bytes()[:7])
    other.write_bytes(b"not a jar")
    (folder / ".fetching-of-a-killed-run").mkdir()
    served.asked.clear()
    said: list[str] = []
    paths = jars.ensure(folder, said.append, lock, remotes)
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert said[0].endswith("fetching 3 of 4 jars, 2 of them damaged")
    assert [path for path in served.asked if path.endswith(".jar")] == list(FILES)[:3]


def test_a_line_that_breaks_off_is_tried_again(
    tmp_path: Path, lock: Path, repository: tuple[Repository, dict[str, str]]
) -> None:
    served, remotes = repository
    served.break_off = {list(FILES)[1]}
    paths = jars.ensure(tmp_path / "jars", lambda _: None, lock, remotes)
    assert [path.read_bytes() for path in paths] == list(FILES.values())


@pytest.mark.parametrize("body", [b"other bytes", None])
def test_a_wrong_or_missing_file_is_one_sentence_and_leaves_no_jar_of_that_name(
    tmp_path: Path, lock: Path, repository: tuple[Repository, dict[str, str]], body: bytes | None
) -> None:
    served, remotes = repository
    path = list(FILES)[2]
    if body is None:
        del served.files[path]
    else:
        served.files[path] = body
    with pytest.raises(errors.Away, match=r"^c-1\.0\.jar cannot be fetched \(.*run it again\.$"):
        jars.ensure(tmp_path / "jars", lambda _: None, lock, remotes)
    assert sorted(path.name for path in (tmp_path / "jars").iterdir()) == ["a-1.0.jar", "b-1.0.jar"]
