"""What is handed to PostgreSQL arrives as it was."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import psycopg
import pytest
from hypothesis import strategies as st

from projections import database


@pytest.fixture(scope="module")
def connection(module_database: str) -> Iterator[psycopg.Connection]:
    with database.connect(module_database, database.OPS_PATH, "arrays") as made:
        yield made


@hypothesis.given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
            st.sampled_from(["", "NULL", "{}", 'a","b', '"', "\\", '\\"', "a,b", " a "]),
        ),
        max_size=5,
    )
)
def test_an_array_arrives_text_by_text(connection: psycopg.Connection, texts: list[str]) -> None:
    assert connection.execute("select %s::text[]", (database.array(texts),)).fetchone() == (texts,)


def test_an_array_of_numbers_arrives(connection: psycopg.Connection) -> None:
    numbers = [0, 7, -1]
    assert connection.execute("select %s::smallint[]", (database.array(numbers),)).fetchone() == (numbers,)
