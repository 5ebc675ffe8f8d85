"""Prompts that were encoded before: constant negatives, "again with another seed"."""

import weakref
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch

MAX_BYTES = 256 * 1024**2  # 64 prompts of Flux, 4 MB each
MAX_ENTRIES = 512

Conditioning = list[list[Any]]


@dataclass(frozen=True, slots=True)
class _Entry:
    owner: "weakref.ref[object]"
    conditioning: Conditioning
    size_bytes: int


class EncodeCache:
    """Least recently used out, bounded in bytes and entries; an entry dies with the text encoder that made it."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES) -> None:
        self._max_bytes, self._max_entries = max_bytes, max_entries
        self._entries: OrderedDict[tuple[int, Hashable], _Entry] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, owner: object, key: Hashable) -> Conditioning | None:
        """What `put` stored for this very owner object and key; the caller may change the list, not the tensors."""
        entry = self._entries.get((id(owner), key))
        if entry is None or entry.owner() is not owner:  # an id is used again after its object has died
            return None
        self._entries.move_to_end((id(owner), key))
        return _copied(entry.conditioning)

    def put(self, owner: object, key: Hashable, conditioning: Conditioning) -> None:
        """Keep a conditioning (moved to the CPU) unless it alone is over the limit."""
        kept = [[_on_cpu(tensor), {name: _on_cpu(value) for name, value in extra.items()}] for tensor, extra in conditioning]
        size = sum(_bytes_of(tensor) + sum(map(_bytes_of, extra.values())) for tensor, extra in kept)
        self._drop((id(owner), key))
        if size > self._max_bytes:
            return
        self._entries[(id(owner), key)] = _Entry(weakref.ref(owner), kept, size)
        self.size_bytes += size
        self._forget_the_dead()
        while self.size_bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self._drop(next(iter(self._entries)))

    def _forget_the_dead(self) -> None:
        for key in [key for key, entry in self._entries.items() if entry.owner() is None]:
            self._drop(key)

    def _drop(self, key: tuple[int, Hashable]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes


def _copied(conditioning: Conditioning) -> Conditioning:
    return [[tensor, dict(extra)] for tensor, extra in conditioning]


def _on_cpu(value: Any) -> Any:
    return value.to("cpu") if isinstance(value, torch.Tensor) else value


def _bytes_of(value: object) -> int:
    return value.nbytes if isinstance(value, torch.Tensor) else 0
