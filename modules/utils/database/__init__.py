"""What must survive a restart: SQLAlchemy over SQLite or PostgreSQL, behind the store ports of the domain."""

from modules.utils.database.engine import DatabaseReport
from modules.utils.database.facade import Database, open_database
from modules.utils.database.listening import MAX_PAYLOAD_BYTES
from modules.utils.database.urls import read_database_url
from modules.utils.database.wakeups import Topic, Wakeup

__all__ = ["MAX_PAYLOAD_BYTES", "Database", "DatabaseReport", "Topic", "Wakeup", "open_database", "read_database_url"]
