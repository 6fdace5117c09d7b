"""What the door obeys: the last main of its clone that verified, and whose models are at hand.

Nothing is obeyed before it was judged, and nothing is taken from the work tree. Where a new main does not verify, or a
model of it is missing or not what its record says, everything goes on as it was, and `troubles` says so. A model that
takes long to load holds up its own cluster alone; nothing at all waits for one in the shadow (`door.loading`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from modelsmith import __version__
from modelsmith.door.lines import Line, LoadedAs, check_artifact, read_line
from modelsmith.door.loading import Loading, aside, shadow_of
from modelsmith.door.upstream import Model
from modelsmith.governance.router import Rules
from modelsmith.governance.routing import BASE
from modelsmith.live.unloaded import note_unloaded
from modelsmith.loop.window import live_folder
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.judging import ROOT_SETTING, judge
from modelsmith.promotion.remembered import Verified, recall
from modelsmith.promotion.root import check_pin, find_root
from modelsmith.promotion.serving import Arm
from modelsmith.promotion.tips import MAIN, MAIN_NAME, named_commit
from modelsmith.repository.load import cluster_names, load_router
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.soundness import require_sound
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput, ModelsmithError

LOOK_SECONDS = 1.0
"""How often main is looked at."""
AGAIN_SECONDS = 15.0
"""How often what did not work is tried again, without a new commit."""
MAIN_TROUBLE = "main"
"""Whose trouble it is where main itself is not obeyed; else it is a cluster's, by its name."""

LOAD_SECONDS = 600.0
"""How long the model in the shadow may take to load before that is said, and models of a door that starts before it
serves the clusters without them."""
PATIENCE_SECONDS = 20.0
"""How long a new main waits for models to load, before the clusters that have theirs go on by it."""
MakeModel = Callable[[Line, Arm], Awaitable[Model]]
Report = Callable[[str, ModelsmithError | None], None]


@dataclass(frozen=True)
class Ready:
    """One cluster with the models that answer for it."""

    line: Line
    incumbent: Model
    watched: Model | None
    shadow: Model | None = None
    """None also while it is loaded."""

    def model(self, arm: Arm) -> Model:
        """The model of one of its arms."""
        return self.watched if self.watched and arm == self.line.watched else self.incumbent


@dataclass(frozen=True)
class Served:
    """All that requests are answered by. It is replaced as a whole; a request keeps the one that it came to."""

    commit: str
    rules: Rules
    clusters: Mapping[str, Ready]
    lacking: frozenset[str] = frozenset()
    """Clusters of main that nobody answers for, since their models could not be made ready."""


@dataclass(frozen=True)
class _Plan:
    """Routing of one verified main, before its models are at hand."""

    commit: str
    rules: Rules
    lines: Mapping[str, Line | ModelsmithError]
    damaged: Mapping[tuple[str, Arm], ModelsmithError]
    """Artifacts at hand that are not what main says."""


class Follower:
    """Keeps the front door at the forge's main, as main moves.

    ``make`` gives a model, loading it where that is needed. ``watch`` is told of each commit, in a thread, before
    traffic is routed by it. ``told`` hears of trouble and its end.
    """

    def __init__(self, workspace: Workspace, make: MakeModel, watch: Callable[[str], None], report: Report) -> None:
        self._workspace = workspace
        self._make = make
        self._watch = watch
        self._report = report
        self._models: dict[LoadedAs, Model] = {}
        self._making: dict[LoadedAs, asyncio.Task[Model]] = {}
        """Models that are loaded now, also after nobody waits for them any longer."""
        self._loading = Loading(self._bring, LOAD_SECONDS, self._shadow_changed)
        self._seen: str | None = None
        self._again = 0.0
        self.served: Served | None = None
        self.troubles: dict[str, ModelsmithError] = {}
        """By `MAIN_TROUBLE` or cluster: why something newer is not obeyed; by `shadow_of` a cluster: why there is none.
        """
        self.reloads = 0

    async def start(self) -> Served:
        """Obey main as it is, or else the last main that this clone verified.

        Raises:
            ModelsmithError: nothing can be served.
        """
        try:
            await self._obey(await asyncio.to_thread(_read, self._workspace))
        except ModelsmithError as error:
            self._trouble(MAIN_TROUBLE, error)
            with suppress(ModelsmithError):  # what is wrong with main is what is to be mended
                plan = await asyncio.to_thread(_read_remembered, self._workspace)
                if plan is not None:
                    await self._obey(plan)
            if self.served is None:
                raise
        assert self.served is not None
        if not self.served.clusters:
            raise next(iter(self.troubles.values()), _nothing())
        return self.served

    async def follow(self) -> None:
        """Look at main for as long as the door is open."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def close(self) -> None:
        """Stop following main; load no further model."""
        for task in self._making.values():
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        await self._loading.close()

    async def look(self) -> None:
        """Obey main if it has moved and verifies. Raises nothing: what is wrong is in `troubles`."""
        try:
            tip = await asyncio.to_thread(_tip, self._workspace)
            due = bool(self.troubles) and time.monotonic() >= self._again
            if tip == self._seen and not due:
                return
            self._seen, self._again = tip, time.monotonic() + AGAIN_SECONDS
            plan = await asyncio.to_thread(_read, self._workspace)
            self._trouble(MAIN_TROUBLE, None)
            await self._obey(plan)
        except ModelsmithError as error:
            self._trouble(MAIN_TROUBLE, error)
        except Exception as error:  # whatever it was, what is served goes on
            self._trouble(MAIN_TROUBLE, _unexpected(error))

    async def _obey(self, plan: _Plan) -> None:
        before = self.served.clusters if self.served else {}
        clusters: dict[str, Ready] = {}
        until = time.monotonic() + (PATIENCE_SECONDS if self.served else LOAD_SECONDS)
        for name, line in plan.lines.items():
            try:
                clusters[name], wrong = await self._ready(name, line, plan, until)
                self._trouble(name, wrong)
            except ModelsmithError as error:
                self._trouble(name, error)
                as_before = _as_before(before[name], line) if name in before else None
                if going_on := as_before or await self._incumbent_alone(name, line, error, plan, until):
                    clusters[name] = going_on
        shadowed = {shadow_of(name) for name, ready in clusters.items() if ready.line.shadow}
        for cluster in self.troubles.keys() - plan.lines.keys() - shadowed - {MAIN_TROUBLE}:
            self._trouble(cluster, None)
        await asyncio.to_thread(self._watch, plan.commit)
        self._seen = self._seen or plan.commit
        self.reloads += self.served is not None
        clusters = {name: replace(ready, shadow=self._loading.model(ready.line)) for name, ready in clusters.items()}
        self.served = Served(plan.commit, plan.rules, clusters, frozenset(plan.lines.keys() - clusters.keys()))
        used = {ready.line.loaded_as(arm) for ready in clusters.values() for arm in ready.line.arms}
        self._models = {key: model for key, model in self._models.items() if key in used}
        due = {line.loaded_as(arm) for line in plan.lines.values() if isinstance(line, Line) for arm in line.arms}
        for key in self._making.keys() - due:
            self._making.pop(key).cancel()
        self._loading.follow({name: ready.line for name, ready in clusters.items()})

    async def _ready(
        self, name: str, line: Line | ModelsmithError, plan: _Plan, until: float
    ) -> tuple[Ready, ModelsmithError | None]:
        """The models of a line; one that is loaded stays so, whatever became of its files, and that is said."""
        if isinstance(line, ModelsmithError):
            raise line
        models: list[Model] = []
        wrong = None
        for arm in line.arms:
            damage = plan.damaged.get((name, arm))
            if (model := self._models.get(line.loaded_as(arm))) is not None:
                models.append(model)
                wrong = wrong or damage
            elif damage:
                raise damage
            else:
                self._models[line.loaded_as(arm)] = loaded = await self._made(line, arm, until)
                models.append(loaded)
        return Ready(line, models[0], models[1] if line.watched else None), wrong

    async def _incumbent_alone(
        self, name: str, line: Line | ModelsmithError, wrong: ModelsmithError, plan: _Plan, until: float
    ) -> Ready | None:
        """The cluster without who is under watch, where that one's model is damaged, or its server does not take it.

        So a door that starts anew answers all the same. What whoever runs this machine has left out is for them to
        mend before it starts.
        """
        if isinstance(line, ModelsmithError) or line.watched is None or isinstance(wrong, InvalidInput):
            return None
        try:
            ready, _ = await self._ready(name, replace(line, watched=None, share=0.0), plan, until)
        except ModelsmithError:
            return None
        return ready

    async def _made(self, line: Line, arm: Arm, until: float) -> Model:
        """The model, loaded. One that takes longer is waited for by nobody; main is obeyed again when it has come."""
        key = line.loaded_as(arm)
        task = self._making.get(key)
        if task is None:
            task = self._making[key] = asyncio.ensure_future(self._make(line, arm))
            await asyncio.wait({task}, timeout=max(0.0, until - time.monotonic()))
        if not task.done():
            task.add_done_callback(self._came)
            raise _still_loading(line, arm)
        del self._making[key]
        return task.result()

    def _came(self, task: asyncio.Future[Model]) -> None:
        if not task.cancelled():
            task.exception()  # whoever obeys main next hears of it
        self._again = 0.0

    async def _bring(self, line: Line) -> Model:
        """The model in the shadow of a line. Raises ModelsmithError."""
        assert line.shadow
        await aside(partial(_check_shadow, self._workspace, line, line.shadow))
        return await self._make(line, line.shadow)

    def _shadow_changed(self, name: str, error: ModelsmithError | None) -> None:
        """Copies go to the model that is at hand now; of what is served nothing else changes."""
        self._trouble(shadow_of(name), error)
        if self.served and (ready := self.served.clusters.get(name)):
            if arm := ready.line.shadow:
                note_unloaded(live_folder(self._workspace), name, arm.record, error.message if error else None)
            clusters = {**self.served.clusters, name: replace(ready, shadow=self._loading.model(ready.line))}
            self.served = replace(self.served, clusters=clusters)

    def _trouble(self, source: str, error: ModelsmithError | None) -> None:
        before = self.troubles.pop(source, None)
        if error is not None:
            self.troubles[source] = error.with_traceback(None)  # its frames would hold models that nobody asks any more
        if (before is None) != (error is None) or (before and error and before.message != error.message):
            self._report(source, error)


def _as_before(ready: Ready, line: Line | ModelsmithError) -> Ready | None:
    """What goes on where the new line cannot; but a specialist that main has taken back gets none of the traffic.

    None where that one had all of it: nobody answers for the cluster until who is to answer is at hand.
    """
    if isinstance(line, ModelsmithError):
        return ready
    if ready.line.shadow != line.shadow:
        ready = replace(ready, line=replace(ready.line, shadow=None), shadow=None)
    if ready.line.incumbent.specialist not in (BASE, *line.standing):
        return None
    if ready.line.watched is None or ready.line.watched in line.arms:
        return ready
    return replace(ready, line=replace(ready.line, watched=None, share=0.0), watched=None)


def _tip(workspace: Workspace) -> str | None:
    return workspace.git.rev(MAIN)


def _pinned(workspace: Workspace) -> str:
    pinned = check_pin(workspace.setting(ROOT_SETTING))
    if pinned is None:
        raise InvalidInput(
            "root-not-pinned",
            "This clone pins no governance root, so nobody can say whose main it is",
            f"Have somebody you trust tell you the fingerprint: `git config modelsmith.{ROOT_SETTING} FINGERPRINT`.",
        )
    return pinned


def _read(workspace: Workspace) -> _Plan:
    """Judge main, and read what it says. Raises ModelsmithError."""
    pinned = _pinned(workspace)
    with ObjectReader(workspace.root) as git:
        _, tip = named_commit(git, MAIN_NAME)
        require_sound(git)
        return _plan(workspace, judge(workspace, git, git.first_parent_log(tip), pinned).main)


def _read_remembered(workspace: Workspace) -> _Plan | None:
    """What the last main says that this clone verified from the pinned root with this very toolkit; None without."""
    pinned, memory = _pinned(workspace), recall(workspace.private)
    if memory is None:
        return None
    with ObjectReader(workspace.root) as git:
        if git.rev(memory.tip) is None:
            return None
        log = git.first_parent_log(memory.tip)
        begin, root = find_root(git, log, pinned)
        if not memory.continues(Verified.nothing(__version__, root, log[begin].id)):
            return None
        return _plan(workspace, read_governed_state(git, memory.tip))


def _plan(workspace: Workspace, main: GovernedState) -> _Plan:
    names = cluster_names(main.tree)
    lines: dict[str, Line | ModelsmithError] = {}
    damaged: dict[tuple[str, Arm], ModelsmithError] = {}
    for name in names:
        try:
            lines[name] = line = read_line(main, name)
        except ModelsmithError as error:
            lines[name] = error
            continue
        for arm in line.arms:
            try:
                check_artifact(workspace, main, line, arm)
            except ModelsmithError as error:
                damaged[name, arm] = error
    return _Plan(main.tree.commit, Rules(load_router(main.tree), names), lines, damaged)


def _check_shadow(workspace: Workspace, line: Line, arm: Arm) -> None:
    """Refuse an artifact that is not what the main of the line says, which was judged. Raises ModelsmithError."""
    with ObjectReader(workspace.root) as git:
        check_artifact(workspace, read_governed_state(git, line.commit), line, arm)


def _nothing() -> IntegrityFailure:
    return IntegrityFailure(
        "nothing-to-serve", "Main has no cluster", "Add one: `modelsmith new cluster`, by a pull request."
    )


def _still_loading(line: Line, arm: Arm) -> InfrastructureFailure:
    return InfrastructureFailure(
        "model-loading",
        f"The model of {arm.specialist} of {line.cluster.cluster} is still being loaded",
        "Wait; where it does not come, see whether the machine has room for it and the backend takes it.",
        cluster=line.cluster.cluster,
        specialist=arm.specialist,
    )


def _unexpected(error: Exception) -> InfrastructureFailure:
    return InfrastructureFailure(
        "reload-failed",
        f"Main could not be read: {type(error).__name__}",
        "Look at the door's log, and run `modelsmith verify` in the clone.",
    )
