"""The log on disk: identity, term and vote, entries."""
