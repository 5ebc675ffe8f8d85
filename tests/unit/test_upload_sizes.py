"""How large files may be sent: within Discord's limits from the start, and never again at a size that was refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modules.discord.upload_sizes import MIB, REQUEST_BYTES, SMALLEST_FILE_BYTES, UploadPlace, UploadSizes
from modules.domain.people import GuildId

HERE = UploadPlace(guild_id=GuildId(1), file_bytes=10 * MIB)
BOOSTED = UploadPlace(guild_id=GuildId(1), file_bytes=100 * MIB)
DIRECT = UploadPlace(guild_id=None, file_bytes=10 * MIB)


@given(st.integers(min_value=1, max_value=10), st.sampled_from([HERE, BOOSTED, DIRECT]))
def test_a_whole_request_stays_under_25_mib_from_the_first_try(files: int, place: UploadPlace) -> None:
    limit = UploadSizes().limit(place, files)
    assert limit * files <= REQUEST_BYTES < 25 * MIB
    assert limit <= place.file_bytes


def test_what_was_refused_is_remembered_for_the_place_and_no_other() -> None:
    sizes = UploadSizes()
    assert sizes.was_refused(HERE, [6 * MIB]) == 3 * MIB
    assert sizes.limit(HERE, 1) == 3 * MIB
    assert sizes.limit(DIRECT, 1) == 10 * MIB
    assert sizes.limit(BOOSTED, 1) == 24 * MIB  # more boosts, another limit


def test_of_several_files_the_sum_is_remembered_since_it_may_have_been_the_sum() -> None:
    sizes = UploadSizes()
    assert sizes.was_refused(HERE, [5 * MIB, 6 * MIB]) == 3 * MIB
    assert sizes.limit(HERE, 2) == 3 * MIB
    assert sizes.limit(HERE, 1) == 6 * MIB


@given(st.lists(st.integers(min_value=1, max_value=24 * MIB), min_size=1, max_size=8))
def test_refusals_end(first: list[int]) -> None:
    sizes, sent, tries = UploadSizes(), first, 0
    while (limit := sizes.was_refused(HERE, sent)) is not None:
        sent = [min(size, limit) for size in sent]
        tries += 1
        assert tries < 10
    assert max(sent) <= SMALLEST_FILE_BYTES


def test_an_upload_that_is_cut_off_twice_is_sent_smaller_and_no_other_is() -> None:
    sizes = UploadSizes()
    sizes.was_cut("job")
    assert sizes.limit(HERE, 1, "job") == 10 * MIB  # once may be chance
    sizes.was_cut("job")
    assert sizes.limit(HERE, 1, "job") == 5 * MIB
    assert sizes.limit(HERE, 1, "another") == 10 * MIB
    for _ in range(99):
        sizes.was_cut("job")
    assert sizes.limit(HERE, 1, "job") == SMALLEST_FILE_BYTES
    sizes.is_done("job")
    assert sizes.limit(HERE, 1, "job") == 10 * MIB
