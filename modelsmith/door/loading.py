"""The model in the shadow is loaded beside what is served: nothing that main says ever waits for it.

One that cannot be loaded is said, and each copy from then on is an error of its specialist. What only this machine
lacks, such as a name in ``serve.yaml``, is said and counts for nothing. So does one that takes long: that tells of the
disk and not of its answers, and when it is to serve, another one does until it is there. Without copies nothing is
confirmed, so one that hangs for good comes no further either.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from modelsmith.door.lines import Line, LoadedAs
from modelsmith.door.refusal import Down
from modelsmith.door.upstream import Model, Reply
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError

T = TypeVar("T")
CODE: Final = "shadow-not-loaded"
_OF: Final = "shadow of "
Bring = Callable[[Line], Awaitable[Model]]
"""Checks the artifact of a line's shadow and loads it."""


def shadow_of(cluster: str) -> str:
    """Whose trouble it is where the model in a cluster's shadow is not at hand."""
    return f"{_OF}{cluster}"


def is_of_a_shadow(source: str) -> bool:
    """Whether a trouble is of a shadow: what main says of traffic is obeyed all the same."""
    return source.startswith(_OF)


class NotLoaded:
    """Stands for a model that is not at hand: a copy of a request is its specialist's failure."""

    @asynccontextmanager
    async def ask(self, body: Mapping[str, Any]) -> AsyncIterator[Reply]:
        """See `Model`."""
        raise Down(503, "not loaded", again=False)
        yield


class Loading:
    """The models in the shadow, by cluster. Belongs to one event loop.

    Args:
        bring: Checks and loads one; it may hang.
        seconds: How long that may take before it is said.
        changed: Told of a cluster whose shadow has another model now, or of trouble with it and its end.
    """

    def __init__(self, bring: Bring, seconds: float, changed: Callable[[str, ModelsmithError | None], None]) -> None:
        self._bring, self._seconds, self._changed = bring, seconds, changed
        self._models: dict[LoadedAs, Model] = {}
        self._under_way: dict[LoadedAs, asyncio.Task[None]] = {}

    def model(self, line: Line) -> Model | None:
        """Who answers copies; None while it is loaded, or where nobody is in the shadow."""
        return self._models.get(line.loaded_as(line.shadow)) if line.shadow else None

    def follow(self, lines: Mapping[str, Line]) -> None:
        """Load what these lines have in the shadow, again where that failed; forget, and stop loading, the rest."""
        by_key = {line.loaded_as(line.shadow): line for line in lines.values() if line.shadow}
        for key in self._under_way.keys() - by_key.keys():
            self._under_way.pop(key).cancel()
        self._models = {key: model for key, model in self._models.items() if key in by_key}
        for key, line in by_key.items():
            if key not in self._under_way and isinstance(self._models.get(key), NotLoaded | None):
                self._under_way[key] = asyncio.get_running_loop().create_task(self._load(key, line))

    async def close(self) -> None:
        """Stop loading; a thread that hangs is left to itself."""
        tasks = [*self._under_way.values()]
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, key: LoadedAs, line: Line) -> None:
        work = asyncio.ensure_future(self._bring(line))
        name = line.cluster.cluster
        try:
            finished, _ = await asyncio.wait({work}, timeout=self._seconds)
            if not finished:
                self._changed(name, _too_slow(line, self._seconds))
            self._models[key] = await work
        except asyncio.CancelledError:
            work.cancel()
            raise
        except ModelsmithError as error:
            self._lost(key, name, error)
        except Exception as error:  # whatever it is, it is the shadow's, and serving goes on
            self._lost(key, name, _unexpected(line, error))
        else:
            self._changed(name, None)
        finally:
            if self._under_way.get(key) is asyncio.current_task():
                del self._under_way[key]

    def _lost(self, key: LoadedAs, name: str, error: ModelsmithError) -> None:
        """Copies count against it from now on, but for what only whoever runs this machine can provide."""
        if isinstance(error, InvalidInput):
            self._models.pop(key, None)
        else:
            self._models[key] = NotLoaded()
        self._changed(name, error)


async def aside(work: Callable[[], T]) -> T:
    """Do something in a thread of its own, which may hang for good: no other work and no end of the process waits."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:  # told to whoever waits
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, failed)

    threading.Thread(target=run, name="shadow", daemon=True).start()
    return await future


def _too_slow(line: Line, seconds: float) -> InfrastructureFailure:
    return _failed(line, f"is not loaded after {seconds:g} seconds; until it is, nothing is copied")


def _unexpected(line: Line, error: Exception) -> InfrastructureFailure:
    return _failed(line, f"cannot be loaded: {type(error).__name__}; copies of requests count as its errors")


def _failed(line: Line, problem: str) -> InfrastructureFailure:
    specialist = line.shadow.specialist if line.shadow else ""
    return InfrastructureFailure(
        CODE,
        f"{specialist}, in the shadow of {line.cluster.cluster}, {problem}",
        "See whether the machine has room for it and the backend takes it; else let the next iteration replace it.",
        cluster=line.cluster.cluster,
        specialist=specialist,
    )
