"""A `.env` as people save it: another encoding is one sentence, a misspelt name is told with the one that was meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modules.config import Settings
from modules.env_file import EnvFileError, Misspelt, check_env_file, misspelt_names

ROOT = Path(__file__).parents[2]
OURS = {name.upper() for name in Settings.model_fields}
GOOD = "DISCORD_TOKEN=very-secret\nALLOWED_GUILD_ID=5\nCOMFY_URLS=http://127.0.0.1:1\n"
AWAY = "FULLET_DISCORD_API=http://127.0.0.1:1/api/v10\n"


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python app.py` in a folder with nothing but its `.env`."""
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *arguments], cwd=folder, env={}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_another_encoding_is_one_sentence_and_exit_code_2(tmp_path: Path, encoding: str) -> None:
    (tmp_path / ".env").write_bytes((GOOD + "# niño\n").encode(encoding))
    done = start(tmp_path)
    assert done.returncode == 2
    assert "UTF-8" in done.stderr
    assert "Traceback" not in done.stderr
    assert "very-secret" not in done.stderr + done.stdout
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    done = start(tmp_path)
    assert (done.returncode, "is a folder" in done.stderr) == (2, True)


def test_a_byte_order_mark_in_front_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(GOOD.replace("ALLOWED_GUILD_ID=5", "ALLOWED_GUILD_ID=five"), "utf-8-sig")
    done = start(tmp_path)  # the first name is read: only the number that is none keeps it from starting
    assert done.stderr.splitlines()[1:] == ["  - ALLOWED_GUILD_ID: must be a whole number"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to(tmp_path / ".env")  # leads nowhere, as root too
    with pytest.raises(EnvFileError, match="cannot be read"):
        check_env_file(tmp_path / ".env")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("MAX_BATCHSIZE", "MAX_BATCH_SIZE"),
        ("max_batchsize", "MAX_BATCH_SIZE"),
        ("GPU_VRAM_GBS", "GPU_VRAM_GB"),
        ("DISCORD_TOKE", "DISCORD_TOKEN"),
        ("QUEUE_LIMITS", "QUEUE_LIMIT"),
    ],
)
def test_a_name_that_looks_like_ours_is_told_with_the_one_that_was_meant(tmp_path: Path, written: str, meant: str) -> None:
    (tmp_path / ".env").write_text(f"{written}=4\n")
    assert misspelt_names(OURS, {}, tmp_path / ".env") == [Misspelt(written.upper(), meant)]
    assert misspelt_names(OURS, {written: "4"}, tmp_path / "none") == [Misspelt(written.upper(), meant)]


def test_names_of_other_programs_and_our_own_are_not_told(tmp_path: Path) -> None:
    others = {
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "POSTGRES_PASSWORD",
        "POSTGRES_DB",
        "PYTHONUNBUFFERED",
        "TZ",
        "LOG_DIR",
        "HOSTNAME",
    }
    (tmp_path / ".env").write_text("".join(f"{name}=x\n" for name in sorted(others | OURS)))
    assert misspelt_names(OURS, dict.fromkeys(others | OURS, "x"), tmp_path / ".env") == []


def test_the_misspelt_name_stands_beside_the_one_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(GOOD.replace("DISCORD_TOKEN", "DISCORD_TOKN"))
    done = start(tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == [
        "  - DISCORD_TOKEN: is missing",
        "  - DISCORD_TOKN: no setting has this name; DISCORD_TOKEN was probably meant",
    ]


def test_a_start_names_it_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a folder.db").mkdir()
    (tmp_path / ".env").write_text(GOOD + AWAY + f"MAX_BATCHSIZE=2\nDATABASE_URL=sqlite:///{tmp_path}/a folder.db\n")
    done = start(tmp_path)  # ends at the database, long after the settings
    assert "setting_unknown" in done.stderr
    assert "MAX_BATCH_SIZE" in done.stderr
    assert "the database cannot be used" in done.stderr


def test_the_doctor_names_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(GOOD + AWAY + f"MAX_BATCHSIZE=2\nDATABASE_URL=sqlite:///{tmp_path}/bot.db\n")
    done = start(tmp_path, "doctor", "--json")
    told = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert told["MAX_BATCHSIZE"]["severity"] == "warning"
    assert "MAX_BATCH_SIZE" in told["MAX_BATCHSIZE"]["mend"]
