"""A complete gateway, in process or served, that renders real MP4s.

Built from the two documentation pages and the new-api source; not live-verified. It accepts exactly the documented body
and refuses everything else as a gateway would. Markers in a prompt trigger failures: `[fail]`, `[blocked]`, `[slow]`
(ten times as long), `[quota]` and `[busy]` (refused at once), `[lost]` (the task is created, but the answer is an
error). It speaks the documented format, `/v1/videos` and OpenRouter's `/api/v1/videos`; only the last one states costs.
Images on other hosts are not fetched; a card names the host.
"""

from sora_mcp.sandbox.gateway import SERVED, Sandbox, serve

__all__ = ["SERVED", "Sandbox", "serve"]
