"""The spans that the SDK makes of each request: they name methods and tools, and hold no prompt, no answer, no key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from bench import KEY, Era
from fault_gateway import CREATE, Answer, FaultGateway, says
from mcp import Client, MCPError
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sora_mcp.config.settings import Settings
from sora_mcp.server import build

pytestmark = pytest.mark.anyio

PROMPT = "lighthouse-canary"


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """Keeps the spans of this process; a provider can be set once, and is told to rest afterwards."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    yield kept
    provider.shutdown()


def everything(span: ReadableSpan) -> str:
    return str(span.to_json())


@pytest.mark.parametrize(
    "answer",
    [
        says({"code": "success", "message": f"{KEY} {PROMPT}", "data": "task_1"}),
        says({"error": f"{KEY} {PROMPT}"}, 400),
        says({"error": f"{KEY} {PROMPT}"}, 500),
        Answer(200, f"{KEY} {PROMPT}".encode()),
    ],
    ids=["accepted", "refused", "in trouble", "unreadable"],
)
async def test_a_span_holds_no_prompt_and_no_key(
    exporter: InMemorySpanExporter,
    make_settings: Callable[..., Settings],
    gateway: FaultGateway,
    era: Era,
    answer: Answer,
) -> None:
    exporter.clear()
    gateway.on("POST", CREATE, answer)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("create_video", {"prompt": PROMPT}),
        ("create_video", {"prompt": PROMPT, "size": PROMPT, PROMPT: PROMPT}),
        ("create_video", {"prompt": [PROMPT]}),
        ("get_video", {"task_id": "task_1"}),
        ("list_videos", {"query": PROMPT}),
    ]
    async with Client(build(make_settings(base_url=gateway.address, api_key=KEY)), mode=era) as client:
        for tool, arguments in calls:
            await client.call_tool(tool, arguments)
        for prompt in (await client.list_prompts()).prompts:
            wanted = {argument.name: PROMPT for argument in prompt.arguments or []}
            with suppress(MCPError):
                await client.get_prompt(prompt.name, wanted)
            with suppress(MCPError):
                await client.get_prompt(prompt.name, wanted | {PROMPT: PROMPT})
    spans = [span for span in exporter.get_finished_spans() if span.kind is trace.SpanKind.SERVER]
    assert {span.name for span in spans} >= {"tools/call create_video", "tools/call get_video"}
    assert not [span.name for span in spans if PROMPT in everything(span) or KEY in everything(span)]
