"""What an operator meets: starts that cannot be, said in a sentence; the start-up report; the doctor; settings from `.env`."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.demo import demo_world
from modules.sandbox.discord_server.permissions import Permission
from tests.support.program import DOWN_WITHIN_S, ROOT, HouseOptions, WholeHouse, lawful_house, until, whole_house
from tests.support.wishing import PATIENCE_S, ask, draw, result, session

CANNOT_START, FAILED, WELL = 2, 1, 0


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended by itself."""

    code: int
    out: str
    err: str

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What `doctor --json` found."""
        found: list[dict[str, Any]] = json.loads(self.out)["findings"]
        return found

    def codes(self, severity: str) -> set[str]:
        """The codes of all findings of a severity."""
        return {finding["code"] for finding in self.findings if finding["severity"] == severity}


async def run(house: WholeHouse, *arguments: str, **settings: str) -> Ended:
    """`python app.py ...` with other settings than the house's, to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "app.py"),
        *arguments,
        env={**house.program.environment, **settings},
        cwd=house.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DOWN_WITHIN_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def options(gpus: int = 1, *, is_started: bool = True, **settings: str) -> HouseOptions:
    return {
        "is_started": is_started,
        "discord": DiscordSandbox(world=demo_world(guests=4)),
        "gpus": [ComfySandbox(name=f"gpu-{number}", time_scale=0.02) for number in range(1, gpus + 1)],
        "settings": settings,
    }


def without(permission: Permission, house: WholeHouse) -> None:
    """The bot's role loses a right."""
    for guild in house.discord.world.guilds.values():
        for role in guild.roles.values():
            if role.bot_id:
                role.permissions &= ~int(permission)


# --- starts that cannot be ------------------------------------------------------------------------------------------------


async def test_what_keeps_it_from_starting_is_one_sentence_and_never_a_traceback_or_a_secret(tmp_path: Path) -> None:
    async with whole_house(tmp_path, **options(is_started=False)) as house:
        (tmp_path / "notes.db").write_text("this is no database, however long it may be " * 50)
        (tmp_path / "folder.db").mkdir()
        cases: Mapping[str, tuple[int, str, dict[str, str]]] = {
            "database away": (  # this and the next may pass by themselves: the supervisor tries again
                FAILED,
                "the database cannot be used (unreachable)",
                {"DATABASE_URL": "postgres://fullet:very-secret@127.0.0.1:1/fullet?sslmode=require"},
            ),
            "a folder": (FAILED, "the database cannot be used", {"DATABASE_URL": f"sqlite:///{tmp_path}/folder.db"}),
            "no database": (CANNOT_START, "the database cannot be used", {"DATABASE_URL": f"sqlite:///{tmp_path}/notes.db"}),
            "token": (CANNOT_START, "Discord does not know this DISCORD_TOKEN.", {"DISCORD_TOKEN": "very-secret-token"}),
        }
        for name, (code, sentence, settings) in cases.items():
            ended = await run(house, **settings)
            assert ended.code == code, f"{name}: {ended.err}"
            assert f"FuLLet cannot start: {sentence}" in ended.err, name
            assert "Traceback" not in ended.err, name
            assert "very-secret" not in ended.out + ended.err, name


async def test_refused_intents_are_named_with_where_to_turn_them_on(tmp_path: Path) -> None:
    async with whole_house(tmp_path, **options(is_started=False)) as house:
        house.discord.world.application.flags = 0
        ended = await run(house)
        assert ended.code == CANNOT_START
        assert "Turn on SERVER MEMBERS INTENT and MESSAGE CONTENT INTENT" in ended.err
        assert "Traceback" not in ended.err


async def test_a_second_program_on_the_same_database_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        ended = await run(house)
        assert ended.code == CANNOT_START
        assert "another FuLLet already works with this database; stop it first" in ended.err
        await draw(await house.newcomer(), "undisturbed")


# --- starts that can -------------------------------------------------------------------------------------------------------


async def test_everything_can_stand_in_env_alone_and_is_read_before_anything_is_built(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options(gpus=2, is_started=False)) as house:
        wanted = {name: value for name, value in house.program.environment.items() if name != "PATH"}
        wanted |= {"USER_ACTIVE_LIMIT": "1", "DEFAULT_LOCALE": "es", "MAX_BATCH_SIZE": "2", "EXPORT_PATH": "from the env file"}
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in wanted.items()))
        house.program.environment = {"PATH": house.program.environment["PATH"], "PYTHONUNBUFFERED": "1"}
        await house.start()
        elena, guest = await house.people.be("elena"), await house.newcomer()
        status = await elena.slash("admin status")
        assert all(gpu.url.removeprefix("http://") in status.text.replace("\\", "") for gpu in house.gpus)
        await elena.slash("admin pause")
        await ask(guest, "the only one")
        refused = await guest.slash("imagine", model="z-image", prompt="one too many")
        assert "You already have 1 job in the works" in refused.text
        await elena.slash("admin resume")
        await result(guest, "the only one")
        await until(lambda: list((tmp_path / "from the env file").rglob("*.png")), "the copy")


async def test_started_before_any_comfyui_it_waits_and_draws_when_one_comes(tmp_path: Path) -> None:
    port = a_free_port()
    async with lawful_house(tmp_path, **options(gpus=0, COMFY_URLS=f"http://127.0.0.1:{port}")) as house:
        assert "does not answer." in house.program.said()
        guest = await house.newcomer()
        await ask(guest, "patience")
        away = "All our GPUs are away right now"  # told once the server was asked, which takes a moment after the start
        await guest.wait_for_message(lambda m: away in m.text, channel=await session(guest), timeout=PATIENCE_S)
        async with ComfySandbox(name="gpu-1", time_scale=0.02, port=port):
            await result(guest, "patience")


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_strict_startup_refuses_to_start_without_a_gpu_or_with_a_template_that_cannot_run(tmp_path: Path) -> None:
    async with whole_house(tmp_path, **options(is_started=False)) as house:
        away = await run(house, STRICT_STARTUP="1", COMFY_URLS="http://127.0.0.1:1")
        assert away.code == FAILED
        assert "STRICT_STARTUP: no ComfyUI server can be used; run `python app.py doctor`" in away.err
        [gpu] = house.gpus
        gpu.configure(gpu.settings.changed({"models": {"checkpoints": ["another.safetensors"]}}))
        broken = await run(house, STRICT_STARTUP="1")
        assert broken.code == FAILED
        assert "STRICT_STARTUP: these templates cannot run: " in broken.err
        assert "sdxl_image" in broken.err
        assert "another.safetensors" in broken.err  # the report names what the server does have
        assert "Traceback" not in away.err + broken.err


async def test_strict_startup_starts_when_everything_works(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options(STRICT_STARTUP="1")) as house:
        await draw(await house.newcomer(), "everything works")


async def test_logs_for_machines_are_json_line_by_line_and_hold_no_prompts(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options(LOG_FORMAT="json")) as house:
        await draw(await house.newcomer(), "a wish nobody shall read")
        assert await house.program.stop() == WELL
        lines = [line for line in house.program.said().splitlines() if line.startswith("{")]
        events = {json.loads(line)["event"] for line in lines}
        assert {"started", "discord_ready", "job_accepted", "delivered", "stopped"} <= events
        assert "a wish nobody shall read" not in house.program.said()


@pytest.mark.postgres
async def test_on_postgresql_it_draws_and_survives_a_kill(tmp_path: Path, postgres_url: str) -> None:
    url = postgres_url.replace("postgresql://", "postgres://", 1)  # as providers print it
    async with lawful_house(tmp_path, **options(DATABASE_URL=f"{url}?sslmode=prefer" if "?" not in url else url)) as house:
        elena, guest = await house.people.be("elena"), await house.newcomer()
        await draw(guest, "in PostgreSQL")
        await elena.slash("admin pause")
        await ask(guest, "over a kill")
        await house.restart()
        await elena.slash("admin resume")
        await result(guest, "over a kill")


# --- the doctor -------------------------------------------------------------------------------------------------------------


async def test_the_doctor_finds_everything_well_even_beside_a_living_bot(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        ended = await run(house, "doctor", "--json")
        assert ended.code == WELL, ended.err
        assert json.loads(ended.out)["ok"] is True
        assert ended.codes("error") == set()
        assert {
            "token_good",
            "intent_on",
            "guild_good",
            "database_good",
            "server_good",
            "pack_good",
            "uploads_good",
            "files_known",
            "template_good",
        } <= ended.codes("ok")
        told = await run(house, "doctor")
        assert told.code == WELL
        assert "Everything works." in told.out
        assert "Z-Image" in told.out or "z-image_imagine: can run." in told.out
        assert "Traceback" not in ended.err + told.err
        await draw(await house.newcomer(), "undisturbed by the doctor")


async def test_the_doctor_names_everything_that_is_wrong_and_how_to_mend_it(tmp_path: Path) -> None:
    async with whole_house(tmp_path, **options(gpus=2, is_started=False)) as house:
        one, _ = house.gpus
        one.configure(
            one.settings.changed(
                {
                    "models": {"checkpoints": ["another.safetensors"]},
                    "hidden_classes": ["UnetLoaderGGUF"],
                    "pack": "none",
                }
            )
        )
        house.discord.world.application.flags = 0
        without(Permission.MANAGE_CHANNELS, house)
        urls = f"{one.url},http://127.0.0.1:1"
        ended = await run(house, "doctor", "--json", COMFY_URLS=urls)
        assert ended.code == FAILED
        assert json.loads(ended.out)["ok"] is False
        wrong = {"intent_off", "right_missing", "server_unreachable", "file_missing", "node_missing"}
        assert wrong <= ended.codes("error")
        assert "no_pack" in ended.codes("warning")
        by_code = {finding["code"]: finding for finding in ended.findings}
        assert "it has: another.safetensors" in by_code["file_missing"]["sentence"]
        assert "Install" in by_code["node_missing"]["mend"]
        assert by_code["right_missing"]["subject"] == "Manage Channels"
        assert all(finding["mend"] for finding in ended.findings if finding["severity"] != "ok")
        told = await run(house, "doctor", COMFY_URLS=urls, DEFAULT_LOCALE="es")
        assert told.code == FAILED
        assert "MEND" in told.out
        assert "->" in told.out


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        pytest.param({"DISCORD_TOKEN": "very-secret-token"}, "token_refused", id="token"),
        pytest.param({"ALLOWED_GUILD_ID": "123456789012345678"}, "guild_unknown", id="guild"),
        pytest.param({"DATABASE_URL": "postgres://u:very-secret@127.0.0.1:1/d"}, "unusable", id="database"),
        pytest.param({"FULLET_DISCORD_API": "http://127.0.0.1:1/api/v10"}, "discord_unreachable", id="discord"),
    ],
)
async def test_the_doctor_says_what_a_start_would_stumble_over(tmp_path: Path, settings: dict[str, str], code: str) -> None:
    async with whole_house(tmp_path, **options(is_started=False)) as house:
        ended = await run(house, "doctor", "--json", **settings)
        assert ended.code == FAILED, ended.err
        assert code in ended.codes("error")
        assert "Traceback" not in ended.err
        assert "very-secret" not in ended.out + ended.err


async def test_the_doctor_does_not_say_that_templates_can_run_where_no_server_answers(tmp_path: Path) -> None:
    async with whole_house(tmp_path, **options(is_started=False)) as house:
        ended = await run(house, "doctor", "--json", COMFY_URLS="http://127.0.0.1:1")
        assert "server_unreachable" in ended.codes("error")
        assert "template_good" not in ended.codes("ok")


async def test_the_doctor_without_settings_lists_what_is_missing(tmp_path: Path) -> None:
    async with whole_house(tmp_path, **options(is_started=False)) as house:
        ended = await run(house, "doctor", "--json", DISCORD_TOKEN="", COMFY_URLS="")
        assert ended.code == CANNOT_START
        assert "DISCORD_TOKEN: is missing" in ended.err
