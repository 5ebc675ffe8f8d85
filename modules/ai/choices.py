"""The names that several servers list, put together once for each set of listings: ten thousand files take time to sort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from modules.ai.listing import ServerListing
from modules.ai.node_specs import ReadingOrder

#: Node classes (or chains of them) with the input that lists names of one kind.
Places = tuple[tuple[str, str], ...]


#: Sets of servers asked about in turn: all that were ever met, and those that are up.
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Names:
    """Names without duplicates, in the order people read them."""

    ordered: tuple[str, ...] = ()
    all: frozenset[str] = frozenset()


@dataclass(slots=True)
class NameLists:
    """Remembers what was put together last for each kind of name and purpose."""

    _known: dict[Places, list[tuple[tuple[ServerListing, ...], Names]]] = field(default_factory=dict)

    def of(self, listings: Sequence[ServerListing], places: Places) -> Names:
        """What these servers list in any of these places."""
        kept = self._known.setdefault(places, [])
        names = next((names for before, names in kept if is_same(before, listings)), None)
        if names is None:
            names = _merged(listings, places)
            kept.insert(0, (tuple(listings), names))
            del kept[_KEPT:]
        return names


def is_same(before: Sequence[ServerListing], now: Sequence[ServerListing]) -> bool:
    """Whether these are the very same listings: one that was read anew is another object."""
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def _merged(listings: Sequence[ServerListing], places: Places) -> Names:
    lists: list[tuple[ReadingOrder, ...]] = []
    for listing in listings:
        for chain_of_classes, input_name in places:
            class_name = listing.resolve(chain_of_classes)
            listed = listing.names(class_name, input_name) if class_name else ()
            if listed and listed not in lists:
                lists.append(listed)
    names = {name: entry for listed in lists for entry in listed if (name := entry[1])}
    if len(lists) == 1:  # as on most fleets, where all servers have the same files
        return Names(tuple(names), frozenset(names))
    return Names(tuple(name for _, name in sorted(names.values())), frozenset(names))
