"""Where files go, set by the tests."""

from pathlib import Path

_root = Path()


def set_root(root: Path) -> None:
    globals()["_root"] = root


def get_output_directory() -> str:
    return str(_root / "output")


def get_input_directory() -> str:
    return str(_root / "input")


def get_temp_directory() -> str:
    return str(_root / "temp")


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    prefix = Path(filename_prefix)
    folder = Path(output_dir) / prefix.parent
    folder.mkdir(parents=True, exist_ok=True)
    counter = 1 + sum(1 for _ in folder.glob(f"{prefix.name}_*.png"))
    return str(folder), prefix.name, counter, str(prefix.parent) if prefix.parent != Path() else "", filename_prefix
