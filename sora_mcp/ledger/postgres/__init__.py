"""The ledger in PostgreSQL (15 or newer), shared by servers on several machines.

`engine` is the ledger; `connections` opens connections and runs transactions, `connection` is one of them, `migrations`
the schema, `presence` tells which servers live and announces changes, `errors` describes PostgreSQL's errors in our
words. `documents` is what servers share beside the ledger.
"""
