"""The node pack's tests run where PyTorch is installed, beside a small double of ComfyUI; JSON needs neither."""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("torch") is None:
    collect_ignore = [
        "test_exactness.py", "test_grouping.py", "test_passes.py", "test_noise_per_slot.py",
        "test_token_buckets.py", "test_encoding.py", "test_node_classes.py", "test_example_workflows.py",
        "test_files_routes.py",
    ]  # fmt: skip
else:
    sys.path.insert(0, str(Path(__file__).parent / "double"))
