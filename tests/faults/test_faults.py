"""Whatever breaks, whenever it breaks: one accepted POST at most, and never a no where the gateway had said yes."""

from __future__ import annotations

import anyio
import pytest
from faults import CASES, PAGE, Case, Seen, measure_all, table

AGREES = {
    "accepted": {"submitted"},
    "unknown": {"unknown"},
    "rejected": {"rejected"},
    "not_submitted": {"rejected", "no row"},
}
"""What stands in the ledger after each outcome."""


@pytest.fixture(scope="module")
def measured() -> dict[Case, Seen]:
    return anyio.run(measure_all)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.moment}-{case.fault}")
def test_a_create_that_breaks_is_accepted_once_at_most_and_told_as_it_is(
    case: Case, measured: dict[Case, Seen]
) -> None:
    seen = measured[case]
    assert seen.accepted <= 1
    assert seen.recorded in AGREES[seen.told]
    if seen.accepted:
        assert seen.told in {"accepted", "unknown"}
    else:
        assert seen.told != "accepted"


def test_the_page_says_what_was_measured(measured: dict[Case, Seen]) -> None:
    assert PAGE.read_text(encoding="utf-8") == table(measured), "python tests/support/faults.py writes it anew"
