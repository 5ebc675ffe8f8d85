"""Uploads are decoded in a process that can be killed: late, cancelled, orphaned or greedy ones harm nobody (faults.md H12)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from PIL import Image

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Dimensions, Picture, PictureFormat
from modules.domain.people import UserId
from modules.utils.images import PictureWorkshop, finish_output
from modules.utils.intake import WAITING_EACH, UploadIntake
from modules.utils.upload_process import UploadProcess
from modules.utils.upload_worker import MEMORY_MIB
from tests.support.graphs import ROOT
from tests.support.pictures import a_jpeg_of_scans, a_photo, encoded

LIMIT_S = 20.0
LINUX_ONLY = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and rlimits are Linux's")
ANA, BRUNO = UserId(1), UserId(2)


def a_slow_picture() -> bytes:
    """The most work that is let through: 49 megapixels in 20 scans, about a second of a fast processor."""
    return a_jpeg_of_scans(7000, 10)


async def until(fact: Callable[[], object], what: str) -> None:
    """Wait until it is so."""
    try:
        async with asyncio.timeout(LIMIT_S):
            while not fact():  # noqa: ASYNC110 - processes ring no bell; the fact is asked for
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"it never came to be: {what}") from None


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
async def uploads() -> AsyncIterator[UploadProcess]:
    async with UploadProcess() as opened:
        yield opened


async def test_it_is_started_by_the_first_picture_serves_the_next_and_ends_with_the_program() -> None:
    async with UploadProcess() as uploads:
        begun_with = uploads.pid
        picture = await uploads.sanitise(encoded(a_photo()))
        assert (picture.size, picture.format) == (Dimensions(64, 48), PictureFormat.PNG)
        first = uploads.pid
        assert begun_with is None
        assert first is not None
        assert (await uploads.sanitise(encoded(a_photo(), "JPEG"))).format is PictureFormat.JPEG
        assert uploads.pid == first != os.getpid()
    assert is_gone(first)


async def test_refusals_and_recipes_come_through(uploads: UploadProcess) -> None:
    with pytest.raises(FulletError) as caught:
        await uploads.sanitise(encoded(Image.new("1", (8000, 6400))))
    assert (caught.value.code, caught.value.params) == (ErrorCode.PICTURE_TOO_MANY_PIXELS, {"limit_megapixels": 51})
    with pytest.raises(FulletError) as caught:
        await uploads.sanitise(b"")
    assert caught.value.code is ErrorCode.PICTURE_WRONG_TYPE
    ours = finish_output(encoded(a_photo()), recipe='{"prompt": "☃"}')
    assert await uploads.read_recipe(ours.data) == '{"prompt": "☃"}'
    assert await uploads.read_recipe(b"hello") is None


async def test_a_picture_over_the_deadline_is_given_up_and_the_next_one_passes() -> None:
    async with UploadProcess(deadline_s=0.1) as uploads:
        with pytest.raises(FulletError) as caught:
            await uploads.sanitise(a_slow_picture())
        assert caught.value.code is ErrorCode.PICTURE_TOO_COMPLEX
    async with UploadProcess() as uploads:
        assert (await uploads.sanitise(encoded(a_photo()))).size == Dimensions(64, 48)


async def test_whoever_stops_waiting_frees_the_lane_at_once(uploads: UploadProcess) -> None:
    asking = asyncio.create_task(uploads.sanitise(a_slow_picture()))
    await until(lambda: uploads.pid, "a process")
    pid = uploads.pid
    assert pid is not None
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert is_gone(pid)
    assert (await uploads.sanitise(encoded(a_photo()))).size == Dimensions(64, 48)


async def test_a_process_that_dies_under_a_picture_costs_only_that_picture(uploads: UploadProcess) -> None:
    await uploads.sanitise(encoded(a_photo()))
    pid = uploads.pid
    assert pid is not None
    worker = psutil.Process(pid)
    asking = asyncio.create_task(uploads.sanitise(a_slow_picture()))
    before = sum(worker.cpu_times()[:2])
    await until(lambda: sum(worker.cpu_times()[:2]) > before + 0.05, "work on the picture")
    worker.kill()
    with pytest.raises(FulletError) as caught:
        await asking
    assert caught.value.code is ErrorCode.PICTURE_TOO_COMPLEX
    assert (await uploads.sanitise(encoded(a_photo()))).size == Dimensions(64, 48)


async def test_a_process_that_died_while_unused_is_replaced_and_nobody_notices(uploads: UploadProcess) -> None:
    await uploads.sanitise(encoded(a_photo()))
    pid = uploads.pid
    assert pid is not None
    psutil.Process(pid).kill()
    await until(lambda: is_gone(pid), "its end")
    assert (await uploads.sanitise(encoded(a_photo()))).size == Dimensions(64, 48)


async def test_an_unused_process_is_ended() -> None:
    async with UploadProcess(idle_s=0.05) as uploads:
        await uploads.sanitise(encoded(a_photo()))
        pid = uploads.pid
        assert pid is not None
        await until(lambda: is_gone(pid), "its end")
        assert (await uploads.sanitise(encoded(a_photo()))).size == Dimensions(64, 48)


ORPHAN = """
import asyncio
import sys
from modules.utils.upload_process import UploadProcess
from tests.integration.test_upload_process import a_slow_picture
from tests.support.pictures import a_photo, encoded

async def main():
    async with UploadProcess() as uploads:
        await uploads.sanitise(encoded(a_photo()))
        print(uploads.pid, flush=True)
        while sys.argv[1] == "busy":
            await uploads.sanitise(a_slow_picture())
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["busy", "unused"])
async def test_no_process_is_left_behind_by_a_program_that_is_killed(state: str) -> None:
    """Killed as by `kill -9`, also in the middle of a picture: the end of the pipe is all that the worker hears."""
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", ORPHAN, state, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert program.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        pid = int(await program.stdout.readline())
    worker = psutil.Process(pid)
    before = sum(worker.cpu_times()[:2])
    if state == "busy":
        await until(lambda: sum(worker.cpu_times()[:2]) > before + 0.05, "work on the picture")
    program.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    await program.wait()
    await until(lambda: is_gone(pid), "the worker's end")


TALKATIVE = """#!{python} -IS
import pathlib
import struct
import sys
source = sys.stdin.buffer
[length] = struct.unpack(">I", source.read(5)[1:])
source.read(length)
answers = open(1, "wb", buffering=0)
answers.write(b"b" + struct.pack(">I", 2) + b"{{}}" + struct.pack(">I", 16 * 2**20) + bytes(2**20))
pathlib.Path({marker!r}).touch()
answers.write(bytes(14 * 2**20))
source.read()
"""


async def test_the_end_of_the_program_does_not_wait_for_a_picture_that_is_decoded_nor_for_those_behind_it() -> None:
    async with UploadProcess() as uploads:
        await uploads.sanitise(encoded(a_photo()))
        worker = psutil.Process(uploads.pid or 0)
        before = sum(worker.cpu_times()[:2])
        asking = [asyncio.create_task(uploads.sanitise(a_slow_picture())) for _ in range(3)]
        await until(lambda: sum(worker.cpu_times()[:2]) > before + 0.05, "work on the picture")
    assert is_gone(worker.pid)
    answers = await asyncio.gather(*asking, return_exceptions=True)
    codes = [answer.code for answer in answers if isinstance(answer, FulletError)]
    assert codes == [ErrorCode.PICTURE_TOO_COMPLEX, ErrorCode.PICTURES_BUSY, ErrorCode.PICTURES_BUSY]
    assert uploads.pid is None


@LINUX_ONLY
async def test_whoever_stops_waiting_in_the_middle_of_a_long_answer_frees_the_lane_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the pipe from the process may be full, and not be read for the moment: its end must not be waited for there."""
    interpreter, marker = tmp_path / "python", tmp_path / "marker"
    interpreter.write_text(TALKATIVE.format(python=sys.executable, marker=str(marker)), "utf-8")
    interpreter.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    async with UploadProcess() as uploads:
        for turns in range(12):  # it depends on the turn of the loop
            marker.unlink(missing_ok=True)
            asking = asyncio.create_task(uploads.sanitise(b"hello"))
            while not marker.exists():  # noqa: ASYNC110 - a file rings no bell
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            _, late = await asyncio.wait([asking], timeout=5)
            assert not late


@LINUX_ONLY
async def test_it_is_bounded_and_knows_no_secrets(uploads: UploadProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "secret-token")
    await uploads.sanitise(encoded(a_photo()))
    assert uploads.pid is not None
    worker = psutil.Process(uploads.pid)
    memory, _ = worker.rlimit(psutil.RLIMIT_AS)
    assert MEMORY_MIB * 1024**2 <= memory <= (MEMORY_MIB + 512) * 1024**2
    seconds, _ = worker.rlimit(psutil.RLIMIT_CPU)
    assert 0 < seconds < 60
    assert "secret-token" not in worker.environ().values()
    assert worker.nice() > psutil.Process().nice()


@LINUX_ONLY
async def test_a_picture_that_needs_more_memory_than_the_bound_is_refused_in_words(uploads: UploadProcess) -> None:
    await uploads.sanitise(encoded(a_photo()))
    assert uploads.pid is not None
    worker = psutil.Process(uploads.pid)
    worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + 40 * 1024**2,) * 2)
    with pytest.raises(FulletError) as caught:
        await uploads.sanitise(encoded(Image.new("RGB", (7000, 7000)), compress_level=1))
    assert caught.value.code is ErrorCode.PICTURE_TOO_COMPLEX
    assert (await uploads.sanitise(encoded(a_photo()))).size == Dimensions(64, 48)


async def test_results_are_finished_while_an_upload_is_decoded(uploads: UploadProcess) -> None:
    await uploads.sanitise(encoded(a_photo()))
    slow = asyncio.create_task(uploads.sanitise(a_slow_picture()))
    async with PictureWorkshop() as workshop, asyncio.timeout(LIMIT_S):
        for _ in range(3):
            await workshop.finish_output(encoded(a_photo()), recipe="{}")
    assert not slow.done()
    await slow


# --- turns --------------------------------------------------------------------------------------------------------------


class Shelf:
    def __init__(self) -> None:
        self.pictures: list[Picture] = []

    async def put(self, picture: Picture) -> BlobId:
        self.pictures.append(picture)
        return BlobId(str(len(self.pictures)))


async def test_an_upload_is_kept_only_after_it_was_made_safe(uploads: UploadProcess) -> None:
    shelf = Shelf()
    intake = UploadIntake(uploads, shelf)
    assert await intake.take(encoded(a_photo())) == "1"
    with pytest.raises(FulletError):
        await intake.take(b"hello")
    assert [picture.size for picture in shelf.pictures] == [Dimensions(64, 48)]


async def test_a_person_has_one_file_worked_on_and_a_few_waiting(uploads: UploadProcess) -> None:
    intake = UploadIntake(uploads, Shelf())
    inside: list[str] = []
    leave = asyncio.Event()

    async def bring(name: str, owner: UserId) -> None:
        async with intake.turn(owner):
            inside.append(name)
            await leave.wait()

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        for number in range(1 + WAITING_EACH):
            group.create_task(bring(f"ana {number}", ANA))
        await until(lambda: inside, "the first")
        with pytest.raises(FulletError) as caught:
            await bring("ana, one too many", ANA)
        assert caught.value.code is ErrorCode.PICTURE_UNDER_WAY
        group.create_task(bring("bruno", BRUNO))
        await until(lambda: "bruno" in inside, "another person's turn")
        assert inside == ["ana 0", "bruno"]
        leave.set()
    assert sorted(inside) == ["ana 0", "ana 1", "ana 2", "ana 3", "bruno"]
    async with intake.turn(ANA):
        pass  # nothing is remembered of who was here


async def test_few_files_are_held_at_once_however_many_people_send_them(uploads: UploadProcess) -> None:
    intake = UploadIntake(uploads, Shelf())
    held, most = 0, 0

    async def bring(owner: UserId) -> None:
        nonlocal held, most
        async with intake.turn(owner):
            held += 1
            most = max(most, held)
            await intake.take(encoded(a_photo()))
            held -= 1

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(bring(UserId(number)))
    assert most == 2
