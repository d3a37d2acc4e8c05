"""Proof against programs nobody here wrote: `python tests/proofs/prove.py [NAME …] [--ci] [--list] [--work DIR]`.

Installs pinned programs and libraries from npm and PyPI in a folder of its own, takes each through the real server
against the sandbox, and writes what was shown to `works-with.json` and the table of docs/clients.md. `--ci` runs the
quick ones and writes nothing: it fails where something else was shown than is written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import hosts
import libraries
import protocol
import routers
import teams
import upstreams
from platformdirs import user_cache_path
from workshop import PROJECT, Failed, Missing, Report, Workshop

TABLE = Path(__file__).with_name("works-with.json")
PAGE = PROJECT / "docs" / "clients.md"
BEGIN, END = "<!-- works with: generated -->\n", "<!-- /works with -->"


@dataclass(frozen=True, slots=True)
class Proof:
    """One program or library, pinned, and what takes it through the server."""

    title: str
    package: str
    transport: str
    show: Callable[[Workshop], Report]
    quick: bool = False

    @property
    def name(self) -> str:
        return self.show.__name__.replace("_", "-")

    @property
    def version(self) -> str:
        return re.split("==|@", self.package)[-1]


@dataclass(frozen=True, slots=True)
class Row:
    """What was shown, as it is kept."""

    name: str
    title: str
    version: str
    transport: str
    eras: tuple[str, ...]
    shown: str

    @property
    def cells(self) -> tuple[str, ...]:
        return self.title, self.version, self.transport, ", ".join(self.eras) or "-", self.shown


PROOFS = (
    Proof("Official conformance suite", protocol.CONFORMANCE, "HTTP", protocol.conformance, quick=True),
    Proof(
        "Official conformance suite, with a token",
        protocol.CONFORMANCE,
        "HTTP",
        teams.conformance_with_tokens,
        quick=True,
    ),
    Proof("MCP Inspector (CLI)", protocol.INSPECTOR, "stdio", protocol.inspector, quick=True),
    Proof("TypeScript SDK 1.x", libraries.TYPESCRIPT_1, "stdio", libraries.typescript_1, quick=True),
    Proof("TypeScript client 2.x", libraries.TYPESCRIPT_2, "stdio", libraries.typescript_2, quick=True),
    Proof("TypeScript client 2.x, with OAuth", libraries.TYPESCRIPT_2, "HTTP", teams.typescript_2_oauth, quick=True),
    Proof("Vercel AI SDK", libraries.AI_SDK, "stdio", libraries.ai_sdk, quick=True),
    Proof("fastmcp client", libraries.FASTMCP, "stdio", libraries.fastmcp, quick=True),
    Proof("LangChain adapters (Python SDK 1.30)", libraries.LANGCHAIN, "stdio", libraries.langchain),
    Proof("AutoGen (Python SDK 1.30)", libraries.AUTOGEN, "stdio", libraries.autogen),
    Proof("OpenAI Agents", libraries.OPENAI_AGENTS, "stdio", libraries.openai_agents),
    Proof("Pydantic AI", libraries.PYDANTIC_AI, "stdio", libraries.pydantic_ai),
    Proof("Claude Code", hosts.CLAUDE_CODE, "stdio", hosts.claude_code, quick=True),
    Proof("Claude Code, with a token", hosts.CLAUDE_CODE, "HTTP", teams.claude_code_with_a_token, quick=True),
    Proof("Claude Desktop bundle (mcpb)", hosts.MCPB, "-", hosts.mcpb),
    Proof("Gemini CLI", hosts.GEMINI_CLI, "stdio", hosts.gemini_cli),
    Proof("Codex", hosts.CODEX, "stdio", hosts.codex, quick=True),
    Proof("opencode", hosts.OPENCODE, "stdio", hosts.opencode),
    Proof("Copilot CLI", hosts.COPILOT_CLI, "stdio", hosts.copilot_cli, quick=True),
    Proof("OpenAI library", libraries.OPENAI, "function calls", libraries.openai, quick=True),
    Proof(
        "OpenAI library, as a client of the sandbox",
        upstreams.OPENAI_VIDEOS,
        "HTTP",
        upstreams.openai_videos,
        quick=True,
    ),
    Proof(
        "OpenRouter library, as a client of the sandbox",
        routers.OPENROUTER,
        "HTTP",
        routers.openrouter,
        quick=True,
    ),
    Proof("aimock, as an OpenRouter", routers.AIMOCK, "HTTP", routers.aimock, quick=True),
    Proof(
        "vLLM-Omni's own routes (fake engine), as the upstream",
        upstreams.VLLM_OMNI,
        "HTTP",
        upstreams.vllm_omni,
        quick=True,
    ),
    Proof("LiteLLM proxy in front of them, as the upstream", upstreams.LITELLM, "HTTP", upstreams.litellm),
    Proof("Anthropic library", libraries.ANTHROPIC, "function calls", libraries.anthropic),
    Proof("Google Gen AI library", libraries.GOOGLE, "function calls", libraries.gemini),
)


def main() -> int:
    arguments = _arguments()
    proofs = [proof for proof in PROOFS if _wanted(proof, arguments)]
    if arguments.list:
        sys.stdout.writelines(f"{each.name}: {each.title} {each.version}{' (--ci)' * each.quick}\n" for each in proofs)
        return 0
    written = _written()
    rows, n_failed = dict(written), 0
    for proof in proofs:
        try:
            rows[proof.name] = _prove(proof, arguments.work)
        except Missing as missing:
            sys.stdout.write(f"- {proof.title}: not run, {missing}\n")
            n_failed += not arguments.ci
        except Failed as failed:
            sys.stdout.write(f"✗ {proof.title} {proof.version}: {failed}\n")
            rows.pop(proof.name, None)
            n_failed += 1
    if arguments.ci:
        stale = list(_stale(rows, written))
        sys.stdout.writelines(f"✗ {each}\n" for each in stale)
        return 1 if n_failed or stale else 0
    _write([rows[proof.name] for proof in PROOFS if proof.name in rows])
    return 1 if n_failed else 0


def _stale(rows: dict[str, Row], written: dict[str, Row]) -> Iterator[str]:
    """Where what is written is not what was shown, or of another version than is pinned."""
    yield from (f"{TABLE.name} says {written.get(name)}" for name, row in rows.items() if row != written.get(name))
    yield from (
        f"{proof.title} {proof.version}: not in {TABLE.name}; run {proof.name} again"
        for proof in PROOFS
        if proof.name not in written or written[proof.name].version != proof.version
    )
    page = PAGE.read_text(encoding="utf-8")
    if _with_table(page, list(written.values())) != page:
        yield f"the table of {PAGE.name} is not what {TABLE.name} says"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Proof against programs and libraries nobody here wrote.")
    names = [proof.name for proof in PROOFS]
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *names])  # [] is what no name is read as
    parser.add_argument("--ci", action="store_true", help="the quick ones; compare with what is written, write nothing")
    parser.add_argument("--list", action="store_true", help="say what there is, run nothing")
    default = user_cache_path("sora-mcp") / "proofs"
    parser.add_argument("--work", type=Path, default=default, metavar="DIR", help=f"folder to work in ({default})")
    return parser.parse_args()


def _wanted(proof: Proof, arguments: argparse.Namespace) -> bool:
    return proof.name in arguments.names if arguments.names else proof.quick or not arguments.ci


def _prove(proof: Proof, work: Path) -> Row:
    """Run one proof and print its line."""
    began = time.monotonic()
    eras, shown = proof.show(Workshop(work.absolute(), proof.name))
    row = Row(proof.name, proof.title, proof.version, proof.transport, eras, shown)
    sys.stdout.write(f"✓ {' | '.join(row.cells)} ({time.monotonic() - began:.0f} s)\n")
    sys.stdout.flush()
    return row


def _written() -> dict[str, Row]:
    rows = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else []
    return {row["name"]: Row(**row | {"eras": tuple(row["eras"])}) for row in rows}


def _write(rows: list[Row]) -> None:
    text = json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False)
    TABLE.write_text(text + "\n", encoding="utf-8")
    PAGE.write_text(_with_table(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")


def _with_table(page: str, rows: list[Row]) -> str:
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE} lacks {BEGIN.strip()} or {END}")
    return before + begin + _markdown(rows) + end + after


def _markdown(rows: Iterable[Row]) -> str:
    head = ("what", "version", "transport", "protocol", "shown")
    lines = [head, tuple("---" for _ in head), *(row.cells for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
