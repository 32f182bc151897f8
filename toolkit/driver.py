# SPDX-License-Identifier: GPL-2.0-only
"""What a driver.toml declares of one driver: hooks, fields, states, causes, words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.event import FLAG, KIND
from toolkit.paths import PROBES

POSTED = "posted receive buffers"
"""What most drivers' queues hold."""

POLLS = "NAPI polls"
"""What is counted as polls of most drivers."""

REFUSED = "refused frames"
"""What a witness counts of most drivers."""

_OWN_KINDS = frozenset(name for name in KIND if name.startswith("own_"))
_OWN_FLAGS = frozenset(name for name in FLAG if name.startswith("own_flag_"))

#: Column of an event -> operator -> value; an event matches when every one of them holds.
Condition = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Hook:
    """A BPF function and the ordered places it may be attached to (``kprobe:function`` …).

    The first place that the kernel has is taken. If the hook is `required`, the kernel has to have one.

    :param tells: the columns of stalls and queues (docs/stalls.md) that are not known without it.
    :param programs: place -> the BPF function that is attached there instead of `program`, where the kernel's
        function has other arguments.
    """

    program: str
    at: tuple[str, ...]
    required: bool
    missing: str
    tells: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)

    def program_at(self, place: str) -> str:
        """Return the BPF function for one of the places."""
        return self.programs.get(place, self.program)


@dataclass(frozen=True)
class Field:
    """A member of a kernel struct, the first of ``of`` that BTF knows; ``OFF_<name>`` in C.

    Its name is the driver's own: another driver may use it for another member. `module` is whose BTF has
    the member, where that is neither the driver's own nor the kernel's.
    """

    name: str
    of: tuple[str, ...]
    required: bool
    module: str = ""


@dataclass(frozen=True)
class Regime:
    """How a failed refill is retried: told by hooks that were attached, and functions that are there."""

    name: str
    hooks: tuple[str, ...]
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Own:
    """A kind of event, or a flag, that only this driver has: its number in event.h, and what it means.

    `silent` says of a kind of event why nothing was heard from its begin to its end, if it tells that.
    """

    name: str
    number: int
    means: str
    silent: str = ""


@dataclass(frozen=True)
class State:
    """An interval of one queue: from an event that matches any of begin to one that matches any of end.

    `means` says in words what the queue is in. If it is `losing`, the NIC takes frames all the same, and
    they are lost: no sender sees it.
    """

    name: str
    begin: tuple[Condition, ...]
    end: tuple[Condition, ...]
    means: str
    losing: bool = False


@dataclass(frozen=True)
class Cause:
    """Why a stall began, told by the event that began it.

    `says` is the sentence, with {posted}; `later` goes on, with {posted_later}, where more was posted when
    the same was said last. `relief` matches an event that shows that what was waited for was there again;
    then `relieved` goes on, with {relieved} in seconds.
    """

    name: str
    when: Condition
    says: str
    later: str = ""
    relief: Condition | None = None
    relieved: str = ""


@dataclass(frozen=True)
class Ring:
    """What a driver.toml without C says of an rx ring: where the members are that tell what is posted.

    Members are ``struct.member``, of the struct that each of the `functions` has as its first argument or
    that `napi` is in, or ``struct.pointer->member``.

    :param functions: of the driver's, called in its polls. Or none, and
    :param napi: the queue's NAPI instance, a member of the struct.
    :param fill: the place of the next buffer; or how many buffers are posted, if there is no `clean`.
    :param clean: the place of the next frame.
    :param count: how many places there are, or `mask`, one less; of neither: fill and clean only grow.
    :param size: of a ring that is full where fill and clean are equal: how many are posted then.
    :param step: the NIC is told of so many buffers at a time, and of `behind` less than that.
    """

    fill: str
    functions: tuple[str, ...] = ()
    napi: str = ""
    clean: str = ""
    count: str = ""
    mask: str = ""
    size: int = 0
    step: int = 0
    behind: int = 0

    @property
    def members(self) -> tuple[str, ...]:
        """The members that there are."""
        return tuple(filter(None, (self.napi, self.fill, self.clean, self.count, self.mask)))


@dataclass(frozen=True)
class Also:
    """A further number of a table of durations: events of a `kind`, or a `column` of the table of queues.

    `says` is a sentence with {count}, which counts what `noun` is a name for.
    """

    noun: str
    says: str
    name: str = ""
    kind: int = 0
    column: str = ""


@dataclass(frozen=True)
class Table:
    """Events of a driver's own as a table: `pair`, two kinds of which one ends what the other began; or
    `lasts`, a kind that has a duration, with `also`.

    `says` is a sentence about pairs; `noun` is a name for one event that lasts.
    """

    name: str
    pair: tuple[int, int] | None = None
    lasts: int = 0
    says: str = ""
    noun: str = ""
    also: tuple[Also, ...] = ()


@dataclass(frozen=True)
class Driver:
    """One driver as its driver.toml describes it.

    :param rings: where an rx queue has several rings of buffers, what each is called; each is a queue.
    :param netif: of a driver that binds no network device, the files (a pattern) that name what it uses.
    :param rx: what comes before the number of a queue.
    :param posted: what is counted as posted.
    :param polls: what is counted as polls.
    :param refused: what a witness counts as refused.
    :param unknown: the columns of stalls and queues (docs/stalls.md) that nobody can tell of it.
    :param does: what a queue does when it is not stalled, and `deaf`, what it is when it is.
    :param ring: of a driver without C: its rx ring.
    :param like: of a driver without C: the driver whose probes it uses.
    :param ring_states: states of drivers that are like this one, which their rings tell.
    """

    name: str
    module: str
    title: str
    queue: str
    poll: str
    directory: Path
    hooks: tuple[Hook, ...]
    fields: tuple[Field, ...]
    regimes: tuple[Regime, ...]
    states: tuple[State, ...]
    events: tuple[Own, ...] = ()
    flags: tuple[Own, ...] = ()
    causes: tuple[Cause, ...] = ()
    tables: tuple[Table, ...] = ()
    rings: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    netif: str = ""
    rx: str = "rx"
    posted: str = POSTED
    polls: str = POLLS
    refused: str = REFUSED
    does: str = "receives"
    deaf: str = "deaf"
    ring: Ring | None = None
    like: str = ""
    ring_states: tuple[State, ...] = ()

    @property
    def by_napi(self) -> bool:
        """Whether NAPI polls its rx queues. Its poll function may be for the other direction alone."""
        return bool(self.poll) and self.polls == POLLS

    @property
    def of_any(self) -> bool:
        """Whether these probes are for NICs of any driver, and not of one."""
        return not self.module

    @property
    def by_polls(self) -> bool:
        """Whether these are the probes for NICs of any driver, maybe with a ring declared."""
        return self.of_any or self.ring is not None

    @property
    def ring_hooks(self) -> tuple[Hook, ...]:
        """The hooks at which the ring is seen; one that is in BTF only, where its NAPI instance tells."""
        if not self.ring:
            return ()
        if self.ring.napi:
            place = f"btf:{self.ring.napi}"
            return (Hook("ring", (place,), required=False, missing="what is posted", tells=("posted_min",)),)
        return tuple(
            Hook(
                f"{self.like}_ring",
                # In a kernel that has the driver built in, the function is of no module.
                (f"kprobe:{self.module}:{function}", f"kprobe:{function}"),
                required=False,
                missing=f"what is posted where {self.module} calls {function}",
                # The others are for rings of other sizes.
                tells=("posted_min",) if function == self.ring.functions[0] else (),
            )
            for function in self.ring.functions
        )

    @property
    def source(self) -> Path:
        """Its C text."""
        return (PROBES / self.like if self.like else self.directory) / "probe.c"

    @property
    def kinds(self) -> dict[str, int]:
        """The kinds of events that this driver sends, by name: those of event.h and its own."""
        own = {event.name: event.number for event in self.events}
        return {name: number for name, number in KIND.items() if name not in _OWN_KINDS} | own

    @property
    def flag_bits(self) -> dict[str, int]:
        """The flags of its events, by name: those of event.h and its own."""
        own = {flag.name: flag.number for flag in self.flags}
        return {name: bit for name, bit in FLAG.items() if name not in _OWN_FLAGS} | own

    def queues_of(self, rx: int) -> range:
        """Return the numbers of the queues that an rx queue of the device has, one for each ring."""
        rings = len(self.rings) or 1
        return range(rx * rings, (rx + 1) * rings)

    def queue_name(self, number: int) -> str:
        """Return what a queue is called: its rx queue, as sysfs has it, and which of its rings it is."""
        rx, ring = divmod(number, len(self.rings) or 1)
        return f"{self.rx}-{rx} {self.rings[ring]}" if self.rings else f"{self.rx}-{rx}"

    def queue_label(self, number: int) -> str:
        """Return what a queue is called in a sentence: by its number, where it is just an rx queue."""
        return self.queue_name(number) if self.rings or self.rx != "rx" else f"queue {number}"
