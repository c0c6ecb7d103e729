"""Training: steps of a recipe on data that is lent or read, with checkpoints."""

from __future__ import annotations

import ctypes
import time
from ctypes import c_char_p, c_double, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NamedTuple, Optional, Union

from . import _abi, _lend, _setting
from ._handle import Handle
from ._job import Bar
from ._setting import Config, Path

if TYPE_CHECKING:
    from ._engine import Engine


class Training(NamedTuple):
    """Steps done of so many; the last step's loss, norm of its gradient before clipping, and learning rate."""

    step: int
    n_steps: int
    loss: float
    norm: float
    rate: float


class Trainer(Handle):
    """A training. Between two calls it stands still; its bits do not depend on how the steps are cut into calls."""

    _release_name = "dfx_trainer_release"

    def __init__(
        self,
        engine: "Engine",
        recipe: Optional[Config],
        tables: Optional[Mapping[str, Any]],
        keys: Mapping[str, Any],
    ) -> None:
        raw, options = _options(engine, recipe, tables, keys)
        out = c_void_p()
        engine._call("dfx_trainer_create", raw, ctypes.byref(options), ctypes.byref(out))
        super().__init__(engine._library, out.value or 0, engine._log)
        self._engine = engine

    def step(self, n_steps: int = 1) -> Training:
        """Up to so many more steps; at the end none are left and ``step`` is ``n_steps``."""
        out = _setting.sized(_abi.Training)
        self._call("dfx_trainer_step", _setting.unsigned(n_steps, 32, "n_steps"), ctypes.byref(out))
        self._engine._delivered()
        return training(out)

    def run(self, progress: Union[bool, None, Callable[[Training], Any]] = None) -> Training:
        """All steps that are left, in pieces of a tenth of a second, between which an interrupt is seen."""
        with Bar("steps") as bar:
            show = (lambda t: bar.at(t.step, t.n_steps, loss=t.loss)) if progress is True else progress
            piece = 1
            while True:
                start = time.monotonic()
                now = self.step(piece)
                took = time.monotonic() - start
                if show:
                    show(now)
                if now.step >= now.n_steps:
                    return now
                piece = min(2 * piece, 1 << 16) if took < 0.05 else max(1, piece // 2) if took > 0.2 else piece

    def measure(self) -> Training:
        """The loss on held-out data."""
        out = _setting.sized(_abi.Training)
        self._call("dfx_trainer_measure", ctypes.byref(out))
        return training(out)

    def metrics(self) -> Dict[str, float]:
        """The objective's metrics at the last step."""
        return metrics(self, "dfx_trainer")

    def checkpoint(self, path: Path) -> None:
        """Writes everything that ``resume`` needs to go on with the same bits, whole or not at all."""
        self._call("dfx_trainer_checkpoint", _setting.path(path))

    def resume(self, path: Path) -> None:
        self._call("dfx_trainer_resume", _setting.path(path))

    def save(self, path: Path) -> None:
        """Writes the model as it is now, with averaged weights, for ``Engine.model``."""
        self._call("dfx_trainer_save", _setting.path(path))

    def close(self) -> None:
        super().close()
        _lend.sweep()


def plan(
    engine: "Engine", recipe: Optional[Config], tables: Optional[Mapping[str, Any]], keys: Mapping[str, Any]
) -> int:
    """Bytes that such a trainer will hold."""
    raw, options = _options(engine, recipe, tables, keys)
    out = c_uint64()
    engine._call("dfx_trainer_plan", raw, ctypes.byref(options), ctypes.byref(out))
    return out.value


def _options(
    engine: "Engine", recipe: Optional[Config], tables: Optional[Mapping[str, Any]], keys: Mapping[str, Any]
) -> Any:
    lent = _setting.Named({name: engine.tensor(value) for name, value in (tables or {}).items()})
    options = _setting.sized(_abi.TrainerOptions)
    lent.into(options, "table_names", "tables", "n_tables")
    return _setting.config(recipe, keys), options


def metrics(handle: Handle, prefix: str) -> Dict[str, float]:
    """Metrics by name, of a trainer or a tuner."""
    out = {}
    for i in range(getattr(handle._library, prefix + "_metric_count")(handle._handle)):
        name, value = c_char_p(), c_double()
        handle._call(prefix + "_metric_name", i, ctypes.byref(name))
        handle._call(prefix + "_metric", name.value, ctypes.byref(value))
        out[(name.value or b"").decode()] = value.value
    return out


def training(out: Any) -> Training:
    return Training(out.step, out.n_steps, out.loss, out.norm, out.rate)
