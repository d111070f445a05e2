"""Every refusal of a replica has its error, and says by its class whether something was executed."""

import pytest

import respraft
from respraft.library.call import error_of
from respraft.replica.batch import Refusal

EXECUTED_PERHAPS = {Refusal.OUTCOME_UNKNOWN, Refusal.REPLY_LOST}


@pytest.mark.parametrize("refusal", Refusal)
def test_each_refusal_is_an_error_that_says_what_became_of_the_command(refusal: Refusal) -> None:
    error = error_of(refusal, None)
    assert isinstance(error, respraft.Error)
    assert isinstance(error, respraft.NotExecuted) == (refusal not in EXECUTED_PERHAPS)
    assert str(error)


def test_errors_say_what_they_know() -> None:
    assert str(respraft.NotLeader(3)) == "this node does not lead; node 3 does"
    assert str(respraft.NotLeader(None)) == "no leader is known"
    assert str(respraft.NoSuchEntry(7, 1, 0)) == "no committed entry 7: this node holds no entries"
    assert str(respraft.NoSuchEntry(7, 2, 5)) == "no committed entry 7: this node holds entries 2 to 5"
