"""The ledger in one SQLite file (WAL, full sync) that all processes of a user share.

`engine` is the ledger; `file`, `integrity` and `wal` are the file and what may
befall it, `migrations` its schema, `liveness` who is at work.
"""
