"""Client libraries and agent frameworks: each runs a script of `clients/` in an environment of its own, over stdio."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from workshop import CLIENTS, PROJECT, Failed, Report, Workshop, report_from

TYPESCRIPT_1 = "@modelcontextprotocol/sdk@1.32.2"
TYPESCRIPT_2 = "@modelcontextprotocol/client@2.4.0"
AI_SDK = "@ai-sdk/mcp@2.0.99"
FASTMCP = "fastmcp==4.1.2"
OPENAI_AGENTS = "openai-agents==0.24.0"
PYDANTIC_AI = "pydantic-ai-slim[mcp]==2.68.0"
LANGCHAIN = "langchain-mcp-adapters==0.3.2"
AUTOGEN = "autogen-agentchat==0.7.5"
MCP_1 = "mcp==1.30.0"
OPENAI, ANTHROPIC, GOOGLE = "openai==3.54.0", "anthropic==2.12.0", "google-genai==3.4.0"
VENDORS = (OPENAI, ANTHROPIC, GOOGLE, OPENAI_AGENTS, "pydantic-ai-slim==2.68.0")


def typescript_1(shop: Workshop) -> Report:
    """The TypeScript SDK that most hosts are built on."""
    return _node(shop, TYPESCRIPT_1, "typescript_1.mjs")


def typescript_2(shop: Workshop) -> Report:
    """The TypeScript client of 2026-07-28."""
    return _node(shop, TYPESCRIPT_2, "typescript_2.mjs")


def ai_sdk(shop: Workshop) -> Report:
    """The Vercel AI SDK, whose server starts later than it waits for."""
    return _node(shop, AI_SDK, "with_ai_sdk.mjs")


def fastmcp(shop: Workshop) -> Report:
    """fastmcp's client."""
    return _python(shop, "with_fastmcp.py", FASTMCP)


def openai_agents(shop: Workshop) -> Report:
    """An agent of openai-agents with a scripted model."""
    return _python(shop, "with_openai_agents.py", OPENAI_AGENTS)


def pydantic_ai(shop: Workshop) -> Report:
    """An agent of pydantic-ai with a scripted model, and one with its test model."""
    return _python(shop, "with_pydantic_ai.py", PYDANTIC_AI)


def langchain(shop: Workshop) -> Report:
    """LangChain's adapters, and below them the Python SDK 1.x."""
    return _python(shop, "with_langchain.py", LANGCHAIN, MCP_1)


def autogen(shop: Workshop) -> Report:
    """An agent of AutoGen with a scripted model, which loses an answer that holds a link."""
    return _python(shop, "with_autogen.py", AUTOGEN, AUTOGEN.replace("agentchat", "ext[mcp]"), MCP_1)


def openai(shop: Workshop) -> Report:
    """The exports for OpenAI: its strict schemas, and whole conversations."""
    return _vendor(shop, "openai or pydantic or documented_loop")


def anthropic(shop: Workshop) -> Report:
    """The export for Anthropic."""
    return _vendor(shop, "anthropic")


def gemini(shop: Workshop) -> Report:
    """The export for Gemini, and Google's own adapter of MCP tools."""
    return _vendor(shop, "google or gemini")


def _vendor(shop: Workshop, tests: str) -> Report:
    """The tests of the tool exports with a vendor's library; none may be skipped."""
    python = shop.venv("-e", f"{PROJECT}[test]", *VENDORS)
    said = shop.do(
        python,
        "-m",
        "pytest",
        "-q",
        "-k",
        tests,
        PROJECT / "tests" / "contract" / "test_toolkit_vendors.py",
        seconds=180,
    )
    if re.search(r"^\d+ passed", said, re.MULTILINE) is None or "skipped" in said:
        raise Failed(said)
    return (), "declarations taken, whole conversation with a scripted model"


def _node(shop: Workshop, package: str, script: str) -> Report:
    npm = shop.npm(package)
    return report_from(shop.do("node", script_in(npm, script), npm=npm))


def script_in(npm: Path, script: str) -> Path:
    """A script of ours where Node finds its packages: it looks for them from where the script lies."""
    for name in (script, "story.mjs"):
        shutil.copy(CLIENTS / name, npm)
    return npm / script


def _python(shop: Workshop, script: str, *requirements: str) -> Report:
    return report_from(shop.do(shop.venv(*requirements), CLIENTS / script))
