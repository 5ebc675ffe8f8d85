"""Leases: which start of which process drives a server, for a while."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select

from modules.domain.jobs import BootId, ServerName
from modules.domain.records import HeldLease
from modules.utils.database.steps import upsert
from modules.utils.database.tables import lease

_ALL = select(lease.c.server, lease.c.boot_id, lease.c.expires_at)
_LEASE = select(lease).where(lease.c.server == bindparam("of_server"))


def take_lease(
    connection: Connection, server: ServerName, boot_id: BootId, life: timedelta, now: datetime, *, steal: bool = False
) -> bool:
    """See `JobStore.take_lease`; runs exclusively."""
    held = connection.execute(_LEASE, {"of_server": server}).one_or_none()
    if held is not None and held.boot_id != boot_id and held.expires_at > now and not steal:
        return False
    upsert(connection, lease, {"server": server}, {"boot_id": boot_id, "expires_at": now + life})
    return True


def release_lease(connection: Connection, server: ServerName, boot_id: BootId) -> None:
    """See `JobStore.release_lease`."""
    connection.execute(delete(lease).where(lease.c.server == server, lease.c.boot_id == boot_id))


def read_leases(connection: Connection) -> Mapping[ServerName, HeldLease]:
    """See `JobStore.leases`."""
    rows = connection.execute(_ALL)
    return {ServerName(row.server): HeldLease(boot_id=BootId(row.boot_id), expires_at=row.expires_at) for row in rows}


def drop_lease(connection: Connection, server: ServerName, seen: HeldLease) -> bool:
    """See `JobStore.drop_lease`."""
    is_as_seen = (lease.c.server == server, lease.c.boot_id == seen.boot_id, lease.c.expires_at == seen.expires_at)
    return connection.execute(delete(lease).where(*is_as_seen)).rowcount > 0
