"""The part of the ledger that the SQL engines share.

`rows` reads, `changes` writes, `lines` and `listing` are further queries; `paying`, `following` and `reading` are the
ledger's methods, on top of an engine's `transactions`. `database` defines the SQL that engines share.
"""
