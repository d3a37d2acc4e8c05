"""Reading the answers to free calls that concern no task: an upload, and the list of models."""

from __future__ import annotations

from sora_mcp.core.errors import BadReply
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.replies import Reply, parse_json
from sora_mcp.dialects.sora.errors import free_error, make_error
from sora_mcp.dialects.sora.fields import Fields
from sora_mcp.dialects.sora.urls import as_address, is_http


def read_uploaded(reply: Reply) -> str:
    """Return the public address of an uploaded file. Raises Refused or BadReply."""
    url = as_address(Fields(parse_json(reply)).get("url"), is_http)
    if reply.status not in {200, 201}:
        raise free_error(reply)
    if url is None:
        raise make_error(BadReply, reply, "The gateway took the image but gave no address for it")
    return url


def read_models(reply: Reply) -> list[str]:
    """Return the ids of the gateway's models: a free check that a key is accepted. Raises Refused or BadReply."""
    if reply.status != 200:
        raise free_error(reply)
    listed = Fields(parse_json(reply)).get("data")
    if not isinstance(listed, list):
        raise make_error(BadReply, reply, "The gateway's list of models cannot be read")
    ids = [str(each["id"]) for each in listed if isinstance(each, dict) and "id" in each]
    return [each for each in dict.fromkeys(ids) if each == clean(each, 100)]  # cleaning would make it a different id
