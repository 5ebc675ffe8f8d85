"""What a check found: said by the doctor, the start-up report and, for members, not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from modules.domain.errors import Param


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  #: something works less well than it could
    ERROR = "error"  #: something does not work until it is mended


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One checked fact. Its sentence is `doctor.<code>`, its mend `doctor.mend.<code>`, both with `params`."""

    area: str  #: `settings`, `discord`, `database`, `disk`, `server` or `template`
    subject: str  #: what was checked, by a name the operator knows
    severity: Severity
    code: str
    params: Mapping[str, Param] = field(default_factory=dict)


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether anything does not work."""
    return any(finding.severity is Severity.ERROR for finding in findings)
