"""Settings: read once, explained everywhere, every problem named at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from modules.config import Settings, problems_of, read_settings

ROOT = Path(__file__).parents[2]
GOOD = {"discord_token": "a-token", "allowed_guild_id": "5", "comfy_urls": "http://gpu:8188"}


def settings(**changes: str) -> Settings:
    return read_settings(_env_file=None, **{**GOOD, **changes})  # as text, like the environment


def problems(**changes: str) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        settings(**changes)
    return problems_of(caught.value)


def test_every_setting_stands_in_the_example_and_in_the_table() -> None:
    names = {name.upper() for name in Settings.model_fields}
    example = set(re.findall(r"^#? ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))
    assert example == names
    assert table == names


def test_the_example_gives_the_defaults() -> None:
    lines = dict(re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    given = {name.lower(): value for name, value in lines.items() if value and name.lower() not in GOOD}
    assert settings(**given) == settings()


def test_a_half_written_env_file_names_every_problem_in_one_list_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "DISCORD_TOKEN=\nALLOWED_GUILD_ID=my server\nMAX_BATCH_SIZE=0\nDATABASE_URL=mysql://me:secret@host/db\n"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py")], cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.splitlines()[1:] == [
        "  - DISCORD_TOKEN: is missing",
        "  - ALLOWED_GUILD_ID: must be a whole number",
        "  - COMFY_URLS: name at least one ComfyUI address, such as http://127.0.0.1:8188",
        "  - MAX_BATCH_SIZE: must be at least 1",
        "  - DATABASE_URL: names 'mysql'; FuLLet speaks sqlite and postgresql",
    ]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_batch_size", "17", "must be at most 16"),
        ("generation_timeout_s", "0", "must be above 0"),
        ("generation_timeout_s", "soon", "must be a number"),
        ("keep_pictures_days", "999999", "must be at most 36500"),  # no calendar goes back so far
        ("keep_pictures_days", "inf", "must be at most 36500"),
        ("keep_pictures_gb", "inf", "must be at most 1000000"),
        ("session_idle_minutes", "1e9", "must be at most 525600"),
        ("strict_startup", "maybe", "must be true or false"),
        ("merge_mode", "always", "must be one of 'auto', 'batched', 'stacked' or 'never'"),
        ("default_locale", "de", "must be one of 'en' or 'es'"),
        ("role_weights", "boosters=2", "must be a whole number"),
        ("database_url", "sqlite://", "names a database in memory"),
    ],
)
def test_a_wrong_value_is_explained_in_plain_words(name: str, value: str, says: str) -> None:
    [problem] = problems(**{name: value})
    assert problem.startswith(f"{name.upper()}: {says}")


def test_one_address_may_stand_in_comfy_url() -> None:
    assert settings(comfy_urls="", comfy_url="http://old:8188").comfy_urls == ("http://old:8188",)


@pytest.mark.parametrize(
    ("urls", "says"),
    [
        ("gpu:8188", "http://"),
        ("http://gpu:8188/comfy", "without anything after"),
        ("http://me:secret@gpu:8188", "COMFY_API_KEY"),
        ("http://gpu:8188, http://GPU:8188/", "twice"),
        ("http://gpu:99999", "is not an address"),
    ],
)
def test_an_address_that_cannot_work_is_explained_without_its_secrets(urls: str, says: str) -> None:
    [problem] = problems(comfy_urls=urls)
    assert problem.startswith("COMFY_URLS: ")
    assert says in problem
    assert "secret" not in problem


def test_keys_and_memory_fit_the_addresses() -> None:
    two = "http://a:1,http://b:1"
    assert settings(comfy_urls=two, comfy_api_key="one,two").comfy_api_key == ("one", "two")
    assert "COMFY_API_KEY" in problems(comfy_urls=two, comfy_api_key="1,2,3")[0]
    assert "GPU_VRAM_GB" in problems(comfy_urls=two, gpu_vram_gb="8,8,8")[0]


def test_weights_of_roles_are_shares_above_zero() -> None:
    assert settings(role_weights="5=2, 6=0.5").role_weights == {5: 2.0, 6: 0.5}
    assert "ROLE_WEIGHTS" in problems(role_weights="5=0")[0]


def test_the_token_does_not_show_in_the_settings() -> None:
    assert "a-token" not in repr(settings())
