"""What happens when a pass does not fit into memory."""

import pytest
import torch

from comfy_custom_nodes.core import RowLimit

from .toy import Patcher, Wish, alone, likeness_db, together

pytestmark = pytest.mark.torch


def test_running_out_of_memory_halves_the_rows_and_loses_nothing() -> None:
    patcher = Patcher("joint")
    patcher.model.most_rows = 2
    people = [Wish(seed=seed, cfg=1.0) for seed in range(5)]
    merged = together(patcher, people, steps=3)
    # 5 fails once, then 2+2+1 at every step: the limit is remembered
    assert patcher.model.rows_seen == [5, 2, 2, 1, 2, 2, 1, 2, 2, 1]
    for row, wish in enumerate(people):
        assert likeness_db(merged[row : row + 1], alone(patcher, wish, steps=3)) > 100


def test_one_row_that_does_not_fit_is_an_error() -> None:
    patcher = Patcher("joint")
    patcher.model.most_rows = 0
    with pytest.raises(torch.OutOfMemoryError):
        together(patcher, [Wish(seed=1), Wish(seed=2)])
    assert patcher.model.rows_seen == [2, 1]


def test_any_other_failure_is_not_tried_again() -> None:
    calls: list[tuple[int, ...]] = []

    def fails(rows: tuple[int, ...]) -> None:
        calls.append(rows)
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        RowLimit(4, lambda error: False, lambda: None).run((0, 1, 2, 3), fails)
    assert calls == [(0, 1, 2, 3)]


def test_memory_is_released_between_tries_and_the_failed_pass_is_gone_by_then() -> None:
    alive: list[bool] = []

    class Big:
        def __del__(self) -> None:
            alive.append(False)

    def one_pass(rows: tuple[int, ...]) -> None:
        big = Big()
        if len(rows) > 1:
            raise torch.OutOfMemoryError(str(big is not None))

    RowLimit(2, lambda error: isinstance(error, torch.OutOfMemoryError), lambda: alive.append(True)).run((0, 1), one_pass)
    assert alive[:2] == [False, True]


def test_most_rows_in_one_pass_can_be_asked_for() -> None:
    patcher = Patcher("joint")
    together(patcher, [Wish(seed=seed, cfg=1.0) for seed in range(7)], steps=1, max_rows=3)
    assert patcher.model.rows_seen == [3, 3, 1]
