"""The Sora "official format": what to send for a request, and how to read what comes back. No I/O.

Sources: the create page (2025-01-15), the query page (2025-02-22), sibling pages of the same family
for files and models, and new-api's source, its siblings' documentation and users' reports for the
words, shapes and errors that replies come in.

A new shape of a reply is a case in `tests/support/reply_shapes.py`.
"""

from sora_mcp.dialects.sora.creates import read_created
from sora_mcp.dialects.sora.dialect import CREATE_PATH, FILES_PATH, MODELS_PATH, Sora
from sora_mcp.dialects.sora.free import read_models, read_uploaded
from sora_mcp.dialects.sora.tables import CAPABILITIES, SIZES
from sora_mcp.dialects.sora.tasks import MAX_GENERATIONS, read_task

__all__ = [
    "CAPABILITIES",
    "CREATE_PATH",
    "FILES_PATH",
    "MAX_GENERATIONS",
    "MODELS_PATH",
    "SIZES",
    "Sora",
    "read_created",
    "read_models",
    "read_task",
    "read_uploaded",
]
