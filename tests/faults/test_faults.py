"""Whatever breaks, whenever it breaks: one accepted POST at most, and never a no where the gateway had said yes."""

from __future__ import annotations

import anyio
import pytest
from faults import PAGE, Case, Seen, cases_of, differing, measure_every_dialect, table

from sora_mcp.dialects import DIALECTS

AGREES = {
    "accepted": {"submitted"},
    "unknown": {"unknown"},
    "rejected": {"rejected"},
    "not_submitted": {"rejected", "no row"},
}
"""What stands in the ledger after each outcome."""


# asyncio leaves a socket to the collector where a TLS handshake is cancelled, as that of the look at the models is
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*unclosed transport", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[Case, Seen]]:
    return anyio.run(measure_every_dialect)


@pytest.mark.parametrize(
    ("dialect", "case"),
    [(dialect, case) for dialect in DIALECTS for case in cases_of(dialect)],
    ids=lambda it: f"{it.moment}-{it.fault}" if isinstance(it, Case) else it,
)
def test_a_create_that_breaks_is_accepted_once_at_most_and_told_as_it_is(
    dialect: str, case: Case, measured: dict[str, dict[Case, Seen]]
) -> None:
    seen = measured[dialect][case]
    assert seen.accepted <= 1
    assert seen.recorded in AGREES[seen.told]
    if seen.accepted:
        assert seen.told in {"accepted", "unknown"}
    else:
        assert seen.told != "accepted"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_in_other_words_the_same_faults_come_to_the_same(dialect: str, measured: dict[str, dict[Case, Seen]]) -> None:
    assert differing(measured, dialect) == {}


def test_the_page_says_what_was_measured(measured: dict[str, dict[Case, Seen]]) -> None:
    assert PAGE.read_text(encoding="utf-8") == table(measured), "python tests/support/faults.py writes it anew"
