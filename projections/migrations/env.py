"""Alembic's entry: runs the revisions against the connection that `apply.upgrade` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="schema_version", version_table_schema="heed_ops")
with context.begin_transaction():
    context.run_migrations()
