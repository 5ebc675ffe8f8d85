"""Fixtures of the page's tests; everything runs on one loop a module, as the shared browser does."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.browser import require_chromium
from tests.support.page_stage import Stage, a_stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Stage]:
    """What takes a second to start."""
    require_chromium()
    async with a_stage() as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(shared: Stage) -> AsyncIterator[Stage]:
    """One test's share: its windows are closed, and whatever the browser complained about fails the test."""
    yield shared
    complaints = await shared.close_windows()
    assert not complaints, complaints
