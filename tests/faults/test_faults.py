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


# asyncio leaves a socket to the collector where a TLS handshake is cancelled, as that of the look at the models is
@pytest.mark.filterwarnings("ignore:.*unclosed transport", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("dialect", ["videos:vllm-omni", "videos:generic"])
def test_in_other_words_the_same_faults_come_to_the_same(dialect: str, measured: dict[Case, Seen]) -> None:
    """In the other dialects as well: accepted once at most, told as it is, and never called a no."""
    others = anyio.run(measure_all, dialect)
    for case, seen in others.items():
        assert seen.accepted <= 1, case
        assert seen.recorded in AGREES[seen.told], case
        assert (seen.told in {"accepted", "unknown"}) if seen.accepted else (seen.told != "accepted"), case
    differing = {
        f"{c.moment}: {c.fault}": (s.told, measured[c].told) for c, s in others.items() if s.told != measured[c].told
    }
    assert differing == {}


def test_the_page_says_what_was_measured(measured: dict[Case, Seen]) -> None:
    assert PAGE.read_text(encoding="utf-8") == table(measured), "python tests/support/faults.py writes it anew"
