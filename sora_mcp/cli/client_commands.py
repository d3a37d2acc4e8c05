"""`sora-mcp install` and `uninstall`: find the client by name, run the action and print what it did."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from sora_mcp.core.advice import Do
from sora_mcp.core.errors import NotConfigured
from sora_mcp.core.tasks import quoted
from sora_mcp.distribution.install import install, uninstall
from sora_mcp.distribution.install.machine import Machine, installed_launch
from sora_mcp.distribution.manifests.clients import BY_NAME, Client
from sora_mcp.tools.arguments import did_you_mean


def add(name: str, *, dry_run: bool) -> None:
    _run(lambda client: install(client, _current_machine(), installed_launch(), dry_run=dry_run), name)


def remove(name: str, *, dry_run: bool) -> None:
    _run(lambda client: uninstall(client, _current_machine(), dry_run=dry_run), name)


def _current_machine() -> Machine:
    try:
        return Machine(sys.platform, Path.home(), os.environ)
    except RuntimeError:
        raise NotConfigured("The home folder of this user is not known.", Do("Set HOME.")) from None


def _run(action: Callable[[Client], str], name: str) -> None:
    client = BY_NAME.get(name.lower())
    if client is None:
        raise click.UsageError(
            f"There is no client {quoted(name)}{did_you_mean(name, list(BY_NAME))}. Known: {', '.join(BY_NAME)}."
        )
    click.echo(action(client))
