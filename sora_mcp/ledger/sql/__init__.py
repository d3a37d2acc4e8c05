"""The ledger in tables: what the engines that speak SQL share.

`rows` reads, `changes` writes, `lines` and `listing` are further queries; `paying`, `following` and `reading` are the
ledger's methods, above the `transactions` that an engine gives them. `database` says which SQL is shared.
"""
