"""The registry's owner, without Kafka and threads.

Called by the law tests.
"""

from __future__ import annotations

from typing import cast

import psycopg

from projections import database, fold, positions, recalculation, registry
from tests.laws import world


class Registrar:
    """See the module."""

    def __init__(self, dsn: str) -> None:
        self.connection = database.connect(dsn, "trial, " + database.LIVE_PATH, "registry")
        self.fuse = world.Fuse(self.connection)
        self.connection.execute(fold.PLAN)
        self.begin()

    def begin(self) -> None:
        """Nothing was ever decided, or linked."""
        self.connection.execute("delete from registry")
        self.connection.execute("delete from member")
        self.connection.execute("delete from erased")
        self.connection.execute("delete from recalculation")
        self.connection.execute("delete from recalculation_cause")
        self.held = positions.claim(self.connection, registry.READER, "registrar", {registry.TP: 0})
        self.next = 0

    def fold(self, *values: bytes) -> registry.Done:
        """Fold these records, as they follow each other on the topic."""
        start, self.next = self.next, self.next + len(values)
        told = [
            world.Entry("registry", 0, offset, 0, value)
            for offset, value in zip(range(start, self.next), values, strict=True)
        ]
        batch = registry.decode(told)
        move = positions.Move(self.held[registry.TP].epoch, start, self.next, self.next)
        batch.moves = {registry.TP: move}
        return registry.advance(cast("psycopg.Connection", self.fuse), batch, world.HOMES)

    def settle(self) -> None:
        """Step until everyone is queued."""
        while recalculation.is_filling(self.connection):
            self.fold()
