"""How many pieces of work go on at once, and which is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from langgraph_temporal_exec.protocol.messages import RunPriority
from langgraph_temporal_exec.worker.slots import Slot, Slots


def test_no_more_than_the_limit() -> None:
    slots = Slots(2)
    first, second, third = (slots.ask() for _ in range(3))
    assert [s.granted.done() for s in (first, second, third)] == [True, True, False]
    assert slots.waiting == 1
    second.give_back()
    second.give_back()
    assert third.granted.done()
    third.give_back()
    first.give_back()
    assert slots.ask().granted.done()


def test_no_limit() -> None:
    slots = Slots(None)
    assert all(slots.ask().granted.done() for _ in range(1000))


def test_a_claim_that_is_withdrawn_is_passed_over() -> None:
    slots = Slots(1)
    first, second, third = (slots.ask() for _ in range(3))
    second.give_back()
    assert second.granted.cancelled()
    first.give_back()
    assert third.granted.done()


def test_the_urgent_first_then_in_order() -> None:
    slots = Slots(1)
    held = slots.ask()
    asked = {
        name: slots.ask(priority)
        for name, priority in {
            "normal": None,
            "batch": RunPriority(key=5),
            "urgent": RunPriority(key=1),
            "as normal": RunPriority(key=3),
            "late urgent": RunPriority(key=1),
        }.items()
    }
    assert _order(held, asked) == ["urgent", "late urgent", "normal", "as normal", "batch"]


def test_keys_of_fairness_take_turns() -> None:
    slots = Slots(1)
    held = slots.ask()
    asked = {f"flood {i}": slots.ask(RunPriority(fairness_key="flood")) for i in range(4)}
    asked |= {f"other {i}": slots.ask(RunPriority(fairness_key="other")) for i in range(2)}
    assert _order(held, asked) == [
        *("flood 0", "other 0", "flood 1", "other 1", "flood 2", "flood 3"),
    ]


def test_a_key_of_twice_the_weight_gets_twice_the_turns() -> None:
    slots = Slots(1)
    held = slots.ask()
    heavy = RunPriority(fairness_key="heavy", fairness_weight=2.0)
    asked = {f"heavy {i}": slots.ask(heavy) for i in range(4)}
    asked |= {f"light {i}": slots.ask(RunPriority(fairness_key="light")) for i in range(4)}
    order = _order(held, asked)
    assert sum(name.startswith("heavy") for name in order[:6]) == 4


def test_a_parent_lends_its_slot() -> None:
    slots = Slots(1)
    parent = slots.ask()
    child = slots.ask(within=parent)
    grandchild = slots.ask(within=child)
    assert grandchild.granted.done()
    assert [s.has for s in (parent, child, grandchild)] == [False, False, True]
    other = slots.ask()
    grandchild.give_back()
    assert child.has
    sibling = slots.ask(within=child)
    assert sibling.granted.done()
    sibling.give_back()
    child.give_back()
    # It goes on without waiting; only then it is another one's turn.
    assert parent.has
    assert not other.granted.done()
    parent.give_back()
    assert other.granted.done()


def test_children_beyond_the_first_wait_like_all_others() -> None:
    slots = Slots(2)
    parent = slots.ask()
    children = [slots.ask(within=parent) for _ in range(3)]
    assert [c.granted.done() for c in children] == [True, True, False]
    other = slots.ask()
    # The family works on with the second one: what the first had is free for all.
    children[0].give_back()
    assert children[2].granted.done()
    children[1].give_back()
    assert other.granted.done()
    children[2].give_back()
    assert parent.has


def test_a_node_that_leaves_its_graph_behind() -> None:
    slots = Slots(1)
    grandparent = slots.ask()
    parent = slots.ask(within=grandparent)
    child = slots.ask(within=parent)
    parent.give_back()
    assert child.has
    assert child.within is grandparent
    late = slots.ask(within=parent)
    assert late.within is grandparent
    child.give_back()
    assert late.granted.done()
    late.give_back()
    assert grandparent.has


@given(st.integers(1, 3), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_work_always_goes_on(limit: int, choices: list[tuple[int, int]]) -> None:
    """Whatever asks for what: never more than the limit, and somebody who works while one waits."""
    slots = Slots(limit)
    claims: list[Slot] = []
    for what, which in choices:
        # Work ends, and asks for more, only while it is done; what waits may be withdrawn.
        able = [s for s in claims if not s.ended and not (s.started and s.children)]
        if what % 3 == 0 and able:
            able[which % len(able)].give_back()
        elif what % 3 == 1 and (parents := [s for s in claims if s.started and not s.ended]):
            claims.append(slots.ask(within=parents[which % len(parents)]))
        else:
            claims.append(slots.ask())
        _check(slots, claims, limit)
    while left := [s for s in claims if s.started and not s.ended and not s.children]:
        left[-1].give_back()
        _check(slots, claims, limit)
    assert all(s.ended for s in claims)
    assert all(slots.ask().started for _ in range(limit))


def _check(slots: Slots, claims: list[Slot], limit: int) -> None:
    having = [s for s in claims if s.has]
    assert len(having) <= limit
    waits = [s for s in claims if not s.started and not s.ended]
    assert len(waits) == slots.waiting
    assert not waits or len(having) == limit
    # Nobody has a slot who waits for others that have none.
    assert not any(s.children for s in having)


def _order(held: Slot, asked: dict[str, Slot]) -> list[str]:
    order: list[str] = []
    while len(order) < len(asked):
        held.give_back()
        (name,) = (n for n, s in asked.items() if s.started and n not in order)
        order.append(name)
        held = asked[name]
    return order


def test_work_does_without_its_slot_while_part_of_it_is_elsewhere() -> None:
    """Whoever does that part may need the slot, and finds it free: here, or after others."""
    slots = Slots(1)
    parent = slots.ask()
    first, second = slots.lend(parent), slots.lend(parent)
    guest = slots.ask()
    assert guest.started
    assert not first.ask_back(None).started
    guest.give_back()
    # Its other part is still elsewhere, so what came back is for all once more.
    first.end()
    other = slots.ask()
    assert other.started
    back = second.ask_back(None)
    assert not back.started
    other.give_back()
    assert back.started
    second.end()
    assert parent.has
    waits = slots.ask()
    parent.give_back()
    assert waits.started


def test_a_slot_that_is_not_asked_back_is_lost_to_nobody() -> None:
    slots = Slots(1)
    parent = slots.ask()
    slots.lend(parent).end()
    guest = slots.ask()
    assert guest.started
    parent.give_back()
    guest.give_back()
    assert slots.ask().started
