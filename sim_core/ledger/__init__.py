"""The append-only ledger: entries and hash chain (pure), tables, store."""
