"""The chain of records by which one cluster's traffic went on, and where it leads.

Records carry no time. What orders them across specialists is ``expected_previous``: every record that starts, changes
or ends serving, and every one that clears a hold, names the digest of the one before it in its cluster, so that they
form one chain and two that were prepared against the same past collide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress, count, takewhile
from operator import is_, is_not
from typing import Any, NamedTuple, cast

from modelsmith.governance.hold import Hold, fold_hold, hold_refusal
from modelsmith.governance.states import SERVING_STATES, Link, SpecialistHistory
from modelsmith.schema.base import Event, State
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import PromotionRecord


class _Link(NamedTuple):
    record: Link
    """What is asked of the record; the record itself would stay in memory as long as the chain does."""
    digest: str


class Standing(NamedTuple):
    """Where one specialist stands after the whole chain."""

    state: State
    at: int
    """Position in the chain of the record that put it into this state."""
    deployed: int
    """Position in the chain of the deployment that it serves under."""
    validated: int
    """Position of its validation, -1 when not validated."""


@dataclass(frozen=True)
class RoutingChain:
    """One cluster's routing chain, oldest link first, and where it leads."""

    links: tuple[_Link, ...] | _KeptLinks = ()
    hold: Hold | None = None
    standings: dict[str, Standing] = field(default_factory=dict)
    """Each specialist that is in a serving state, in the order of the records that put them there."""
    sequences: Mapping[str, int] = field(default_factory=dict)
    """The last sequence of each specialist in the chain."""

    @property
    def last(self) -> str | None:
        """Digest of the last link."""
        return self.links[-1].digest if self.links else None

    @cached_property
    def validated(self) -> Standing | None:
        """The specialist that was validated last among those whose validation still stands."""
        return next((standing for standing in reversed(self.standings.values()) if standing.validated >= 0), None)

    @cached_property
    def watched(self) -> Standing | None:
        """The specialist that was deployed last, if after the validated one was, and is not validated yet."""
        since = self.validated.deployed if self.validated else -1
        later = takewhile(lambda standing: standing.at > since, reversed(self.standings.values()))
        deployed = (
            standing for standing in later if standing.state == "customer-deployed" and standing.deployed > since
        )
        return max(deployed, key=lambda standing: standing.deployed, default=None)


class _KeptLinks:
    """Links of a chain as they are kept: columns of words, which are read when somebody asks for a link."""

    def __init__(self, cluster: str, columns: Sequence[str], later: tuple[_Link, ...] = ()) -> None:
        """``columns``: specialists, sequences, events, states, artifacts and digests, with a space between two."""
        self._cluster, self.columns, self._later = cluster, columns, later
        self._count = columns[-1].count(" ") + 1

    def followed_by(self, links: Sequence[_Link]) -> _KeptLinks:
        """These and more."""
        return _KeptLinks(self._cluster, self.columns, (*self._later, *links))

    @cached_property
    def _words(self) -> list[list[str]]:
        return [column.split(" ") for column in self.columns]

    def __len__(self) -> int:
        return self._count + len(self._later)

    def __iter__(self) -> Iterator[_Link]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> _Link:
        index = range(len(self))[at]
        if index >= self._count:
            return self._later[index - self._count]
        if index == self._count - 1 and "_words" not in self.__dict__:
            words = [column.rsplit(" ", 2) for column in self.columns]  # the last link is asked for most
            return self._link(words, -1, words[-1][-2] if self._count > 1 else None)
        return self._link(self._words, index, self._words[-1][index - 1] if index else None)

    def _link(self, words: Sequence[Sequence[str]], at: int, previous: str | None) -> _Link:
        specialist, sequence, event, state, artifact, digest = (column[at] for column in words)
        fields = (self._cluster, specialist, int(sequence), event, state, artifact, previous)
        return _Link(Link(*cast("tuple[str, str, int, Event, State, str, str | None]", fields)), digest)


_REMEMBERED = 8
_folded: list[tuple[tuple[SpecialistHistory, ...], RoutingChain]] = []
"""Chains that were folded before, with their histories, the latest used last. Who replays a history asks for each chain
and then for the same with a link more; folding that alone makes a step cost what it changes, however long the chain is.
"""


def changes_routing(record: PromotionRecord) -> bool:
    """Whether the record enters, keeps or leaves a serving state, so that routing is rendered anew."""
    return record.from_state in SERVING_STATES or record.to_state in SERVING_STATES


def is_link(record: PromotionRecord) -> bool:
    """Whether the record is a link of its cluster's chain: it changes routing, or clears the hold on it."""
    return changes_routing(record) or record.event == "hold-cleared"


def routing_chain(histories: Sequence[SpecialistHistory]) -> tuple[tuple[Link, str], ...]:
    """What the records say that changed one cluster's traffic or cleared its hold, oldest first, each with its digest.

    Raises:
        IntegrityFailure: ``mixed-clusters``, ``forked-routing`` (two records follow the same one),
            ``broken-routing-chain`` (a record follows one that is not there, or its own specialist's later record),
            and as `fold_hold`.
    """
    return tuple((link.record, link.digest) for link in folded_chain(histories).links)


def chain_fact(histories: Sequence[SpecialistHistory]) -> list[Any]:
    """What can be kept of one cluster's chain, as JSON, for `recall_chain`. Raises as `routing_chain`."""
    chain = folded_chain(histories)
    links = [(*link.record[1:6], link.digest) for link in chain.links]
    hold = chain.hold and [chain.hold.specialist, chain.hold.record]
    columns = [" ".join(map(str, column)) for column in zip(*links, strict=True)]
    return [columns, hold, chain.standings, chain.sequences]


def recall_chain(
    histories: tuple[SpecialistHistory, ...], fact: Sequence[Any], news: Sequence[tuple[SpecialistHistory, int]]
) -> bool:
    """Take a chain that was folded before for that of these histories; False where it is not the beginning of theirs.

    Args:
        histories: One cluster's, of which some have records more than when the chain was folded, and none fewer.
        fact: What `chain_fact` gave then.
        news: Those that have more, and how many records each had.
    """
    (columns, hold, standings, sequences), cluster = fact, histories[0].cluster
    if not columns:
        return False
    standing = {specialist: Standing(*found) for specialist, found in standings.items()}
    chain = RoutingChain(_KeptLinks(cluster, columns), Hold(cluster, *hold) if hold else None, standing, sequences)
    links = [link for history, count in news for link in _links(cluster, history, count)]
    following = {link.record.expected_previous: link for link in links}
    ordered, at = list[_Link](), chain.last
    while (link := following.pop(at, None)) is not None:
        ordered.append(link)
        at = link.digest
    longer = _followed(chain, ordered) if len(ordered) == len(links) else None
    if longer is not None:
        _remember(histories, longer)
    return longer is not None


def folded_chain(histories: Sequence[SpecialistHistory]) -> RoutingChain:
    """One cluster's chain: what was folded before with what is new, else folded anew. Raises as `routing_chain`."""
    all_histories = tuple(histories)
    for at in reversed(range(len(_folded))):
        if _folded[at][0] is histories:
            entry = _folded.pop(at)
            _folded.append(entry)
            return entry[1]
    for at in reversed(range(len(_folded))):
        histories_before, chain = _folded[at]
        news = _news(histories_before, all_histories)
        longer = None if news is None else _followed(chain, news)
        if longer is not None:
            _folded.append(_folded.pop(at))
            _remember(all_histories, longer)
            return longer
    cluster = all_histories[0].cluster if all_histories else ""
    chain = _fold(cluster, [link for history in all_histories for link in _links(cluster, history)])
    _remember(all_histories, chain)
    return chain


def _remember(histories: tuple[SpecialistHistory, ...], chain: RoutingChain) -> None:
    _folded.append((histories, chain))
    del _folded[:-_REMEMBERED]


def _news(
    old_histories: tuple[SpecialistHistory, ...], histories: tuple[SpecialistHistory, ...]
) -> Sequence[_Link] | None:
    """Links of ``histories`` beyond those of ``old_histories``: of one that is new or went on; None where more differs.

    The one that went on may have gone to the end, or come from there: a record that is only proposed stands last.
    """
    begin = next(compress(count(), map(is_not, old_histories, histories)), min(len(old_histories), len(histories)))
    olds, news = old_histories[begin:], histories[begin:]
    old: SpecialistHistory | None = None
    if not olds and not news:
        return ()
    if len(news) == len(olds) + 1 and _same(olds, news[1:]):
        grown = news[0]
    elif len(news) != len(olds):
        return None
    elif _same(olds[1:], news[1:]):
        old, grown = olds[0], news[0]
    elif _same(olds[1:], news[:-1]):
        old, grown = olds[0], news[-1]
    elif _same(olds[:-1], news[1:]):
        old, grown = olds[-1], news[0]
    else:
        return None
    if grown.cluster != (old_histories[0].cluster if old_histories else None):
        return None
    if old is None:
        return _links(grown.cluster, grown)
    known_count = len(old.digests)
    if old.specialist != grown.specialist or grown.digests[:known_count] != old.digests:
        return None
    return _links(grown.cluster, grown, known_count)


def _same(some: Sequence[SpecialistHistory], others: Sequence[SpecialistHistory]) -> bool:
    """Whether these are the same objects in the same order."""
    return len(some) == len(others) and all(map(is_, some, others))


def _links(cluster: str, history: SpecialistHistory, after: int = 0) -> list[_Link]:
    """Links of one history; those of its first records are left out, as many as ``after`` says."""
    if history.cluster != cluster:
        raise broken_chain("mixed-clusters", cluster, f"{history.specialist} belongs to cluster {history.cluster}.")
    if history.outline:
        return [_Link(link, digest) for link, digest in history.outline.links if link.sequence > after]
    records = zip(history.records[after:], history.digests[after:], strict=True)
    return [_Link(Link.of(record), digest) for record, digest in records if is_link(record)]


def _fold(cluster: str, links: Sequence[_Link]) -> RoutingChain:
    """All links in their order. Raises as `routing_chain`."""
    following: dict[str | None, _Link] = {}
    for link in links:
        other = following.setdefault(link.record.expected_previous, link)
        if other is not link:
            raise broken_chain(
                "forked-routing",
                cluster,
                f"Records of {other.record.specialist} and {link.record.specialist} both follow the same record.",
            )
    ordered: list[_Link] = []
    at: str | None = None
    while (link_ := following.pop(at, None)) is not None:
        ordered.append(link_)
        at = link_.digest
    if following:
        lost = min(f"{link.record.specialist} {link.record.sequence}" for link in following.values())
        raise broken_chain("broken-routing-chain", cluster, f"Record {lost} follows a record that is not there.")
    chain = _followed(RoutingChain(), ordered)
    if chain is None:
        last_sequence: dict[str, int] = {}
        for link in ordered:
            if link.record.sequence <= last_sequence.get(link.record.specialist, 0):
                raise broken_chain(
                    "broken-routing-chain", cluster, f"Records of {link.record.specialist} are out of order."
                )
            last_sequence[link.record.specialist] = link.record.sequence
        fold_hold(cluster, [(link.record, link.digest) for link in ordered])
        raise AssertionError("a chain that holds can be followed")
    return chain


def _followed(chain: RoutingChain, links: Sequence[_Link]) -> RoutingChain | None:
    """The chain with links more, in this order; None where one does not follow."""
    if not links:
        return chain
    hold, last = chain.hold, chain.last
    standings, sequences = dict(chain.standings), dict(chain.sequences)
    for at, link in enumerate(links, start=len(chain.links)):
        cluster, specialist, sequence, event, to_state, _, expected_previous = link.record
        refused = hold_refusal(hold, cluster, event, specialist)
        if expected_previous != last or sequence <= sequences.get(specialist, 0) or refused:
            return None
        before = standings.pop(specialist, None)
        if to_state in SERVING_STATES:
            deployed, validated = before.deployed if before else at, at if to_state == "production-validated" else -1
            standings[specialist] = Standing(to_state, at, deployed, validated)
        if event == "rolled-back":
            hold = Hold(cluster, specialist, link.digest)
        elif event == "hold-cleared":
            hold = None
        sequences[specialist] = sequence
        last = link.digest
    known = chain.links
    more = known.followed_by(links) if isinstance(known, _KeptLinks) else (*known, *links)
    return RoutingChain(more, hold, standings, sequences)


def broken_chain(code: str, cluster: str, message: str) -> IntegrityFailure:
    """The error for records that are no chain."""
    return IntegrityFailure(
        code, message, "Prepare the promotion again on the latest main, or restore the records.", cluster=cluster
    )
