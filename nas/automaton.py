"""Sequences of rows as the words of a finite automaton: exact counting and reading back.

A space may spell one network in several ways (a skipped block or a smaller repeat; a width that rounds to the same
channels). Seen as a non-deterministic automaton whose words are row sequences, its distinct networks are its distinct
words: counted by the subset construction, read back by the first accepting path.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

State = Hashable
Genes = dict[str, Any]


class Automaton(Protocol):
    """An acyclic automaton; `free` moves read no row."""

    start: State
    end: State

    def free(self, state: State) -> Sequence[tuple[State, Genes]]: ...

    def step(self, state: State) -> Mapping[Hashable, tuple[State, Genes]]: ...


def _closure(automaton: Automaton, states: set[State]) -> frozenset[State]:
    todo = list(states)
    while todo:
        for target, _ in automaton.free(todo.pop()):
            if target not in states:
                states.add(target)
                todo.append(target)
    return frozenset(states)


def count_words(automaton: Automaton) -> int:
    """The number of distinct words, exact: words of each length are counted along the determinised automaton."""
    level = {_closure(automaton, {automaton.start}): 1}
    total = 0
    while level:
        following: dict[frozenset[State], int] = {}
        for states, words in level.items():
            total += words if automaton.end in states else 0
            targets: dict[Hashable, set[State]] = {}
            for state in states:
                for symbol, (target, _) in automaton.step(state).items():
                    targets.setdefault(symbol, set()).add(target)
            ways: dict[frozenset[State], int] = {}
            for reached in map(frozenset, targets.values()):
                ways[reached] = ways.get(reached, 0) + 1
            for reached, symbols in ways.items():
                closed = _closure(automaton, set(reached))
                following[closed] = following.get(closed, 0) + words * symbols
        level = following
    return total


def read_word(automaton: Automaton, word: Sequence[Hashable]) -> tuple[Genes | None, int]:
    """The genes along the first accepting path for `word`, and how many of its symbols could be read at most.

    The genes are None if no path accepts. Equal words give equal genes.
    """
    came_from: dict[tuple[State, int], tuple[tuple[State, int], Genes] | None] = {(automaton.start, 0): None}
    todo: list[tuple[State, int]] = [(automaton.start, 0)]
    furthest = 0
    while todo:
        at = todo.pop()
        state, position = at
        furthest = max(furthest, position)
        if state == automaton.end and position == len(word):
            genes: Genes = {}
            link = came_from[at]
            while link is not None:
                at, chosen = link
                genes |= chosen
                link = came_from[at]
            return genes, position
        moves = [((target, position), chosen) for target, chosen in automaton.free(state)]
        if position < len(word) and (step := automaton.step(state).get(word[position])):
            moves.append(((step[0], position + 1), step[1]))
        for target, chosen in reversed(moves):
            if target not in came_from:
                came_from[target] = (at, chosen)
                todo.append(target)
    return None, furthest
