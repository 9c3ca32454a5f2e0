"""rsqlite_client: the DB-API client; its first brick is on its way."""
