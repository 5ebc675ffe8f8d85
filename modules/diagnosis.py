"""The doctor and the start-up report: what works, what does not, and how to mend it, in a sentence each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from modules.ai.workflows.advice import manifest_line
from modules.assembly import CannotStartError, Middle, StrictStartError, open_middle, use_configured_discord
from modules.config import Settings, misspelt_settings
from modules.discord.inspection import inspect_discord
from modules.domain.catalogue import TemplateProblem
from modules.domain.errors import FulletError, Param
from modules.domain.findings import Finding, Severity, has_errors
from modules.domain.records import DiskRoom
from modules.server_checks import check_server, check_uploads_and_files
from modules.utils.database import Database, DatabaseReport
from modules.utils.disk_room import free_bytes
from modules.utils.i18n import Phrasebook, Texts

log = structlog.get_logger(__name__)

_MARKS = {Severity.OK: "ok     ", Severity.WARNING: "note   ", Severity.ERROR: "MEND   "}
#: How many of the names a server does have are shown beside one it lacks.
NAMES_SHOWN = 3
#: A hundred people's pictures of a day are about 2 GB.
LOW_DISK_BYTES = 5_000_000_000


async def run_doctor(settings: Settings, *, root: Path, as_json: bool) -> int:
    """Check everything and print it; 0 when nothing needs mending, else 1."""
    texts = Phrasebook.load(settings.default_locale).texts()
    use_configured_discord(settings)
    try:
        async with open_middle(settings, "all", root=root, is_read_only=True) as middle:
            findings = [
                *inspect_settings(),
                *await inspect_discord(settings.discord_token.get_secret_value(), settings.allowed_guild_id),
                *await inspect_database(middle.database, settings.keep_pictures_gb),
                *inspect_exports(settings.export_path),
                *await inspect_fleet(middle, thoroughly=True),
            ]
    except CannotStartError as error:
        findings = [_unusable(str(error))]
    print(_as_json(findings, texts) if as_json else _as_text(findings, texts))
    return 1 if has_errors(findings) else 0


def inspect_settings() -> Sequence[Finding]:
    """Names in `.env` and the environment that nobody reads although they look like ours."""
    return [
        Finding(
            area="settings", subject=name.written, severity=Severity.WARNING, code="setting_unknown", params={"meant": name.meant}
        )
        for name in misspelt_settings()
    ]


async def check_at_start(middle: Middle, settings: Settings) -> None:
    """Log what needs mending. With STRICT_STARTUP, raise CannotStartError unless a server answers and every template runs."""
    findings = await inspect_fleet(middle)
    report(findings, Phrasebook.load(settings.default_locale).texts())
    if not settings.strict_startup:
        return
    servers = [finding for finding in findings if finding.area == "server"]
    if all(finding.severity is Severity.ERROR for finding in servers):
        raise StrictStartError("STRICT_STARTUP: no ComfyUI server can be used; run `python app.py doctor`")
    broken = sorted(
        {finding.subject for finding in findings if finding.area == "template" and finding.severity is Severity.ERROR}
    )
    if broken:
        raise StrictStartError(f"STRICT_STARTUP: these templates cannot run: {', '.join(broken)}; run `python app.py doctor`")


def inspect_exports(folder: Path | None, *, low_bytes: int = LOW_DISK_BYTES) -> Sequence[Finding]:
    """Room for the copies of pictures; the database's own disk is looked at with the database."""
    free = free_bytes(folder) if folder else None
    if folder is None or free is None:
        return []
    severity, code = (Severity.OK, "disk_good") if free >= low_bytes else (Severity.WARNING, "disk_low")
    return [Finding(area="disk", subject=str(folder), severity=severity, code=code, params={"free_gb": round(free / 1e9, 1)})]


async def inspect_fleet(middle: Middle, *, thoroughly: bool = False) -> Sequence[Finding]:
    """Every server, and every template on every server that answers. `thoroughly`: also what needs an upload to be seen."""
    servers = [
        finding for found in await asyncio.gather(*(check_server(server) for server in middle.servers)) for finding in found
    ]
    if thoroughly:
        well = [server for server in middle.servers if server.facts is not None]
        servers += [finding for found in await asyncio.gather(*map(check_uploads_and_files, well)) for finding in found]
    problems = await asyncio.to_thread(middle.catalogue.problems)  # likeness to thousands of file names takes its time
    templates = [template_finding(problem, middle.catalogue.where(problem)) for problem in problems]
    if all(finding.severity is Severity.ERROR for finding in servers):
        return [*servers, *templates]  # what could run is not known
    return [*servers, *templates, *_working(middle, {finding.subject for finding in templates})]


def report(findings: Iterable[Finding], texts: Texts) -> None:
    """The start-up report: one line a finding in the log."""
    for finding in findings:
        say = {Severity.OK: log.info, Severity.WARNING: log.warning, Severity.ERROR: log.error}[finding.severity]
        if finding.severity is Severity.OK and finding.area == "template":
            continue
        say("checked", area=finding.area, subject=finding.subject, finding=sentence(finding, texts), mend=mend(finding, texts))


async def inspect_database(database: Database, keep_pictures_gb: float) -> Sequence[Finding]:
    """The database and the room on its disk; changes neither."""
    try:
        found, room = await database.check(), await database.blobs.room()
    except FulletError as error:
        return [_unusable(str(error.params.get("reason", "")))]
    return [_database(found), *_room(room, found.location, keep_pictures_gb)]


def _database(found: DatabaseReport) -> Finding:
    params: dict[str, Param] = {"kind": found.kind, "version": found.version}
    severity, code = Severity.OK, "database_good"
    if found.is_new:
        code = "database_new"
    elif found.is_newer:
        severity, code = Severity.ERROR, "database_newer"
    elif not found.is_current:
        severity, code = Severity.WARNING, "migration_waiting"
    elif not found.is_durable:
        severity, code = Severity.WARNING, "not_durable"
    return Finding(area="database", subject=found.location, severity=severity, code=code, params=params)


def _room(room: DiskRoom | None, location: str, keep_pictures_gb: float) -> Sequence[Finding]:
    """What the pictures may take must fit beside everything else."""
    if room is None:
        return []
    fits_gb = round((room.free_bytes + room.used_bytes) / 1e9, 1)
    if room.is_short:
        params: dict[str, Param] = {"free_gb": round(room.free_bytes / 1e9, 1)}
        return [Finding(area="disk", subject=location, severity=Severity.WARNING, code="disk_short", params=params)]
    if fits_gb < keep_pictures_gb:
        params = {"wanted_gb": keep_pictures_gb, "fits_gb": fits_gb}
        return [Finding(area="disk", subject=location, severity=Severity.WARNING, code="pictures_too_many", params=params)]
    return []


def _unusable(reason: str) -> Finding:
    return Finding(area="database", subject="DATABASE_URL", severity=Severity.ERROR, code="unusable", params={"reason": reason})


#: Faults of the template's own files: each has sentences of its own, `doctor.template_<what>`.
FILE_FAULTS = frozenset(
    {
        "file_missing",
        "file_unreadable",
        "field_missing",
        "graph_cycle",
        "link_broken",
        "manifest_invalid",
        "node_id_reserved",
        "node_invalid",
        "node_missing",
        "node_unused",
        "not_api_format",
        "not_json",
        "picture_needed",
        "role_duplicate",
        "role_missing",
        "role_shared",
        "role_unused",
        "text_unassigned",
    }
)
#: What a server lacks for a template, `doctor.<what>`.
LACKS = frozenset(
    {"node_missing", "file_missing", "picture_missing", "choice_missing", "field_missing", "text_unassigned", "number_outside"}
)


def template_finding(problem: TemplateProblem, where: str) -> Finding:
    """A fault of a template, with what mends it. `where`: the manifest's own word on where a file or node comes from."""
    params: dict[str, Param] = {
        "name": problem.name,
        "field": problem.field or "-",
        "server": problem.server or "",
        "have": ", ".join(problem.available[:NAMES_SHOWN]) or "-",
        "where": where or "ComfyUI/models",
        "line": manifest_line(problem).replace("\n", " / "),
    }
    if problem.server is None:
        code = f"template_{problem.what}" if problem.what in FILE_FAULTS else "template_wrong"
    else:
        code = problem.what if problem.what in LACKS else "template_wrong"
    return Finding(area="template", subject=problem.workflow, severity=Severity.ERROR, code=code, params=params)


def _working(middle: Middle, broken: set[str]) -> Sequence[Finding]:
    names = sorted(set(middle.catalogue.library.templates) - broken)
    return [Finding(area="template", subject=name, severity=Severity.OK, code="template_good") for name in names]


def _as_text(findings: Sequence[Finding], texts: Texts) -> str:
    lines = [
        f"{_MARKS[finding.severity]}{finding.area:9} {finding.subject}: {sentence(finding, texts)}"
        + (f"\n       -> {advice}" if (advice := mend(finding, texts)) else "")
        for finding in findings
    ]
    wrong = sum(finding.severity is Severity.ERROR for finding in findings)
    return "\n".join([*lines, "", texts("doctor.all_well") if not wrong else texts("doctor.to_mend", count=wrong)])


def _as_json(findings: Sequence[Finding], texts: Texts) -> str:
    return json.dumps(
        {
            "ok": not has_errors(findings),
            "findings": [
                {
                    "area": finding.area,
                    "subject": finding.subject,
                    "severity": finding.severity.value,
                    "code": finding.code,
                    "sentence": sentence(finding, texts),
                    "mend": mend(finding, texts),
                }
                for finding in findings
            ],
        },
        ensure_ascii=False,
        indent=2,
    )


def sentence(finding: Finding, texts: Texts) -> str:
    """What was found."""
    return texts(f"doctor.{finding.code}", subject=finding.subject, **finding.params)


def mend(finding: Finding, texts: Texts) -> str:
    """What mends it; empty where nothing needs mending."""
    return (
        "" if finding.severity is Severity.OK else texts(f"doctor.mend.{finding.code}", subject=finding.subject, **finding.params)
    )
