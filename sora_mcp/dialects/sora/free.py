"""Answers to what costs nothing and is about no task: an upload, and the list of models."""

from __future__ import annotations

from sora_mcp.core.errors import BadReply
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.replies import Reply, parsed
from sora_mcp.dialects.sora.errors import error_of, free_error
from sora_mcp.dialects.sora.urls import address_of, is_http
from sora_mcp.dialects.sora.words import Fields


def read_uploaded(reply: Reply) -> str:
    """The public address of an uploaded file. Raises Refused or BadReply."""
    url = address_of(Fields(parsed(reply)).get("url"), is_http)
    if reply.status not in {200, 201}:
        raise free_error(reply)
    if url is None:
        raise error_of(BadReply, reply, "The gateway took the image but gave no address for it")
    return url


def read_models(reply: Reply) -> list[str]:
    """The ids of the gateway's models: a free way to see that a key is accepted. Raises Refused or BadReply."""
    if reply.status != 200:
        raise free_error(reply)
    listed = Fields(parsed(reply)).get("data")
    if not isinstance(listed, list):
        raise error_of(BadReply, reply, "The gateway's list of models cannot be read")
    ids = [str(each["id"]) for each in listed if isinstance(each, dict) and "id" in each]
    return [each for each in dict.fromkeys(ids) if each == clean(each, 100)]  # one that had to be cleaned is another
