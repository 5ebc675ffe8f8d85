"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Above this a module is asked whether it tells two stories.
LONGEST_MODULE = 450


def tracked(*patterns: str) -> list[Path]:
    """Files git knows, or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def python_modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in tracked("modules/**.py", "app.py"):
        yield path, ast.parse(path.read_text(), filename=str(path))


def test_nothing_imports_the_composition_root() -> None:
    for path, tree in python_modules():
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        assert "app" not in imported, path


def test_only_settings_read_the_environment() -> None:
    # upload_process.py reads no setting: it names the few variables that an interpreter needs to start
    allowed = {ROOT / "modules/config.py", ROOT / "modules/utils/upload_process.py"}
    for path, tree in python_modules():
        if path in allowed or "sandbox" in path.parts:
            continue
        reads = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")]
        assert not reads, path


def test_every_module_says_what_it_is_for() -> None:
    for path, tree in python_modules():
        if tree.body:
            assert ast.get_docstring(tree), path


def test_no_module_tells_two_stories() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked("modules/*.py", "comfy_custom_nodes/*.py", "tools/*.py")
        if (count := len(path.read_text().splitlines())) > LONGEST_MODULE
    }
    assert not long


def test_no_task_is_without_an_owner() -> None:
    """`asyncio.create_task` without a TaskGroup is only for places that keep, cancel and await their tasks themselves.

    Those of `registration.py` fail towards whoever asked, which in a TaskGroup would end the program.
    """
    keepers = {"modules/utils/database/", "modules/ai/server.py", "modules/discord/registration.py", "modules/sandbox"}
    for path, tree in python_modules():
        name = str(path.relative_to(ROOT))
        if name.startswith(tuple(keepers)):
            continue
        bare = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("create_task", "ensure_future")
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "asyncio"
        ]
        assert not bare, f"{name}: {bare}"


@pytest.mark.parametrize("folder", ["tests"])
def test_no_test_folder_hides_a_package_we_import(folder: str) -> None:
    names = {path.name for path in (ROOT / folder).iterdir() if path.is_dir()}
    assert not names & {"discord", "aiohttp", "sqlalchemy", "pydantic", "modules", "torch", "PIL"}


def test_documents_point_to_files_that_exist() -> None:
    for page in tracked("*.md"):
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} -> {target}"
