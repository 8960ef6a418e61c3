"""As much of Ray and of submitit as the launchers use, in this process: calls are noted."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


class RayError(Exception):
    pass


class TaskCancelledError(RayError):
    pass


class Queue:
    def __init__(self, actor_options: dict[str, Any]) -> None:
        self.options, self.items = actor_options, list[Any]()

    def put_nowait(self, item: Any) -> None:
        self.items.append(item)

    def qsize(self) -> int:
        return len(self.items)

    def get_nowait_batch(self, count: int) -> list[Any]:
        taken, self.items = self.items[:count], self.items[count:]
        return taken


def fake_ray(fate: Callable[[int], Exception | None] = lambda number: None) -> Any:
    """A module. fate: what getting the n-th task raises, from 0."""
    calls: dict[str, Any] = {"jobs": [], "cancelled": []}

    def remote(**options: Any) -> Any:
        calls["options"] = options

        def wrap(function: Any) -> Any:
            def submit(*arguments: Any) -> Any:
                calls["jobs"].append((function, arguments))
                return len(calls["jobs"]) - 1

            return types.SimpleNamespace(remote=submit)

        return wrap

    def get(number: int) -> Any:
        error = fate(number)
        if error is not None:
            raise error
        function, arguments = calls["jobs"][number]
        return function(*arguments)

    return types.SimpleNamespace(
        calls=calls,
        init=lambda **settings: calls.update(init=settings),
        shutdown=lambda: calls.update(shutdown=True),
        remote=remote,
        wait=lambda jobs, timeout: (jobs, []),
        get=get,
        cancel=lambda job, force: calls["cancelled"].append((job, force)),
        exceptions=types.SimpleNamespace(RayError=RayError, TaskCancelledError=TaskCancelledError),
    )


class FakeSubmitit:
    """fate: what the result of the n-th job raises, from 0."""

    def __init__(self, fate: Callable[[int], Exception | None] = lambda number: None) -> None:
        self.fate, self.parameters, self.jobs = fate, dict[str, Any](), list[Any]()

    def AutoExecutor(self, folder: Any, cluster: str) -> Any:
        self.folder, self.cluster = folder, cluster
        return types.SimpleNamespace(
            update_parameters=lambda **given: self.parameters.update(given), submit=self.submit
        )

    def submit(self, function: Any, *arguments: Any) -> Any:
        number = len(self.jobs)

        def result() -> Any:
            error = self.fate(number)
            if error is not None:
                raise error
            return function(*arguments)

        job = types.SimpleNamespace(
            job_id=str(number), done=lambda: True, result=result, cancel=lambda: None
        )
        self.jobs.append(job)
        return job
