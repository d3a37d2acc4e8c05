"""All generated files: written, or compared with what is there."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from sora_mcp import dialects, toolkit, tools
from sora_mcp.config.endpoint import UPSTREAMS, VIDEOS
from sora_mcp.config.settings import load
from sora_mcp.config.variables import variables
from sora_mcp.core.advice import Do
from sora_mcp.core.capabilities import OPERATIONS, Capabilities
from sora_mcp.core.errors import FileProblem
from sora_mcp.dialects.videos import PROFILES, Videos
from sora_mcp.distribution.manifests import bundles, clients
from sora_mcp.distribution.manifests.formats import difference, to_json
from sora_mcp.distribution.manifests.registry import server_json

_PICTURES = {"demo.png", "demo.webp"}
"""Kept in the folder for README; made by the demo, not here."""


class Drift(Struct, frozen=True):
    """A file that is not what the code says, and where it differs."""

    path: Path
    where: str

    def __str__(self) -> str:
        return f"{self.path}: {self.where}"


def write(folder: Path) -> None:
    """Write every generated file: into `folder`, and the tables into the pages beside it."""
    try:
        for path, text in _generated(folder).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise FileProblem(
            f"{folder} cannot be written: {error.strerror}.", Do("Name another folder with --out.")
        ) from None


def drift(folder: Path) -> list[Drift]:
    """What differs from what the code says: changed, missing and unreadable files, and files that nothing generates."""
    generated = _generated(folder)
    drifts = [Drift(path, _where(path, text)) for path, text in generated.items()]
    known = {folder / name for name in _PICTURES} | set(generated)
    present = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    strays = [path for path in present if path not in known]
    return [each for each in drifts if each.where] + [Drift(path, "nothing generates it; delete it") for path in strays]


def _where(path: Path, text: str) -> str:
    try:
        return difference(path.suffix, text, path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        return "it is missing"
    except (OSError, UnicodeDecodeError):
        return "it cannot be read"


def _generated(folder: Path) -> dict[Path, str]:
    files = {folder / name: text for name, text in _files().items()}
    project = folder.absolute().parent
    package = project / "sora_mcp" / "tools"
    if package.is_dir():  # what the shell's options are made from, without loading the tools
        files[package / "surface.json"] = to_json(tools.listing())
        files[project / "docs" / "upstreams.md"] = _upstreams_page()
        for page, name, table in (
            ("README.md", "tools", _tool_table()),
            ("docs/settings.md", "settings", _settings_table()),
        ):
            files[project / page] = _with_table(project / page, name, table)
    return files


def _read(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise FileProblem(
            f"{page} is missing or cannot be read as UTF-8.", Do("Put it back; run this again.")
        ) from None


def _files() -> dict[str, str]:
    """Every generated file by its path in the folder."""
    return {
        "server.json": to_json(server_json()),
        ".mcp.json": clients.BY_NAME["claude-code"].published(),
        **{f"tools/{name}.json": to_json(declarations) for name, declarations in _declarations().items()},
        **bundles.files(),
        **{f"clients/{client.name}.{client.format}": client.published() for client in clients.CLIENTS},
        "clients/links.json": to_json(clients.links()),
    }


def _declarations() -> dict[str, list[dict[str, object]]]:
    """The tools for agents that call functions instead of speaking MCP."""
    return {
        "openai-responses": toolkit.openai_responses(),
        "openai-chat": toolkit.openai_chat(),
        "anthropic": toolkit.anthropic(),
        "gemini": toolkit.gemini(),
    }


def _with_table(page: Path, name: str, table: str) -> str:
    """The page with this table between the two lines that mark its place."""
    begin, end = f"<!-- {name}: generated -->\n", f"<!-- /{name} -->"
    before, _, rest = _read(page).partition(begin)
    _, marker, after = rest.partition(end)
    if not marker:
        raise FileProblem(f"{page} lacks {begin.strip()} or {end}.", Do("Put both lines where the table is to be."))
    return before + begin + table + end + after


def _tool_table() -> str:
    rows = [f"| `{tool.name}` | {'yes' if tool.paid else 'no'} | {tool.summary} |\n" for tool in tools.TOOLS]
    return "| tool | costs | what it does |\n|---|---|---|\n" + "".join(rows)


def _settings_table() -> str:
    rows = [f"| `{v.name}` | {f'`{v.default}`' if v.default else ''} | {v.description} |\n" for v in variables()]
    return "| variable | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _upstreams_page() -> str:
    """What each kind of upstream can do, as its dialect says it, and what is to be known of them."""
    settings = load({}, model="MODEL")
    rows = [_upstream_row(f"`{name}`", dialects.named(name, settings).capabilities) for name in UPSTREAMS]
    rows += _model_rows()
    head = "| `SORA_DIALECT` | create | storyboard | remix | blend | images | variants | lengths | jobs | prices |\n"
    table = head + "|---" * 10 + "|\n" + "".join(rows)
    page = Path(__file__).with_name("upstreams.md").read_text(encoding="utf-8")
    return page.replace("TABLE\n", table)


def _model_rows() -> list[str]:
    """The models with which a kind of server can do more, or less, than with others."""
    rows = []
    for profile in PROFILES.values():
        able = [each.words[0] for each in profile.models if each.takes_last_image]
        for words in (*((word,) for word in (*profile.video_models, *able)), profile.no_video_models):
            if words:
                capabilities = Videos(profile, words[0]).capabilities
                rule = "the model's" if len(words) > 1 else capabilities.frame_rule
                label = f"`{VIDEOS}:{profile.name}`, model with {', '.join(f'`{word}`' for word in words)}"
                rows.append(_upstream_row(label, replace(capabilities, frame_rule=rule)))
    return rows


def _upstream_row(label: str, capabilities: Capabilities) -> str:
    operations = [capabilities.support(each).replace("_", " ") for each in OPERATIONS]
    images = {"any": "at any frame", "first": "first frame", "first_and_last": "first and last frame", "none": "none"}
    images |= {"references": "as references"}
    jobs = [
        "kept" if capabilities.outlive_restart else "in memory",
        *(["listed"] if capabilities.can_list else []),
        *(["can be stopped"] if capabilities.can_stop else []),
    ]
    cells = [
        label,
        *operations,
        images[capabilities.images],
        f"up to {capabilities.max_variants}" if capabilities.max_variants > 1 else "1",
        capabilities.frame_rule or ", ".join(f"{frames} frames" for frames in capabilities.lengths),
        ", ".join(jobs),
        capabilities.unit if capabilities.has_prices else "not known",
    ]
    return f"| {' | '.join(cells)} |\n"
