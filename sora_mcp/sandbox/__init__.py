"""A complete gateway of our own, in process or served, that renders real MP4s.

Built from the two documentation pages and the new-api source; not live-verified. It accepts exactly
the documented body and refuses the rest as a gateway would. Prompts can ask for trouble: `[fail]`,
`[blocked]`, `[slow]` (ten times as long), `[quota]` and `[busy]` (refused at once), `[lost]` (the task
is made, but the answer is an error). Its three faces are the documented format, `/v1/videos` and OpenRouter's
`/api/v1/videos`; the last states its costs. Images on other hosts are not fetched; a card names them.
"""

from sora_mcp.sandbox.gateway import SERVED, Sandbox, serve

__all__ = ["SERVED", "Sandbox", "serve"]
