"""What every contact's row should be, worked out by brute force and apart from Heed.

It shares no code with `projections` or `streams` and reads the topics with a plain consumer, so that a
mistake in Heed is not repeated here. Slow on purpose: every rule is written the way it is said.

Limits: engagement of contacts, deletion and restoring, merges of contacts, links of sessions, erasures.

Called by the law tests, the fault tests, and `make oracle` against a running stack.
"""

from tests.oracle.model import (
    Fact,
    Row,
    Rule,
    dropped_out,
    expected,
    histories,
    read,
    recency,
    row,
)

__all__ = ["Fact", "Row", "Rule", "dropped_out", "expected", "histories", "read", "recency", "row"]
