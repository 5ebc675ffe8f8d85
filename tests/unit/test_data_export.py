"""An export of any length comes in files that Discord takes, each of them JSON, and nothing of it is missing."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from modules.discord.data_export import PART_BYTES, Part, parts_of
from modules.domain.people import UserId

Pages = Sequence[tuple[str, Sequence[Mapping[str, object]]]]
NAMES = st.sampled_from(["settings", "jobs", "pictures"])
ROWS = st.lists(st.fixed_dictionaries({"n": st.integers(), "text": st.text(max_size=60)}), max_size=6)
WHO = UserId(7)


async def given_out(pages: Pages) -> AsyncIterator[tuple[str, Sequence[Mapping[str, object]]]]:
    for page in pages:
        yield page


async def written(pages: Pages, most_bytes: int) -> list[Part]:
    return [part async for part in parts_of(WHO, given_out(pages), {"draft": None, "typed": {"a": "ü"}}, most_bytes=most_bytes)]


@given(st.lists(st.tuples(NAMES, ROWS), max_size=8), st.integers(200, 900))
@settings(deadline=None, max_examples=60)
async def test_all_parts_together_hold_every_row_once_and_in_order(pages: Pages, most_bytes: int) -> None:
    parts = await written(pages, most_bytes)
    documents = [json.loads(part.data) for part in parts]
    for name in ("settings", "jobs", "pictures"):
        rows = [row for document in documents for row in document.get(name, [])]
        wanted = [dict(row) for page, found in pages for row in found if page == name]
        assert rows == wanted
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert documents[0]["typed"] == {"a": "ü"}
    assert all(document["user_id"] == "7" for document in documents)
    for part, document in zip(parts, documents, strict=True):
        held = sum(len(document.get(name, [])) for name in ("settings", "jobs", "pictures"))
        assert len(part.data) <= most_bytes + 60 or held <= 1  # the names of lists that stay empty come on top


async def test_what_fits_into_one_file_is_one_file() -> None:
    [part] = await written([("settings", []), ("jobs", [{"prompt": "a fox"}]), ("pictures", [])], PART_BYTES)
    assert part.name == "fullet-mydata.json"
    assert json.loads(part.data)["settings"] == []


async def test_memory_holds_one_part_however_long_the_past_is() -> None:
    async def past() -> AsyncIterator[tuple[str, Sequence[Mapping[str, object]]]]:
        for page in range(100):
            yield "jobs", [{"seq": page * 100 + at, "prompt": "x" * 2_000} for at in range(100)]

    tracemalloc.start()
    try:
        total, count = 0, 0
        async for part in parts_of(WHO, past(), {}, most_bytes=1_000_000):
            total, count = total + len(part.data), count + 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total > 20_000_000
    assert count > 20
    assert peak < 6_000_000
