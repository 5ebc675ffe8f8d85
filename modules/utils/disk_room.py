"""How much room there is where we write."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_bytes(folder: Path) -> int | None:
    """Of the disk that holds the folder, or would hold it where it is not there yet; None where that cannot be read."""
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if nearest is None:
        return None
    try:
        return shutil.disk_usage(nearest).free
    except OSError:
        return None
