"""What differs for a caller on another machine, who has no files here: links replace paths, in both directions."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import (
    Advice,
    AskUser,
    CheckKey,
    Configure,
    CopyLedger,
    Correct,
    Do,
    LocalText,
    LogIn,
    Message,
    Restart,
    Setting,
    StartNewLedger,
    UnlockKeyStore,
    parts_of,
)
from sora_mcp.core.errors import MAX_NAMED, InvalidInput, Problem, SoraError
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.results import Download, Video
from sora_mcp.core.tasks import clean
from sora_mcp.studio.images import MAX_IMAGE_BYTES, UPLOAD_PREFIX, is_address
from sora_mcp.studio.report import ON_THIS_MACHINE
from sora_mcp.studio.uploads import UNKNOWN_UPLOAD
from sora_mcp.tools.agent_wording import ForAgents
from sora_mcp.tools.caller import Links
from sora_mcp.tools.gateway_advice import GATEWAY_ADVICE
from sora_mcp.tools.sentences import format_duration


class ForRemoteAgents(ForAgents):
    """Wording for an agent on another machine: files of this one are not mentioned."""

    def message(self, message: Message) -> str:
        return super().message(
            tuple(part.remote if isinstance(part, LocalText) else part for part in parts_of(message))
        )

    def structured(self, result: BaseModel) -> dict[str, Any]:
        if isinstance(result, Video):
            generations = [
                each.model_copy(update={"url": None}) if (each.url or "").startswith("file:") else each
                for each in result.generations
            ]
            result = result.model_copy(update={"files": [], "generations": generations})
        return super().structured(result)

    def advise(self, *advice: Advice, about: str | None = None) -> str:
        return super().advise(*(each for each in advice if each != ON_THIS_MACHINE), about=about)

    def raise_cap(self, setting: str) -> str:
        return f"Tell the user: only whoever runs this server may raise {setting}. Do not try to work around it."

    def _describe(self, advice: Advice) -> str:
        """Address what is done where the server runs to its operator, not to the user of a remote agent."""
        match advice:
            case AskUser(action) if any(isinstance(part, Setting | Restart | LocalText) for part in parts_of(action)):
                return _for_operator(self.message(action))
            case Configure() | CheckKey() | LogIn() | UnlockKeyStore():
                return _for_operator(self.message(GATEWAY_ADVICE[type(advice)]))
            case StartNewLedger() | CopyLedger():
                return _for_operator("repair its ledger")
            case _:
                return super()._describe(advice)

    def settle(self, request_ids: tuple[str, ...]) -> str:
        ids = " and ".join(request_ids) or "it"
        command = _settle_command((*request_ids, "REQUEST_ID")[0])
        return (
            f"Tell the user: only the gateway's own log shows whether {ids} ran; whoever runs this server "
            f"settles it at its shell with `{command} --task task_…` or `{command} --none` ({_NAME_NOTE})."
        )

    def settled_as_not_run(self, request_id: str) -> str:
        return (
            "A person said that it did not run. If its task turns up after all, whoever runs this server corrects "
            f"that with `{_settle_command(request_id)} --task task_…` ({_NAME_NOTE})."
        )

    def give_up(self, request_id: str) -> str:
        return f"Tell the user: whoever runs this server can run `{_settle_command(request_id)} --none` ({_NAME_NOTE})."


def _for_operator(action: str) -> str:
    return f"Tell the user: whoever runs this server has to {action}."


def _settle_command(request_id: str) -> str:
    return f"{variable_of('owner')}=NAME sora-mcp settle {request_id}"


_NAME_NOTE = "NAME is the user's name at this server"


FOR_REMOTE_AGENTS = ForRemoteAgents()


async def with_link(download: Download, links: Links) -> Download:
    """Return a saved video with a link instead of its path. Raises what making the link raises."""
    url = await links.to_video(download)
    return download.model_copy(update={"path": None, "url": url, "url_seconds": links.ttl_s})


async def check_images(draft: VideoRequest, links: Links) -> None:
    """Raise InvalidInput for images that are files of the caller's machine and were not uploaded here, with links to
    upload them. Whatever is raised, nothing was sent."""
    try:
        missing = [each async for each in _missing(draft, links)]
    except SoraError as error:
        error.outcome = "not_submitted"
        raise
    if not missing:
        return
    refusal = InvalidInput([problem for problem, _ in missing])
    try:
        commands = [f"curl -gT {file} {await links.for_image()}" for _, file in missing[:MAX_NAMED]]
        refusal.advice = (Do(_upload_instructions(commands, links.ttl_s)), Correct())
    except SoraError as error:
        refusal.advice = (Do(error.parts), *error.advice, Correct())
    raise refusal


async def _missing(draft: VideoRequest, links: Links) -> AsyncIterator[tuple[Problem, str]]:
    """Yield the problem of each image that is not here, and its file on the caller's machine, quoted for a shell."""
    for i, item in enumerate(draft.inpaint_items):
        path = f"inpaint_items[{i}].url"
        if item.url is None:
            continue
        if item.url.lower().startswith(UPLOAD_PREFIX):
            if not await links.has_image(item.url):
                yield Problem(path, *UNKNOWN_UPLOAD), "FILE"
        elif not is_address(item.url):
            reason = "is a path, and this server cannot read the files of your machine"
            allowed = "an http(s) address, or the name of an image that you have sent here"
            yield Problem(path, reason, allowed), _file(item.url)


def _file(text: str) -> str:
    """Return a path, or a file: address, as an argument of a command."""
    path = text.strip()
    if path.lower().startswith("file:"):
        path = re.sub(r"^/(?=[A-Za-z]:)", "", unquote(urlsplit(path).path))
    return shlex.quote(path) if path and path == clean(path, 300) else "FILE"


def _upload_instructions(commands: list[str], ttl_s: int) -> str:
    """Say how to upload images."""
    these, answers = ("it", "it answers") if len(commands) == 1 else ("them", "each answers")
    run, max_mb = " and ".join(f"`{command}`" for command in commands), MAX_IMAGE_BYTES // 1_000_000
    return (
        f"Send {these} with {run} (run that, or have the user run it); {answers} with a name, {UPLOAD_PREFIX}…, to "
        f"give as url. Each link takes one image of up to {max_mb} MB and works for {format_duration(ttl_s)}."
    )
