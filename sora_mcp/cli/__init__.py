"""The command line. Heavy modules are imported only when a command needs them: `--help` loads neither mcp nor httpx.

Exit codes: 0 success; 2 usage error; 3 refused or failed; 4 the outcome of a paid call is unknown; 130 interrupted.
"""

from sora_mcp.cli.commands import main

__all__ = ["main"]
