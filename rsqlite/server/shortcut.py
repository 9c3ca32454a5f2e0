"""placeholder until the next commit"""

from rsqlite.server.connection import Connection as ShortcutConnection

__all__ = ["ShortcutConnection"]
