"""With all rules kept nothing goes wrong in any small world; with one left out something does."""

from collections import Counter
from functools import cache

import pytest

from tests.protocol.rules import Without
from tests.protocol.search import Report
from tests.protocol.values import At
from tests.protocol.worlds import (
    COPIED,
    COPIED_AND_CUT,
    CUT,
    FAILURES,
    LOSSES,
    LOSSES_AFTER_CUT,
    LOST_TIP,
    PACKS,
    READ_AND_CUT,
    SETTINGS,
    SHARED,
    Setting,
)

FOUND_IN = {
    Without.L1_RESOLVED: SHARED,
    Without.L1_BLIND: SHARED,
    Without.L2_INTENT: SHARED,
    Without.L2_IDENTITY: FAILURES,
    Without.L2_BYTES: SHARED,
    Without.L2_HASH: COPIED,
    Without.L3_PACKS: PACKS,
    Without.L3_REBASE: SHARED,
    Without.L3_UNKNOWN: SHARED,
    Without.L3_REFUSED: SHARED,
    Without.L3_HEAD: CUT,
    Without.L3_LANDED: CUT,
    Without.L3_VOID: CUT,
    Without.L4_HEAD: CUT,
    Without.L4_AFTER: READ_AND_CUT,
    Without.L4_CHAIN: LOST_TIP,
    Without.L4_STALE: CUT,
    Without.L4_TIP: CUT,
    Without.L5_VOLUME: LOSSES,
    Without.L5_HEAD: LOSSES_AFTER_CUT,
    Without.L5_HOLE: LOSSES,
    Without.L5_LISTED: LOSSES,
    Without.L5_FAILURE: FAILURES,
    Without.L6_FORGET: SHARED,
    Without.L6_ORDER: SHARED,
    Without.L6_BASE: SHARED,
    Without.L6_COPY: COPIED,
    Without.L6_FIRST: COPIED,
    Without.L6_NUMBERS: COPIED,
}

OTHER_MOVES = {
    "takes a write",
    "looks for news",
    "is killed",
    "is killed, its tree lost",
    "is copied",
    "a put arrives",
    "writes a checkpoint",
    "raises the floor",
    "removes slots",
    "removes a slot",
    "removes the last slot",
    "removes volume",
    "removes head",
}


@cache
def explored(setting: Setting) -> Report:
    return setting.explore()


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_nothing_goes_wrong_while_all_rules_are_kept(setting: Setting) -> None:
    """Somewhere among all that may happen between two steps, work would be lost or done twice."""
    report = explored(setting)
    assert report.is_sound, str(report.broken)


@pytest.mark.slow
@pytest.mark.parametrize("without", FOUND_IN, ids=lambda without: without.name)
def test_without_any_one_rule_something_goes_wrong(without: Without) -> None:
    """A rule that nothing needs costs requests; a search that misses its loss proves nothing."""
    report = FOUND_IN[without].explore(without)
    assert not report.is_sound, without.value


def test_every_rule_is_left_out_once() -> None:
    """A mechanism that nobody takes out may be gone already."""
    assert FOUND_IN.keys() == set(Without) - {Without.NOTHING}
    assert {without.rule for without in FOUND_IN} == {"L1", "L2", "L3", "L4", "L5", "L6"}


@pytest.mark.slow
def test_everything_that_can_happen_does() -> None:
    """A step that is never taken is not shown to be safe."""
    taken: Counter[tuple[str, str]] = Counter()
    for setting in SETTINGS:
        taken += explored(setting).taken
    steps = {what for what, _ in taken}
    assert steps == {str(at) for at in At if at not in (At.IDLE, At.STOPPED)} | OTHER_MOVES
    answers = {answer for what, answer in taken if what == At.PUT}
    assert answers == {"stored", "refused", "on its way, no answer", "stored, and again later"}
    assert {(At.LOAD, answer) for answer in ("there", "gone", "a copy")} <= taken.keys()
    assert {(At.VERIFY, answer) for answer in ("landed", "taken", "overtaken")} <= taken.keys()
    assert {(At.PEEK, answer) for answer in ("mine", "other", "absent")} <= taken.keys()


def test_the_bounds_are_those_that_were_meant() -> None:
    """A world that shrinks by mistake finds nothing, and looks as sound as before."""
    assert explored(PACKS).states > 1_000
    assert explored(COPIED_AND_CUT).depth > 60
