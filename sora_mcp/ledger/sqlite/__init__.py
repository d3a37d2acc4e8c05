"""The ledger in one SQLite file (WAL, full sync) that all processes of a user share.

`engine` is the ledger; `file`, `integrity` and `wal` are the file and what may befall it, `migrations` its schema,
`rows` its queries, `changes` what is written, `liveness` and `leases` who is at work.
"""
