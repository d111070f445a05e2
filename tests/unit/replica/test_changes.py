"""What actions on the membership come to, beyond what `test_membership.py` sees happen."""

from respraft.raft.configuration import Configuration, Member
from respraft.replica.changes import AddMember, wanted_members


def member(node_id: int, address: str, incarnation: int = 0) -> Member:
    return Member(node_id, f"{address}:1", f"{address}:2", incarnation or node_id, voter=True)


def test_a_node_that_comes_in_anothers_place_takes_its_address_from_whoever_has_it() -> None:
    """Node 3 was replaced by node 4 before, which lost its disk, too; the file still says 3."""
    before = Configuration((member(1, "a"), member(2, "b"), member(4, "c")))
    wanted = wanted_members(before, AddMember(member(5, "c", 55), replaces=3))
    assert wanted == (member(1, "a"), member(2, "b"), member(5, "c", 55))


def test_nobody_else_takes_an_address() -> None:
    """Both stay in the list, and the core refuses it."""
    before = Configuration((member(1, "a"), member(2, "b")))
    assert [each.id for each in wanted_members(before, AddMember(member(5, "b", 55)))] == [1, 2, 5]
