"""When one common pass is worth it: the rule of thumb, what is measured, and the probes that keep it honest."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ai.workflows.gain import FIRST_PROBE_AFTER, GAIN_FOR_PEOPLE, PROBE_EVERY, GainBook, GainKey, bucket_of
from modules.ai.workflows.manifest import Family
from modules.ai.workflows.plan import MergeForm
from modules.domain.images import Dimensions
from modules.domain.jobs import ServerName

ALL_FAMILIES = list(Family)


def key(side: int = 1024, pictures: int = 4, server: str = "gpu-1", heavy: str = "flux") -> GainKey:
    return GainKey(server=ServerName(server), heavy_key=heavy, bucket=bucket_of(Dimensions(side, side)), pictures=pictures)


def favours(book: GainBook, of: GainKey, family: Family = Family.FLUX2) -> bool:
    return book.gain(of, family) >= GAIN_FOR_PEOPLE


@pytest.mark.parametrize(("side", "bucket"), [(512, 0), (768, 1), (1024, 2), (1440, 3), (2048, 4)])
def test_usual_sizes_fall_into_buckets_of_their_own(side: int, bucket: int) -> None:
    assert bucket_of(Dimensions(side, side)) == bucket


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_before_anything_is_measured_small_pictures_are_batched(family: Family) -> None:
    assert favours(GainBook(), key(512), family)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_before_anything_is_measured_a_megapixel_is_batched_for_u_nets_only(family: Family) -> None:
    assert favours(GainBook(), key(1024), family) is (family in (Family.SDXL, Family.SD15))


def test_measurements_replace_the_rule_in_both_directions() -> None:
    book = GainBook()
    book.note(key(512), MergeForm.STACKED, 4.0)
    book.note(key(512), MergeForm.BATCHED, 4.2)
    book.note(key(1024), MergeForm.STACKED, 20.0)
    book.note(key(1024), MergeForm.BATCHED, 10.0)
    assert not favours(book, key(512))
    assert favours(book, key(1024))
    assert book.measured(key(1024)) == pytest.approx(2.0)


def test_a_single_picture_is_a_yardstick_for_every_number_of_pictures() -> None:
    book = GainBook()
    book.note(key(pictures=1), MergeForm.SOLO, 5.0)
    book.note(key(pictures=4), MergeForm.BATCHED, 10.0)
    assert book.measured(key(pictures=4)) == pytest.approx(2.0)


def test_what_one_server_or_model_teaches_says_nothing_of_another() -> None:
    book = GainBook()
    book.note(key(), MergeForm.STACKED, 20.0)
    book.note(key(), MergeForm.BATCHED, 10.0)
    assert book.measured(key(server="gpu-2")) is None
    assert book.measured(key(heavy="sdxl")) is None
    assert book.measured(key(512)) is None


def test_one_run_that_hung_is_no_news_but_a_slower_machine_is() -> None:
    book = GainBook()
    for form in (MergeForm.STACKED, MergeForm.BATCHED):
        book.note(key(), form, 10.0)
    book.note(key(), MergeForm.BATCHED, 500.0)
    assert book.measured(key()) == pytest.approx(1.0)
    for _ in range(30):
        book.note(key(), MergeForm.BATCHED, 20.0)
    assert book.measured(key()) == pytest.approx(0.5, rel=0.01)


@given(st.floats(0.2, 4.0), st.integers(2, 16))
def test_the_average_settles_on_the_true_gain(true_gain: float, pictures: int) -> None:
    book = GainBook()
    of = key(pictures=pictures)
    for _ in range(40):
        book.note(of, MergeForm.STACKED, 2.0 * pictures)
        book.note(of, MergeForm.BATCHED, 2.0 * pictures / true_gain)
    assert book.measured(of) == pytest.approx(true_gain, rel=1e-6)


@given(st.one_of(st.just(0.0), st.floats(max_value=0)))
def test_a_time_that_is_no_time_is_ignored(seconds: float) -> None:
    book = GainBook()
    book.note(key(), MergeForm.BATCHED, seconds)
    book.note(key(), MergeForm.STACKED, 1.0)
    assert book.measured(key()) is None


def test_the_other_form_is_tried_early_once_and_then_rarely() -> None:
    book = GainBook()
    decided = [book.prefers_batch(key(), Family.FLUX2, GAIN_FOR_PEOPLE) for _ in range(2 * PROBE_EVERY + FIRST_PROBE_AFTER)]
    tried = [at for at, is_batch in enumerate(decided) if is_batch]
    assert tried[0] == FIRST_PROBE_AFTER
    assert tried[1] - tried[0] == PROBE_EVERY + 1
    assert Counter(decided)[True] == 2


def test_a_probe_of_the_other_form_is_enough_to_change_the_mind() -> None:
    book = GainBook()
    forms = []
    for _ in range(20):
        is_batch = book.prefers_batch(key(), Family.FLUX2, GAIN_FOR_PEOPLE)
        forms.append(is_batch)
        book.note(key(), MergeForm.BATCHED if is_batch else MergeForm.STACKED, 5.0 if is_batch else 12.0)
    assert forms[: FIRST_PROBE_AFTER + 1] == [False] * FIRST_PROBE_AFTER + [True]
    assert all(forms[FIRST_PROBE_AFTER:])
