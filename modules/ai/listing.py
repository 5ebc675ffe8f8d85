"""What one ComfyUI has: its node classes, their inputs, and the names in their lists. Read from `GET /object_info`.

A *need* is one line of `WorkClass.needs`:

- `class:KSampler` - the server has this node class;
- `file:UnetLoaderGGUF.unet_name=x.gguf` - this loader lists this file;
- `choice:KSampler.sampler_name=euler` - this input lists this word (a sampler, a scheduler, a type).

Where one of several classes will do, they are written as a chain, `A|B|*part*`: the first that the server has is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from heapq import nlargest

from modules.ai.node_specs import InputSpec, ReadingOrder, canonical, expanded, read_inputs
from modules.domain.jobs import ServerName

#: Separates the alternatives of a chain of classes.
CHAIN_SEPARATOR = "|"
#: Answers to "what does this work lack here?" that a listing keeps; each kind of work (model, LoRAs, template) is one.
KEPT_ANSWERS = 2_000
#: So many names of a long list are compared letter by letter with one that is missing.
_COMPARED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeClass:
    """One node class of a server."""

    name: str
    inputs: Mapping[str, InputSpec]
    outputs: tuple[str, ...]
    module: str = ""

    def inputs_given(self, given: Mapping[str, object]) -> Mapping[str, InputSpec]:
        """The inputs that a node of this class has in a graph that writes these; growing inputs are as many as it gives."""
        if not any(spec.is_dynamic for spec in self.inputs.values()):
            return self.inputs
        return expanded(self.inputs, given)


@dataclass(frozen=True, slots=True)
class ServerListing:
    """Everything a server said it has. Names are as the server spells them."""

    classes: Mapping[str, NodeClass] = field(default_factory=dict)
    #: What was found missing, by the needs: every look at the queue asks the same of the same work many times over.
    _found_missing: dict[frozenset[str], tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_object_info(cls, body: object) -> ServerListing:
        """Read the whole `/object_info` (or the part for one class). What is not understood is left out, never guessed."""
        if not isinstance(body, Mapping):
            return cls()
        parsed = (_node_class(name, entry) for name, entry in body.items() if isinstance(name, str))
        return cls({node.name: node for node in parsed if node is not None})

    def options(self, class_name: str, input_name: str) -> tuple[str, ...]:
        """The names in a list; empty when the class, the input or the list is not there."""
        spec = self._input(class_name, input_name)
        return (spec.options or ()) if spec else ()

    def names(self, class_name: str, input_name: str) -> tuple[ReadingOrder, ...]:
        """The same, each file once whatever its slashes, with `/` between folders, sorted as people read them."""
        spec = self._input(class_name, input_name)
        return spec.names if spec else ()

    def resolve(self, chain: str) -> str | None:
        """The class that serves a chain `A|B|*part*` here: the first alternative there is; a pattern takes the first by name."""
        for alternative in chain.split(CHAIN_SEPARATOR):
            if alternative in self.classes:
                return alternative
            if "*" in alternative and (found := sorted(name for name in self.classes if fnmatchcase(name, alternative))):
                return found[0]
        return None

    def spelling(self, class_name: str, input_name: str, name: str) -> str | None:
        """How this server spells a name in that list; None when it has no such name (or no such list)."""
        spec = self._input(class_name, input_name)
        return spec.match(name) if spec else None

    def missing(self, needs: frozenset[str]) -> tuple[str, ...]:
        """The needs this server cannot meet, sorted; empty when it can run the work."""
        found = self._found_missing.get(needs)
        if found is None:
            if len(self._found_missing) >= KEPT_ANSWERS:
                self._found_missing.clear()
            found = self._found_missing[needs] = tuple(sorted(need for need in needs if not self.meets(need)))
        return found

    def meets(self, need: str) -> bool:
        """Whether one need is met. A file or choice of a class that is absent counts as met: its `class:` need already fails."""
        kind, _, rest = need.partition(":")
        if kind == "class":
            return self.resolve(rest) is not None
        place, _, name = rest.partition("=")
        chain, _, input_name = place.rpartition(".")
        class_name = self.resolve(chain)
        spec = self._input(class_name, input_name) if class_name else None
        return spec is None or spec.accepts(name)

    def closest(self, class_name: str, input_name: str, name: str, limit: int = 10) -> tuple[str, ...]:
        """What that list has instead of `name`, most alike first."""
        return closest(name, self.options(class_name, input_name), limit)

    def _input(self, class_name: str, input_name: str) -> InputSpec | None:
        node = self.classes.get(class_name)
        return node.inputs.get(input_name) if node else None


class Listings:
    """The listing of every server as last read. Servers write it on refresh; the catalogue and the planner read it."""

    def __init__(self, is_up: Callable[[ServerName], bool] = lambda _: True) -> None:
        """`is_up`: whether a server may be counted on now; what it has is remembered while it is away."""
        self._listings: dict[ServerName, ServerListing] = {}
        self._is_up = is_up
        self._preparations: list[Callable[[Sequence[tuple[ServerName, ServerListing]]], None]] = []

    def heed(self, is_up: Callable[[ServerName], bool]) -> None:
        """Ask this from now on; for an owner that knows who is up only after everybody was built."""
        self._is_up = is_up

    def prepare_with(self, preparation: Callable[[Sequence[tuple[ServerName, ServerListing]]], None]) -> None:
        """Have this called, in a thread, with every listing there will be, before a new one counts.

        Sorting ten thousand file names, or looking every template up in them, would hold the loop when the next person asks.
        """
        self._preparations.append(preparation)

    async def take_in(self, server: ServerName, listing: ServerListing) -> None:
        """Remember what a server has now, once everything that depends on it is worked out."""
        coming = list({**self._listings, server: listing}.items())
        for preparation in self._preparations:
            await asyncio.to_thread(preparation, coming)
        self.update(server, listing)

    def update(self, server: ServerName, listing: ServerListing) -> None:
        """Remember what a server has now; what depends on it is worked out when it is asked for."""
        self._listings[server] = listing

    def of(self, server: ServerName) -> ServerListing | None:
        """What a server has; None before it was first reached."""
        return self._listings.get(server)

    def all(self) -> Iterator[tuple[ServerName, ServerListing]]:
        """Every server that was ever reached, in the order they were."""
        yield from list(self._listings.items())

    def up(self) -> Iterator[tuple[ServerName, ServerListing]]:
        """Those that can be counted on now."""
        return ((server, listing) for server, listing in self.all() if self._is_up(server))


def closest(name: str, options: tuple[str, ...], limit: int = 10) -> tuple[str, ...]:
    """`options` ordered by likeness to `name`, at most `limit`. Folders and case do not count.

    Of thousands, those that share most pairs of letters are compared letter by letter: that takes 0.2 ms for each.
    """
    stem = _stem(name)
    pairs = _pairs(stem)

    def shared(option: str) -> float:
        others = _pairs(_stem(option))
        return len(pairs & others) / (len(pairs) + len(others) + 1)

    def unlikeness(option: str) -> tuple[float, str]:
        return -SequenceMatcher(None, stem, _stem(option)).ratio(), option

    near = options if len(options) <= _COMPARED else nlargest(_COMPARED, options, key=shared)
    return tuple(sorted(near, key=unlikeness)[:limit])


def _pairs(stem: str) -> set[str]:
    return {stem[at : at + 2] for at in range(len(stem) - 1)}


def _stem(name: str) -> str:
    return canonical(name).rsplit("/", 1)[-1].lower()


def _node_class(name: str, entry: object) -> NodeClass | None:
    if not isinstance(entry, Mapping) or not isinstance(declared := entry.get("input"), Mapping):
        return None
    outputs = entry.get("output")
    return NodeClass(
        name=name,
        inputs=read_inputs(declared),
        outputs=tuple(str(kind) for kind in outputs) if isinstance(outputs, list) else (),
        module=str(entry.get("python_module", "")),
    )
