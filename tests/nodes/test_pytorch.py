"""Says why the tests beside this one are missing, where they are."""

from importlib.util import find_spec

import pytest


@pytest.mark.torch
def test_pytorch_is_here_for_the_node_pack() -> None:
    if find_spec("torch") is None:
        pytest.skip("PyTorch is not installed, so the node pack's arithmetic was not tested: run `make test-nodes`.")
    import torch

    assert torch.ones(2).sum() == 2
