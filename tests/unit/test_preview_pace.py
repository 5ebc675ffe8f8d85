"""Previews pass no more often than people are shown them, and what passes is the newest."""

from __future__ import annotations

from modules.ai.preview_pace import PreviewPace
from modules.ai.runs import RawPreview
from tests.support.builders import a_job_id

ANA, BEN = a_job_id(), a_job_id()


def a_preview(number: int) -> RawPreview:
    return RawPreview(slot=0, image=bytes([number]))


def test_the_first_preview_of_each_job_passes_at_once() -> None:
    pace = PreviewPace(2.0)
    pace.take_in(ANA, a_preview(1))
    assert pace.due(10.0) == [a_preview(1)]
    pace.take_in(BEN, a_preview(2))
    assert pace.due(10.1) == [a_preview(2)]


def test_of_many_that_come_in_between_only_the_newest_passes_and_is_not_forgotten() -> None:
    pace = PreviewPace(2.0)
    pace.take_in(ANA, a_preview(1))
    pace.due(10.0)
    for number in range(2, 9):
        pace.take_in(ANA, a_preview(number))
        assert pace.due(10.0 + number / 10) == []
    assert pace.next_at() == 12.0
    assert pace.due(12.0) == [a_preview(8)]
    assert pace.due(20.0) == []
    assert pace.next_at() == float("inf")


def test_a_finished_picture_is_not_announced_by_an_older_preview() -> None:
    pace = PreviewPace(2.0)
    for job_id in (ANA, BEN):
        pace.take_in(job_id, a_preview(1))
        pace.due(10.0)
        pace.take_in(job_id, a_preview(2))
    pace.drop(ANA)
    assert pace.due(13.0) == [a_preview(2)]
    pace.take_in(BEN, a_preview(3))
    pace.clear()
    assert pace.due(99.0) == []
