"""All that the server offers, put together: the table of tools, resources, prompts, completions, subscriptions."""

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
from sora_mcp.server.asking import OwnQuestions, Questions, SealedQuestions, Waiting, asker_of
from sora_mcp.server.completions import complete
from sora_mcp.server.patience import PatienceOfSessions
from sora_mcp.server.prompts import get_prompt, list_prompts
from sora_mcp.server.spans import without_words
from sora_mcp.server.subscribers import Audiences
from sora_mcp.studio import KeyLookup, Studio

if TYPE_CHECKING:
    from sora_mcp.server.links import Links
    from sora_mcp.server.links.links import OwnersLinks

Context = ServerRequestContext[Studio]

_LINKS_SINCE = "2025-06-18"
"""The revision that brought links: an older client may refuse a result that holds one.

Some hosts show the model nothing of a result with a link, so only a file that was saved has one.
"""


Paging = types.PaginatedRequestParams | None
Listed = TypeVar("Listed")


def _one_page(
    listing: Callable[[Context, Paging], Awaitable[Listed]],
) -> Callable[[Context, Paging], Awaitable[Listed]]:
    """A list that is never cut into pages: nobody was given a cursor (specification, server/utilities/pagination)."""

    async def checked(ctx: Context, params: Paging) -> Listed:
        if params is not None and params.cursor:
            raise MCPError(types.INVALID_PARAMS, "Invalid cursor: this list has one page.")
        return await listing(ctx, params)

    return checked


class SoraServer(Server[Studio]):
    """The server; its lifespan is a studio, shared by all sessions."""

    def __init__(self, settings: Settings) -> None:
        self.subscribers = Audiences()
        self._settings = settings
        self._key_of: KeyLookup | None = None
        self._questions = OwnQuestions()
        self._waiting = Waiting()
        self._patience = PatienceOfSessions()
        self._studios: set[Studio] = set()
        self.on_message: Callable[[str], None] | None = None
        """Told what other servers that share the ledger say."""
        self.check_caller: Callable[[], None] = lambda: None
        """Raises Declined where the token of the request that is being served is no longer good."""
        self.links: Links | None = None
        """Those for callers on other machines; None where nobody is asked who they are."""
        self._listed = types.ListToolsResult(tools=[types.Tool.model_validate(tool) for tool in tools.listing()])
        input_schemas = {tool.name: tool.input_schema for tool in self._listed.tools}
        super().__init__(
            "sora",
            version=__version__,
            title="Sora videos",
            instructions=tools.INSTRUCTIONS,
            lifespan=self._open_studio,
            get_tool_input_schema=input_schemas.get,  # else every call over HTTP lists all tools to find its schema
            on_list_tools=_one_page(self._list_tools),
            on_call_tool=self._call_tool,
            on_list_resources=_one_page(reading.list_resources),
            on_list_resource_templates=_one_page(reading.list_templates),
            on_read_resource=reading.read,
            on_subscribe_resource=lambda ctx, params: self.subscribers.of(ctx.lifespan_context).subscribe(ctx, params),
            on_unsubscribe_resource=lambda ctx, params: self.subscribers.of(ctx.lifespan_context).unsubscribe(
                ctx, params
            ),
            on_subscriptions_listen=lambda ctx, params: self.subscribers.of(ctx.lifespan_context).listen(ctx, params),
            on_list_prompts=_one_page(list_prompts),
            on_get_prompt=get_prompt,
            on_completion=complete,
        )
        self.middleware = without_words(self.middleware)

    def share(self, key_of: KeyLookup) -> None:
        """Serve several people, who say who they are: from now on each request works in the studio of whoever makes it.

        `key_of`: an owner's own upstream key. Raises NotConfigured where the settings name one owner.
        """
        from sora_mcp.server.tenants import Sealed, as_owner, check_settings  # noqa: PLC0415 - most serve one person

        check_settings(self._settings)
        self._key_of = key_of
        self.middleware += [as_owner, Sealed()]

    def get_capabilities(self, *args: Any, **kwargs: Any) -> types.ServerCapabilities:
        """What is so: videos come and go, tools and prompts stay as they are."""
        capabilities = super().get_capabilities(*args, **kwargs)
        steady = {"tools": types.ToolsCapability(), "prompts": types.PromptsCapability()}
        return capabilities.model_copy(update=steady)

    @asynccontextmanager
    async def _open_studio(self, _: Server[Studio]) -> AsyncIterator[Studio]:
        if (folder := self._settings.shared_folder) is not None:
            from sora_mcp.gateway.folder import know  # noqa: PLC0415 - most servers share none

            await know(folder)
        async with Studio.open(self._settings, watch=True, find_key=self._key_of) as studio:
            self._studios.add(studio)
            if self.on_message is not None:
                studio.servers.hear(self.on_message)
            forget = self.subscribers.forget_all if self._key_of else self.subscribers.follow(studio)
            try:
                yield studio
            finally:
                forget()
                self._studios.discard(studio)

    @property
    def studio(self) -> Studio:
        """The studio, while the server runs over HTTP: there is one for all."""
        return next(iter(self._studios))

    def close_viewers(self) -> None:
        """End every `view` that is under way, so that a server can end."""
        for studio in self._studios:
            studio.close_viewer()

    def listen_no_more(self) -> None:
        """No client can connect any more: calls that wait for an answer end, unless another server passes it on."""
        if self.on_message is None:
            self._waiting.end()

    def close(self) -> None:
        """End what stands until it is ended, streams and questions, so that a server can end."""
        self._waiting.end()
        self.subscribers.close()

    def _links(self, ctx: Context) -> OwnersLinks | None:
        """The caller's links; None for somebody on this machine."""
        owner = ctx.lifespan_context.settings.owner
        if self.links is None or owner is None or ctx.request is None:
            return None
        return self.links.of(owner, ctx.request)

    async def saved_file(self, owner: str, video_id: str, variant: int) -> Path | None:
        """Where an owner's video is saved; see `Studio.saved_file`."""
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
        asker = asker_of(questions, ctx.session, params, self._waiting, self.check_caller)
        patience = self._patience.of(_session_id(ctx), studio.settings.owner or "")
        links = self._links(ctx)
        caller = tools.Caller(
            progress,
            asker.confirm if asker else None,
            answers=params.request_state is not None or bool(params.input_responses),
            wording=(tools.ForAgents if links is None else links.wording)(patience.most_s),
            patience=patience,
            links=links,
        )
        result = await tools.call(studio, params.name, params.arguments, caller)
        if asker is not None and asker.to_be_answered is not None:
            return asker.to_be_answered
        if result.structured.get("outcome") == "unknown":
            await self.subscribers.of(studio).tell_unsettled(result.structured.get("request_id"))
        content = _content(result)
        if result.file is not None and is_version_at_least(ctx.protocol_version, _LINKS_SINCE):
            content.append(reading.file_link(result.structured, result.file.name))
        # Three hosts show the model nothing but the structured content where there is some: not the picture.
        is_picture = not result.is_error and tools.TABLE[params.name].picture is not None
        structured = None if is_picture else result.structured
        return types.CallToolResult(content=content, structured_content=structured, is_error=result.is_error)


def _session_id(ctx: Context) -> str | None:
    """The session of a request, one for all where there is one client; None where a request has none."""
    if ctx.request is None:
        return ""
    session_id: str | None = ctx.request.headers.get(MCP_SESSION_ID_HEADER)
    return session_id


def build(settings: Settings) -> SoraServer:
    """The server, ready to be run over any transport."""
    return SoraServer(settings)


def _content(result: tools.Result) -> list[types.ContentBlock]:
    """A sentence, the structured result again as text for hosts that read only that, then a picture."""
    content: list[types.ContentBlock] = [types.TextContent(text=result.text), types.TextContent(text=result.mirror)]
    if result.picture is not None:
        data = base64.b64encode(result.picture).decode("ascii")
        content.append(types.ImageContent(data=data, mime_type=mime_type(result.picture)))
    return content
