"""HTTP before any route: what is no HTTP, and what has too long a head, is answered in the one shape, too.

Promises: bytes that cannot be parsed get a 400, an address and headers of more than `MAX_HEAD_BYTES` a 431,
both as RFC 9457; then the connection is closed. A head that never ends costs twice that at most.

Limits: an answer that is under way on the same connection may be cut short by it: who sends rubbish behind a
request gets what he asked for.

Given to uvicorn by `api.app`.
"""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http import httptools_impl

from api import problems

MAX_HEAD_BYTES: Final = 64 * 1024

_AROUND_HEADER: Final = len(": \r\n")


class TooLong(Exception):
    """The head of a request is longer than is taken."""


class Protocol(httptools_impl.HttpToolsProtocol):
    """Uvicorn's, with a limit to the head and answers of ours for what has no route."""

    _size = 0  # bytes of the head as far as it is parsed
    _unparsed = 0  # bytes that came since the head began, while it has not ended
    _in_head = False
    _too_long = False

    def data_received(self, data: bytes) -> None:
        """Feeds the parser; never raises."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._unparsed += len(data)
            if self._unparsed > 2 * MAX_HEAD_BYTES:
                self._too_long = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._size, self._unparsed, self._in_head = 0, 0, True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the address. Raises TooLong, which the parser turns into its own error."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header. Raises TooLong."""
        self._count(len(name) + len(value) + _AROUND_HEADER)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, _: str) -> None:
        """Answers what cannot be parsed, and closes; uvicorn's own sentence is left out."""
        kind = problems.HEAD_TOO_LARGE if self._too_long else problems.BAD_REQUEST
        answer = problems.answer(problems.Problem(kind, f"{kind.title}."))
        lines = (
            f"HTTP/1.1 {kind.status} {kind.title}",
            f"content-type: {problems.MEDIA_TYPE}",
            f"content-length: {len(answer.content)}",
            "connection: close",
            "\r\n",
        )
        self.transport.write("\r\n".join(lines).encode() + answer.content)
        self.transport.close()

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_HEAD_BYTES:
            self._too_long = True
            raise TooLong
