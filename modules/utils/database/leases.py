"""Leases: which start of which process drives a server, for a while."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select

from modules.domain.jobs import BootId, ServerName
from modules.utils.database.steps import upsert
from modules.utils.database.tables import lease

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
