"""What the program does when it cannot start: one sentence, and an exit code that tells the supervisor what to do."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from tests.support.program import UP_WITHIN_S, whole_house


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


async def test_asked_to_stop_while_a_server_lets_the_start_check_wait_it_stops_at_once(tmp_path: Path) -> None:
    """A server that takes the connection and says nothing keeps the start check waiting; SIGTERM ends it cleanly."""
    asked = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        settings = {"COMFY_URLS": f"http://127.0.0.1:{port}"}
        async with whole_house(tmp_path, settings=settings, is_started=False) as house:
            await house.program.start()
            async with asyncio.timeout(UP_WITHIN_S):
                await asked.wait()
            assert await house.program.stop() == 0
            said = house.program.said()
            assert "stopped_while_starting" in said
            assert "Traceback" not in said
            assert house.discord.context.gateway.identifies == 0
    finally:
        server.close()
