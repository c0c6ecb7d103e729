"""Tuning by rewards: the engine draws samples, Python judges them, the engine trains on the verdict.

A reward is a plain function on the thread that calls, between a rollout and an update; nothing is called back.
"""

from __future__ import annotations

import ctypes
import json
from ctypes import c_char_p, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NamedTuple, Optional, Union

from . import _abi, _lend, _setting
from ._handle import Handle
from ._job import Bar
from ._setting import Config, Path
from ._tensor import Tensor
from ._trainer import Training, metrics, training

if TYPE_CHECKING:
    from ._model import Model

Inputs = Mapping[str, Any]


class Rollout:
    """The samples of a round, for a reward. A part may be kept: it stays as it is when the tuner goes on."""

    def __init__(self, tuner: "Tuner", round: int) -> None:
        self._tuner = tuner
        self.round = round

    def __getitem__(self, name: str) -> Tensor:
        """A component by name, ``"feasible"``, ``"log_weight"``, ``"states.x"``."""
        return self._tuner.result(name)

    @property
    def samples(self) -> Tensor:
        """The first component, ``[samples, ...]``."""
        return self._tuner.result()


class Reward(NamedTuple):
    """What a reward function may give instead of numbers: rows without a reward, gradients of it by the samples."""

    values: Any
    valid: Optional[Any] = None
    gradients: Optional[Mapping[str, Any]] = None


class Round(NamedTuple):
    """What a round came to: its number, the last update's figures, the metrics by name."""

    round: int
    rounds: int
    training: Training
    metrics: Dict[str, float]


RewardFunction = Callable[[Rollout], Any]


class Tuner(Handle):
    """Made by ``Model.tuner``. ``run`` does everything; ``rollout``, ``reward`` and ``update`` are its parts."""

    _release_name = "dfx_tuner_release"

    def __init__(self, model: "Model", config: Optional[Config], keys: Mapping[str, Any]) -> None:
        out = c_void_p()
        model._call("dfx_tuner_create", _setting.config(config, keys), ctypes.byref(out))
        super().__init__(model._library, out.value or 0, model._keep)
        self._engine = model._engine
        self._dtype = str(self.info["dtype"])

    @property
    def info(self) -> Dict[str, Any]:
        """Where it stands and what it wants: samples, group, rounds, round, update, left, rewards, gradient, dtype, metrics."""
        out = c_char_p()
        self._call("dfx_tuner_json", ctypes.byref(out))
        info: Dict[str, Any] = json.loads((out.value or b"{}").decode())
        return info

    def rollout(self, inputs: Optional[Inputs] = None) -> Rollout:
        """Draws the samples of the next round; ``inputs``: one value, one per group, or one per sample."""
        lent = _setting.Named({k: self._tensor(v) for k, v in (inputs or {}).items()})
        options = _setting.sized(_abi.RolloutOptions)
        lent.into(options, "input_names", "inputs", "n_inputs")
        self._call("dfx_tuner_rollout", ctypes.byref(options))
        self._engine._delivered()
        return Rollout(self, int(self.info["round"]))

    def result(self, name: Optional[str] = None) -> Tensor:
        """A part of the rollout; see ``Rollout``."""
        out = c_void_p()
        self._call("dfx_tuner_result", None if name is None else _setting.text(name), ctypes.byref(out))
        return Tensor(self._library, out.value or 0)

    def reward(
        self, values: Any, *, valid: Optional[Any] = None, gradients: Optional[Mapping[str, Any]] = None
    ) -> None:
        """The word on this round's samples, larger is better: a number each, or ``[samples, rewards]``."""
        given = self._engine.tensor(values, None if hasattr(values, "dtype") else "f64")
        checked = None if valid is None else self._engine.tensor(valid, None if hasattr(valid, "dtype") else "u8")
        word = _setting.sized(_abi.Reward)
        word.values = given._handle
        word.valid = None if checked is None else checked._handle
        lent = _setting.Named({k: self._tensor(v) for k, v in (gradients or {}).items()})
        lent.into(word, "grad_names", "grads", "n_grads")
        self._call("dfx_tuner_reward", ctypes.byref(word))

    def update(self, n_updates: int = 0) -> Training:
        """So many more updates, at most to the end of the round (0: to its end)."""
        out = _setting.sized(_abi.Training)
        self._call("dfx_tuner_update", _setting.unsigned(n_updates, 32, "n_updates"), ctypes.byref(out))
        self._engine._delivered()
        _lend.sweep()
        return training(out)

    def run(
        self,
        reward: RewardFunction,
        *,
        rounds: Optional[int] = None,
        inputs: Union[Inputs, Callable[[int], Inputs], None] = None,
        progress: Union[bool, None, Callable[[Round], Any]] = None,
    ) -> Optional[Round]:
        """Rounds of rollout, ``reward(rollout)`` and update, to the end or for so many. The last round's figures.

        The reward gives a number per sample, or a ``Reward``. ``inputs`` may be a function of the round. What the
        reward or ``progress`` raises ends the run between two calls: the tuner can be gone on with.
        """
        last: Optional[Round] = None
        of = int(self.info["rounds"])
        done = 0
        with Bar("rounds") as bar:
            while rounds is None or done < rounds:
                now = int(self.info["round"])
                if now >= of:
                    break
                drawn = self.rollout(inputs(now) if callable(inputs) else inputs)
                word = reward(drawn)
                if isinstance(word, Reward):
                    self.reward(word.values, valid=word.valid, gradients=word.gradients)
                else:
                    self.reward(word)
                last = Round(now, of, self.update(), self.metrics())
                done += 1
                if progress is True:
                    bar.at(now + 1, of, reward=last.metrics.get("reward", float("nan")))
                elif progress:
                    progress(last)
        return last

    def metrics(self) -> Dict[str, float]:
        """``"reward"`` and ``"valid"`` of the round, then the objective's metrics at the last update."""
        return metrics(self, "dfx_tuner")

    def checkpoint(self, path: Path) -> None:
        """Between rounds: everything that ``resume`` needs to go on with the same bits, whole or not at all."""
        self._call("dfx_tuner_checkpoint", _setting.path(path))

    def resume(self, path: Path) -> None:
        self._call("dfx_tuner_resume", _setting.path(path))

    def save(self, path: Path) -> None:
        """Writes the model as it is now, with averaged weights and adapters merged, for ``Engine.model``."""
        self._call("dfx_tuner_save", _setting.path(path))

    def close(self) -> None:
        super().close()
        _lend.sweep()

    def _tensor(self, value: Any) -> Tensor:
        kind = getattr(getattr(value, "dtype", None), "kind", None)
        plain = isinstance(value, (int, float, list, tuple))
        return self._engine.tensor(value, self._dtype if kind == "f" or plain else None)


def plan(model: "Model", config: Optional[Config], keys: Mapping[str, Any]) -> int:
    """Bytes that such a tuner will hold."""
    out = c_uint64()
    model._call("dfx_tuner_plan", _setting.config(config, keys), ctypes.byref(out))
    return out.value
