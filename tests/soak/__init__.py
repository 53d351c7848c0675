"""The soak: everything that can break is broken, under load, for half an hour, and a checker reads the
history.

In the manner of Jepsen: `plan` says from a seed what breaks when; `rig` runs the servers, three workers and
an API under Heed's own supervisor; `inflict` breaks them; `load` tells events by HTTP and by Kafka; `watch`
reads rows and positions all the while; `history` keeps what was told, answered and seen; `checker` holds it
against the final state, by pure functions.

Called by `make soak`; the short form is `tests/faults/test_soak.py`. docs/reliability.md has the results.
"""
