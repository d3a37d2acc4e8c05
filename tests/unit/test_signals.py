"""Ctrl-C while a command's tasks are ended."""

from __future__ import annotations

import signal

import anyio
import pytest

from sora_mcp.runtime.signals import run


def test_a_second_ctrl_c_while_the_first_is_tidied_up_after_is_no_group_of_errors() -> None:
    async def work() -> None:
        async with anyio.create_task_group():
            try:
                signal.raise_signal(signal.SIGINT)
                await anyio.sleep_forever()
            finally:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(work)


def test_other_errors_come_out_as_they_are() -> None:
    async def work() -> None:
        async with anyio.create_task_group():
            raise LookupError

    with pytest.raises(ExceptionGroup):
        run(work)
