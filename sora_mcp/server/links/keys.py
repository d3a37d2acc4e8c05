"""The keys that links are signed with, in a file that only this user can read: `{"format": 1, "keys": ["…", …]}`.

The first signs, all are accepted: a new one at the front rotates the key, and the last one can go once the links that
it signed have expired. Servers that share the file, or a copy of it, accept each other's links.
"""

from __future__ import annotations

import logging
import re
import secrets
from pathlib import Path
from typing import Any

from sora_mcp.config.private_file import PrivateFile
from sora_mcp.core.advice import AskUser
from sora_mcp.core.errors import FileProblem

logger = logging.getLogger(__name__)

KEY_BYTES = 32
_KEY = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")


class LinkKeys:
    """The keys below `home`, read anew each time; the file is made where there is none, or one without keys."""

    def __init__(self, home: Path) -> None:
        self._file = PrivateFile(home / "link-keys.json")

    def read(self) -> list[bytes]:
        """The keys, the one that signs first. Raises FileProblem, which names no path: whoever has a link reads it."""
        try:
            document = self._file.read()
            if not document:
                with self._file.change() as document:  # whoever comes first makes it
                    document.setdefault("keys", [secrets.token_hex(KEY_BYTES)])
            return self._keys(document)
        except FileProblem as problem:
            logger.error("no link can be signed or used: %s", problem.message)  # noqa: TRY400 - the message says it all
            message = "The file of keys for links of this server cannot be used."
            raise FileProblem(message, AskUser("tell whoever runs this server")) from None

    def _keys(self, document: dict[str, Any]) -> list[bytes]:
        keys = document.get("keys")
        if document.keys() != {"keys"} or not isinstance(keys, list) or not keys:
            raise self._file.problem("is damaged: it does not hold keys")
        if not all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys):
            raise self._file.problem(f"is damaged: a key is {2 * KEY_BYTES} hexadecimal digits")
        return list(map(bytes.fromhex, keys))
