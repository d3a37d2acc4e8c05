"""The ledger in one SQLite file (WAL, full sync) that all processes of a user share.

`engine` is the ledger; `file`, `integrity` and `wal` read, write and check the file, `migrations` holds its schema,
and `liveness` tells which writers live. `renewal` sets a lost ledger aside; `source` and `copy_mark` are for a copy to
PostgreSQL.
"""
