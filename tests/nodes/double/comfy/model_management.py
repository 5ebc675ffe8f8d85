"""No devices to manage."""

import torch


def soft_empty_cache() -> None:
    """Nothing is cached."""


def is_oom(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError)


def intermediate_device() -> torch.device:
    return torch.device("cpu")
