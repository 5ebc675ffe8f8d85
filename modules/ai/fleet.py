"""Which servers there are: `COMFY_URLS`, `COMFY_API_KEY` and `GPU_VRAM_GB`, read together and judged together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from modules.domain.jobs import ServerName

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
GIB = 1024**3
_MOST_GIB = 10_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """One ComfyUI as configured."""

    name: ServerName  #: `host:port`, the port left out where it is the scheme's own; never a key
    url: str  #: scheme, host and port, without a slash at the end
    key: str | None = field(default=None, repr=False)
    vram_bytes: int | None = None  #: None: as the server says


class FleetError(ValueError):
    """What is wrong with the settings, all of it, as sentences for the operator's console. Keys are never repeated."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read_fleet(urls: Sequence[str], *, keys: Sequence[str] = (), vram_gb: Sequence[float] = ()) -> tuple[ServerSpec, ...]:
    """One server for each URL. One key, or one memory size (GiB), serves all of them; more are matched in order; "" is no key.

    Raises FleetError with every problem found.
    """
    problems: list[str] = []
    if not urls:
        problems.append("COMFY_URLS is empty: give at least one address such as http://192.168.1.20:8188")
    addresses = [_address(url.strip(), at, problems) for at, url in enumerate(urls, start=1)]
    every_key = _one_or_each(keys, len(urls), "COMFY_API_KEY", problems)
    every_size = _one_or_each(vram_gb, len(urls), "GPU_VRAM_GB", problems)
    if any(size is not None and not 0 < size <= _MOST_GIB for size in every_size):
        problems.append(f"GPU_VRAM_GB: sizes are gigabytes above 0, at most {_MOST_GIB}")
    _refuse_twins([(at, address) for at, address in enumerate(addresses, start=1) if address], problems)
    if problems:
        raise FleetError(problems)
    return tuple(
        ServerSpec(
            name=ServerName(_name(address)),
            url=_url(address),
            key=key or None,
            vram_bytes=None if size is None else int(size * GIB),
        )
        for address, key, size in zip(addresses, every_key, every_size, strict=True)
        if address
    )


@dataclass(frozen=True, slots=True)
class _Address:
    scheme: str
    host: str
    port: int


def _address(entry: str, at: int, problems: list[str]) -> _Address | None:
    """One URL; what is wrong with it goes to `problems`, told by its place, as it may hold a password."""
    where = f"COMFY_URLS, address {at}"
    try:
        parts = urlsplit(entry)
        port = parts.port
    except ValueError:
        problems.append(f"{where}: this is no address (check the port and any brackets)")
        return None
    found = _faults_of(parts, entry)
    problems.extend(f"{where}: {fault}" for fault in found)
    if found:
        return None
    host = (parts.hostname or "").rstrip(".")
    return _Address(parts.scheme.lower(), host, _DEFAULT_PORTS[parts.scheme.lower()] if port is None else port)


def _faults_of(parts: SplitResult, entry: str) -> list[str]:
    if "://" not in entry:
        return ["it has no http:// or https:// in front"]
    if parts.scheme.lower() not in _DEFAULT_PORTS:
        return [f"{parts.scheme}:// is not spoken here, only http:// and https://"]
    faults = []
    if "@" in parts.netloc:
        faults.append("it holds a user name or password; put it into COMFY_API_KEY as user:password instead")
    if not parts.hostname or any(character.isspace() for character in entry):
        faults.append("the host name is missing or has blanks in it")
    if parts.port == 0:
        faults.append("port 0 is no port")
    if parts.path.strip("/"):
        faults.append("it goes on after the host; ComfyUI answers at the root only, so stop after the port")
    if parts.query or parts.fragment:
        faults.append("leave out everything from the ? or # on")
    return faults


def _name(address: _Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return host if address.port == _DEFAULT_PORTS[address.scheme] else f"{host}:{address.port}"


def _url(address: _Address) -> str:
    return f"{address.scheme}://{_name(address)}"


def _refuse_twins(addresses: Sequence[tuple[int, _Address]], problems: list[str]) -> None:
    """Two entries for one server would give it two workers; the scheme does not make two of it."""
    seen: dict[tuple[str, int], int] = {}
    names: dict[str, int] = {}
    for at, address in addresses:
        host = "loopback" if address.host in _LOOPBACK else address.host
        first = seen.setdefault((host, address.port), at)
        first = min(first, names.setdefault(_name(address), at))
        if first != at:
            problems.append(f"COMFY_URLS, address {at}: the same server as address {first}")


def _one_or_each(values: Sequence[T], count: int, setting: str, problems: list[str]) -> list[T | None]:
    match len(values):
        case 0:
            return [None] * count
        case 1:
            return [values[0]] * count
        case given if given == count:
            return list(values)
        case given:
            problems.append(f"{setting} has {given} entries for {count} addresses: give one for all, or one for each in order")
            return [None] * count
