"""What runs of the fit loop share: they follow it, keep its checkpoints, and hear stop signals."""

from __future__ import annotations

from typing import Any

from benchmarks.runs.session import Session
from multimodal.training.fit import Fit


class FittedRun:
    """Base of a run around one ``Fit``. ``config`` has ``training``; observer: as of progress bars,
    or None.
    """

    config: Any
    observer: Any
    session: Session
    fit: Fit

    def validation_score(self) -> float:
        """Of the validation recordings, after an epoch."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"fit": self.fit.state_dict()}

    def follow(self) -> None:
        """Train to the end of the fit, from where it stands."""
        if self.observer is not None:
            self.observer.begin(self.fit.total, self.fit.total_steps)
        self.fit.run()
        self.session.stop_if_interrupted()
        if self.fit.total_steps % self.config.training.log_every:
            self._log()

    def validate(self) -> float:
        value = self.validation_score()
        self.session.journal.write({"validation_score": value}, self.fit.recordings)
        return value

    def after_step(self, fit: Fit) -> None:
        steps, training = fit.total_steps, self.config.training
        if steps % training.log_every == 0:
            self._log()
        if self.observer is not None:
            self.observer.step(fit)
        if self.session.interrupted or steps % training.checkpoint_every == 0:
            self.session.save_checkpoint(self.state())
        self.session.stop_if_interrupted()

    def _log(self) -> None:
        self.session.log(self.fit.log(), self.fit.recordings)
