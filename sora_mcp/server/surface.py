"""The MCP server, assembled: tools, resources, prompts, completions and subscriptions."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.shared.exceptions import MCPError
from mcp_types.version import is_version_at_least

from sora_mcp import __version__, tools
from sora_mcp.config.settings import Settings
from sora_mcp.core.pictures import mime_type
from sora_mcp.server import reading
from sora_mcp.server.asking import InMemoryQuestions, PendingAnswers, Questions, SealedQuestions, create_asker
from sora_mcp.server.completions import complete
from sora_mcp.server.malformed import accept_any_arguments, explain_params, received_arguments
from sora_mcp.server.prompts import get_prompt, list_prompts
from sora_mcp.server.session_timeouts import SessionTimeouts
from sora_mcp.server.spans import redact_spans
from sora_mcp.server.subscribers import SubscriberRegistry
from sora_mcp.studio import KeyLookup, Studio

if TYPE_CHECKING:
    from sora_mcp.server.links import Links
    from sora_mcp.server.links.links import OwnerLinks

Context = ServerRequestContext[Studio]

_LINKS_SINCE = "2025-06-18"
"""The revision that introduced resource links: an older client may refuse a result that holds one.

Some hosts show the model nothing of a result with a link, so only a saved file has one.
"""


Paging = types.PaginatedRequestParams | None
ResultT = TypeVar("ResultT")


def _one_page(
    listing: Callable[[Context, Paging], Awaitable[ResultT]],
) -> Callable[[Context, Paging], Awaitable[ResultT]]:
    """Wrap a list that has a single page, so every cursor is invalid (specification, server/utilities/pagination)."""

    async def checked(ctx: Context, params: Paging) -> ResultT:
        if params is not None and params.cursor:
            raise MCPError(types.INVALID_PARAMS, "Invalid cursor: this list has one page.")
        return await listing(ctx, params)

    return checked


class SoraServer(Server[Studio]):
    """The MCP server; its lifespan is a studio that all sessions share."""

    def __init__(self, settings: Settings) -> None:
        self.subscribers = SubscriberRegistry()
        self._settings = settings
        self._key_of: KeyLookup | None = None
        self._questions = InMemoryQuestions()
        self._pending = PendingAnswers()
        self._session_timeouts = SessionTimeouts()
        self._studios: set[Studio] = set()
        self.on_message: Callable[[str], None] | None = None
        """Called with messages of other servers that share the ledger."""
        self.check_caller: Callable[[], None] = lambda: None
        """Raises Declined if the token of the current request is no longer valid."""
        self.links: Links | None = None
        """Signed links for callers on other machines; None without authentication."""
        self._listed = types.ListToolsResult(tools=[types.Tool.model_validate(tool) for tool in tools.listing()])
        input_schemas = {tool.name: tool.input_schema for tool in self._listed.tools}
        super().__init__(
            "sora",
            version=__version__,
            title="Sora videos",
            instructions=tools.INSTRUCTIONS,
            lifespan=self._open_studio,
            get_tool_input_schema=input_schemas.get,  # otherwise each call over HTTP lists all tools to find it
            on_list_tools=_one_page(self._list_tools),
            on_call_tool=self._call_tool,
            on_list_resources=_one_page(reading.list_resources),
            on_list_resource_templates=_one_page(reading.list_templates),
            on_read_resource=reading.read,
            on_subscribe_resource=lambda ctx, params: self.subscribers.get(ctx.lifespan_context).subscribe(ctx, params),
            on_unsubscribe_resource=lambda ctx, params: self.subscribers.get(ctx.lifespan_context).unsubscribe(
                ctx, params
            ),
            on_subscriptions_listen=lambda ctx, params: self.subscribers.get(ctx.lifespan_context).listen(ctx, params),
            on_list_prompts=_one_page(list_prompts),
            on_get_prompt=get_prompt,
            on_completion=complete,
        )
        self.middleware = [explain_params, accept_any_arguments, *redact_spans(self.middleware)]

    def serve_owners(self, key_of: KeyLookup) -> None:
        """Serve several authenticated people: from now on each request is handled in its caller's studio.

        `key_of`: returns an owner's own upstream key. Raise NotConfigured if the settings name one owner.
        """
        from sora_mcp.server.tenants import SealedState, as_owner, check_settings  # noqa: PLC0415 - most serve one person

        check_settings(self._settings)
        self._key_of = key_of
        self.middleware += [as_owner, SealedState()]

    def get_capabilities(self, *args: Any, **kwargs: Any) -> types.ServerCapabilities:
        """Return the capabilities: the list of videos changes, those of tools and prompts do not."""
        capabilities = super().get_capabilities(*args, **kwargs)
        unchanged = {"tools": types.ToolsCapability(), "prompts": types.PromptsCapability()}
        return capabilities.model_copy(update=unchanged)

    @asynccontextmanager
    async def _open_studio(self, _: Server[Studio]) -> AsyncIterator[Studio]:
        if (folder := self._settings.shared_folder) is not None:
            from sora_mcp.gateway.folder import remember_folder  # noqa: PLC0415 - most servers share none

            await remember_folder(folder)
        async with Studio.open(self._settings, watch=True, find_key=self._key_of) as studio:
            self._studios.add(studio)
            if self.on_message is not None:
                studio.servers.on_broadcast(self.on_message)
            forget = self.subscribers.forget_all if self._key_of else self.subscribers.follow(studio)
            try:
                yield studio
            finally:
                forget()
                self._studios.discard(studio)

    @property
    def studio(self) -> Studio:
        """The studio of a server that runs over HTTP: there is one for all."""
        return next(iter(self._studios))

    def close_viewers(self) -> None:
        """End every `view` in progress, so that the server can shut down."""
        for studio in self._studios:
            studio.close_viewer()

    def stop_accepting(self) -> None:
        """Note that no client can connect any more: end calls that wait for an answer, unless another server can pass
        it on."""
        if self.on_message is None:
            self._pending.close()

    def close(self) -> None:
        """End everything that would otherwise stay open, streams and questions, so that the server can shut down."""
        self._pending.close()
        self.subscribers.close()

    def _links(self, ctx: Context) -> OwnerLinks | None:
        """Return the caller's signed links; None for a caller on this machine."""
        owner = ctx.lifespan_context.settings.owner
        if self.links is None or owner is None or ctx.request is None:
            return None
        return self.links.for_owner(owner, ctx.request)

    async def saved_file(self, owner: str, video_id: str, variant: int) -> Path | None:
        """Return where an owner's video is saved; see `Studio.saved_file`."""
        return await self.studio.saved_file(owner, video_id, variant)

    async def _list_tools(self, _: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return self._listed

    async def _call_tool(
        self, ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        async def progress(now: tools.Progress) -> None:
            await ctx.session.report_progress(now.done, now.total, now.message)

        studio = ctx.lifespan_context
        questions: Questions = self._questions if self._key_of is None else SealedQuestions(studio)
        asker = create_asker(questions, ctx.session, params, self._pending, self.check_caller)
        host_timeout = self._session_timeouts.get(_session_id(ctx), studio.settings.owner or "")
        links = self._links(ctx)
        caller = tools.Caller(
            progress,
            asker.confirm if asker else None,
            answers=params.request_state is not None or bool(params.input_responses),
            wording=(tools.ForAgents if links is None else links.wording)(host_timeout.max_wait_s),
            host_timeout=host_timeout,
            links=links,
        )
        result = await tools.call(studio, params.name, received_arguments(params.arguments), caller)
        if asker is not None and asker.input_required is not None:
            return asker.input_required
        if result.structured.get("outcome") == "unknown":
            await self.subscribers.get(studio).notify_unsettled(result.structured.get("request_id"))
        content = _content(result)
        if result.file is not None and is_version_at_least(ctx.protocol_version, _LINKS_SINCE):
            content.append(reading.file_link(result.structured, result.file.name))
        # Three hosts show the model only the structured content if there is some, and not the picture.
        is_picture = not result.is_error and tools.TABLE[params.name].picture is not None
        structured = None if is_picture else result.structured
        return types.CallToolResult(content=content, structured_content=structured, is_error=result.is_error)


def _session_id(ctx: Context) -> str | None:
    """Return the session of a request: "" if there is one client (stdio), None if the request has none."""
    if ctx.request is None:
        return ""
    session_id: str | None = ctx.request.headers.get(MCP_SESSION_ID_HEADER)
    return session_id


def build(settings: Settings) -> SoraServer:
    """Return the server, ready to run over any transport."""
    return SoraServer(settings)


def _content(result: tools.Result) -> list[types.ContentBlock]:
    """Return a sentence, the structured result as text for hosts that read only that, and the picture if any."""
    content: list[types.ContentBlock] = [types.TextContent(text=result.text), types.TextContent(text=result.mirror)]
    if result.picture is not None:
        data = base64.b64encode(result.picture).decode("ascii")
        content.append(types.ImageContent(data=data, mime_type=mime_type(result.picture)))
    return content
