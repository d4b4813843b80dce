"""Sequences of rows as words of a finite automaton, to count networks exactly and to find their genes.

A space may describe one network in several ways: by a skipped block or a smaller repeat, or by two widths that round to
the same channels. Seen as a non-deterministic automaton whose words are row sequences, a space has as many distinct
networks as words. The subset construction counts them; the first accepting path gives the genes of a network.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from nas.arch.genes import every
from nas.arch.stage import Stage

State = Hashable
Genes = dict[str, Any]


class Automaton(Protocol):
    """An acyclic automaton. Moves of `free` read no symbol; those of `step` read one."""

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


class Completions:
    """The determinised automaton, and how many words go on from each of its states. State 0 is the start."""

    def __init__(self, automaton: Automaton) -> None:
        self._automaton = automaton
        start = _closure(automaton, {automaton.start})
        self._numbers: dict[frozenset[State], int] = {start: 0}
        self._moves: list[list[tuple[Hashable, int]]] = []
        todo = [start]
        while todo:
            states = todo.pop(0)
            moves = []
            for symbol, reached in self._targets(states).items():
                if reached not in self._numbers:
                    self._numbers[reached] = len(self._numbers)
                    todo.append(reached)
                moves.append((symbol, self._numbers[reached]))
            self._moves.append(moves)
        self._ends = [automaton.end in states for states in self._numbers]
        self._words: dict[int, int] = {}
        self._choices: dict[int, tuple[list[Hashable], list[int], list[float]]] = {}

    def of(self, state: int) -> tuple[list[Hashable], list[int], list[float]]:
        """The symbols that may follow a state, the states after them, and the shares of the words that go on so. The
        end of a word is the symbol None and leads to state -1."""
        if state not in self._choices:
            ways = [(symbol, target, self.count(target)) for symbol, target in self._moves[state]]
            if self._ends[state]:
                ways.append((None, -1, 1))
            symbols, targets, counts = zip(*ways, strict=True)
            total = sum(counts)
            self._choices[state] = list(symbols), list(targets), [count / total for count in counts]
        return self._choices[state]

    def _targets(self, states: frozenset[State]) -> dict[Hashable, frozenset[State]]:
        targets: dict[Hashable, set[State]] = {}
        for state in states:
            for symbol, (target, _) in self._automaton.step(state).items():
                targets.setdefault(symbol, set()).add(target)
        return {symbol: _closure(self._automaton, reached) for symbol, reached in targets.items()}

    def count(self, state: int) -> int:
        """The exact number of words that go on from a state; from 0, of all words."""
        if state not in self._words:
            further = sum(self.count(target) for _, target in self._moves[state])
            self._words[state] = further + int(self._ends[state])
        return self._words[state]


def read_word(automaton: Automaton, word: Sequence[Hashable]) -> tuple[Genes | None, int]:
    """The genes along the first accepting path for `word`, and the largest number of its symbols that could be read.

    The genes are None if no path accepts the word. Equal words give equal genes.
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


class RowAutomaton:
    """The automaton of a space's row sequences. Its states are ``(width, stage)`` between stages and ``(width, stage,
    shared cells, blocks so far)`` inside a stage."""

    def __init__(self, stages: Sequence[Stage], widths: Sequence[float]) -> None:
        self._stages, self._widths = stages, widths
        self._settled = [[(chosen, made) for _, chosen, made in every(stage.settle)] for stage in stages]
        self._moves: dict[Any, tuple[list[Any], dict[Any, Any]]] = {}
        self.start: Any = "start"
        self.end: Any = "end"

    def free(self, state: Any) -> list[tuple[Any, dict[str, Any]]]:
        return self._of(state)[0]

    def step(self, state: Any) -> dict[Any, tuple[Any, dict[str, Any]]]:
        return self._of(state)[1]

    def _of(self, state: Any) -> tuple[list[Any], dict[Any, Any]]:
        if state not in self._moves:
            self._moves[state] = self._compute(state)
        return self._moves[state]

    def _compute(self, state: Any) -> tuple[list[Any], dict[Any, Any]]:
        if state == self.end:
            return [], {}
        if state == self.start:
            return [((width, 0), {"width": width}) for width in self._widths], {}
        width, at, *inside = state
        if at == len(self._stages):
            return [(self.end, {})], {}
        stage = self._stages[at]
        repeat = f"{stage.name}.repeat"
        free: list[Any]
        if not inside:
            free = [((width, at, i, 0), chosen) for i, (chosen, _) in enumerate(self._settled[at])]
            return free + ([((width, at + 1), {repeat: 0})] if 0 in stage.repeat else []), {}
        settled, done = inside
        free = [((width, at + 1), {repeat: done})] if done and done in stage.repeat else []
        steps: dict[Any, Any] = {}
        if done < max(stage.repeat):
            following = (width, at, settled, done + 1)
            made = self._settled[at][settled][1]
            for _, chosen, block in every(lambda choose: stage.block(done, made, width, choose)):
                if block is None:
                    free.append((following, chosen))
                else:
                    steps.setdefault(block, (following, chosen))
        return free, steps
