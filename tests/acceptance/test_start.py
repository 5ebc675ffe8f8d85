"""What the program does when it cannot start: one sentence, and an exit code that tells the supervisor what to do."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.program import whole_house


async def test_a_database_that_is_away_is_worth_another_start(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"DATABASE_URL": f"postgresql://me:secret@127.0.0.1:{port}/fullet"}
    async with whole_house(tmp_path, settings=settings, is_started=False) as house:
        await house.program.start()
        assert await house.program.wait() == 1
        said = house.program.said()
        assert "the database cannot be used (unreachable)" in said
        assert "Traceback" not in said
        assert "secret" not in said
