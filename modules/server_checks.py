"""What the doctor and the report at the start look at on one ComfyUI server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modules.ai.node_pack import PROTOCOL
from modules.ai.server import ComfyServer
from modules.domain.errors import ErrorCode, FulletError, Param
from modules.domain.findings import Finding, Severity
from modules.domain.servers import MergeCapability, ServerFacts

#: Failures behind which something else may stand than a server that is away: they are looked at more closely.
_WORTH_A_LOOK = frozenset({ErrorCode.SERVER_UNREACHABLE, ErrorCode.SERVER_NOT_COMFYUI, ErrorCode.SERVER_UNAUTHORISED})
_GIB = 1024**3
#: Our folders in a server's `output` that have not changed for so long are old; the bot removes them where it can.
_OLD_S = 7 * 24 * 3600.0


async def check_server(server: ComfyServer) -> Sequence[Finding]:
    """Whether it can be used, why not, and what its node pack allows."""
    try:
        facts = await server.refresh()
    except FulletError as error:
        met = await server.probe.why_not() if error.code in _WORTH_A_LOOK else None
        code, params = (met.code, met.params) if met else (error.code.value, {})
        return [_finding(server, Severity.ERROR, code, params)]
    params = {"version": facts.version, "device": facts.device, "memory_gb": round(facts.vram_bytes / _GIB)}
    return [_finding(server, Severity.OK, "server_good", params), _pack(server, facts)]


async def check_uploads_and_files(server: ComfyServer) -> Sequence[Finding]:
    """Whether input pictures reach it, and what of ours lies on its disk. Writes one small file; only the doctor does this."""
    tried = await server.probe.try_upload()
    severity = Severity.OK if tried.code == "uploads_good" else Severity.ERROR
    return [_finding(server, severity, tried.code, tried.params), await _files(server)]


async def _files(server: ComfyServer) -> Finding:
    try:
        old = await server.files.old_outputs("", _OLD_S)
    except FulletError:
        old = None
    if old is None:
        return _finding(server, Severity.WARNING, "files_unknown")
    return _finding(server, Severity.OK, "files_known", {"count": len(old)})


def _pack(server: ComfyServer, facts: ServerFacts) -> Finding:
    if facts.has_wrong_pack:
        return _finding(server, Severity.WARNING, "wrong_pack")
    params: dict[str, Param] = {"version": facts.pack_version or "?", "protocol": PROTOCOL}
    match facts.capability:
        case MergeCapability.NONE:
            return _finding(server, Severity.WARNING, "no_pack")
        case MergeCapability.ENCODE:
            return _finding(server, Severity.WARNING, "pack_encodes", params)
        case MergeCapability.FULL:
            return _finding(server, Severity.OK, "pack_good", params)


def _finding(server: ComfyServer, severity: Severity, code: str, params: Mapping[str, Param] | None = None) -> Finding:
    return Finding(area="server", subject=server.name, severity=severity, code=code, params=params or {})
