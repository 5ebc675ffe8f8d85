"""A preview that shows row 0, as ComfyUI's previewers do; the tests read what it showed."""

from typing import Any

shown: list[tuple[int, Any]] = []


def prepare_callback(model: Any, steps: int, x0_output_dict: dict[str, Any] | None = None) -> Any:
    def callback(step: int, x0: Any, x: Any, total_steps: int) -> None:
        if x0_output_dict is not None:
            x0_output_dict["x0"] = x0
        shown.append((min(step + 1, total_steps), x0[0].clone()))

    return callback
