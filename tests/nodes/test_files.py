"""What the pack removes of FuLLet's files, and above all what it leaves alone. Real folders; nothing of ComfyUI is needed."""

import os
import time
import uuid
from pathlib import Path

import pytest

from comfy_custom_nodes.files import LEAST_AGE_S, PAGE, list_outputs, remove_outputs, remove_uploads

OLD_S = LEAST_AGE_S * 3


def an_id(number: int = 0) -> str:
    return str(uuid.UUID(int=number, version=4))


def aged(path: Path, age_s: float = OLD_S) -> Path:
    moment = time.time() - age_s
    os.utime(path, (moment, moment), follow_symlinks=False)
    return path


def a_file(path: Path, age_s: float = OLD_S) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a picture")
    return aged(path, age_s)


def an_attempt(root: Path, name: str, *files: str, age_s: float = OLD_S) -> Path:
    for file in files or ("0_00001_.png",):
        a_file(root / "fullet" / name / file, age_s)
    return aged(root / "fullet" / name, age_s)


def test_the_folder_of_an_attempt_goes_with_its_pictures(tmp_path: Path) -> None:
    folder = an_attempt(tmp_path, an_id(1), "0_00001_.png", "15_00001_.png", "3_00002_.webp")
    kept = an_attempt(tmp_path, an_id(2))
    assert remove_outputs(str(tmp_path), [an_id(1)], queue="") == [an_id(1)]
    assert not folder.exists()
    assert kept.exists()


def test_folders_are_listed_in_pages_and_only_old_ones_of_ours(tmp_path: Path) -> None:
    ours = sorted(an_id(number) for number in range(PAGE + 20))
    for name in ours:
        an_attempt(tmp_path, name)
    an_attempt(tmp_path, an_id(100_000), age_s=OLD_S - LEAST_AGE_S)
    for stranger in ("somebody", an_id(7).upper(), an_id(7) + "x", "..", f"x{an_id(7)}"):
        (tmp_path / "fullet" / stranger).mkdir(exist_ok=True)
    a_file(tmp_path / "fullet" / an_id(200_000))  # a file is no folder
    first = list_outputs(str(tmp_path), "", OLD_S - 1)
    second = list_outputs(str(tmp_path), first[-1], OLD_S - 1)
    assert len(first) == PAGE
    assert first + second == ours
    assert list_outputs(str(tmp_path / "nothing here"), "", 0) == []


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "../..",
        "/etc",
        "somebody",
        "..\\..",
        "%2e%2e",
        an_id(0xABCDEF).upper(),
        f"{an_id()}/..",
        f"../fullet/{an_id()}",
        f"{an_id()}\n",
    ],
)
def test_nothing_but_an_id_names_anything(tmp_path: Path, name: str) -> None:
    outside = a_file(tmp_path / "0_00001_.png")
    stranger = an_attempt(tmp_path, "somebody", "0_00001_.png")
    mine = an_attempt(tmp_path, an_id())
    assert remove_outputs(str(tmp_path), [name], queue="") == []
    assert outside.exists()
    assert (stranger / "0_00001_.png").exists()
    assert (mine / "0_00001_.png").exists()


@pytest.mark.parametrize("file", ["notes.txt", "0_00001_.png.txt", "ComfyUI_00001_.png", "0_00001_.json", "workflow.png"])
def test_a_folder_that_holds_anything_else_stays_and_so_does_that(tmp_path: Path, file: str) -> None:
    folder = an_attempt(tmp_path, an_id(), "0_00001_.png", file)
    assert remove_outputs(str(tmp_path), [an_id()], queue="") == []
    assert [path.name for path in folder.iterdir()] == [file]


def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    elsewhere = an_attempt(tmp_path / "elsewhere", an_id(1))
    (tmp_path / "fullet").mkdir()
    (tmp_path / "fullet" / an_id(1)).symlink_to(elsewhere)
    aged(tmp_path / "fullet" / an_id(1))
    assert list_outputs(str(tmp_path), "", 0) == []
    assert remove_outputs(str(tmp_path), [an_id(1)], queue="") == []
    inside = an_attempt(tmp_path, an_id(2))
    (inside / "1_00001_.png").symlink_to(elsewhere / "0_00001_.png")
    aged(inside / "1_00001_.png")
    aged(inside)
    assert remove_outputs(str(tmp_path), [an_id(2)], queue="") == []
    assert (elsewhere / "0_00001_.png").exists()
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "fullet").symlink_to(tmp_path / "elsewhere" / "fullet")
    assert list_outputs(str(linked), "", 0) == []


def test_what_is_young_stays_whatever_is_asked(tmp_path: Path) -> None:
    folder = an_attempt(tmp_path, an_id(1), age_s=LEAST_AGE_S - 60)
    upload = a_file(tmp_path / "fullet" / f"{an_id(2)}.png", LEAST_AGE_S - 60)
    assert list_outputs(str(tmp_path), "", 0) == list_outputs(str(tmp_path), "", -1e9) == []
    assert remove_outputs(str(tmp_path), [an_id(1)], queue="") == []
    assert remove_uploads(str(tmp_path), -1e9, queue="") == 0
    assert folder.exists()
    assert upload.exists()


def test_what_the_queue_still_needs_stays(tmp_path: Path) -> None:
    folder = an_attempt(tmp_path, an_id(1))
    upload = a_file(tmp_path / "fullet" / f"{an_id(2)}.png")
    queue = f'[["{an_id(1)}", {{"5": {{"inputs": {{"image": "fullet/{an_id(2)}.png"}}}}}}]]'
    assert remove_outputs(str(tmp_path), [an_id(1)], queue) == []
    assert remove_uploads(str(tmp_path), 0, queue) == 0
    assert folder.exists()
    assert upload.exists()


def test_old_uploads_go_and_the_members_own_files_stay(tmp_path: Path) -> None:
    ours = [
        a_file(tmp_path / "fullet" / f"{an_id(number)}{rest}")
        for number, rest in enumerate((".png", " (1).png", ".jpg", ".webp"))
    ]
    own = [
        a_file(tmp_path / name)
        for name in ("cat.png", f"{an_id(9)}.png", "fullet/cat.png", f"fullet/{an_id(9)}.txt", "clipspace/x.png")
    ]
    (tmp_path / "fullet" / f"{an_id(8)}.png").symlink_to(own[0])
    assert remove_uploads(str(tmp_path), OLD_S - 1, queue="") == len(ours)
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in own)
    assert (tmp_path / "fullet" / f"{an_id(8)}.png").is_symlink()
