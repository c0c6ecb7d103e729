"""Models and pipelines: a network and what samples from it."""

from __future__ import annotations

import ctypes
import json
from ctypes import c_char_p, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from . import _abi, _setting, _tuner
from ._handle import Handle
from ._job import Job, ProgressOption, follow
from ._setting import Config, Path
from ._tensor import Tensor
from ._tuner import Tuner

if TYPE_CHECKING:
    from ._engine import Engine


class Model(Handle):
    """An open model."""

    _release_name = "dfx_model_release"

    def __init__(self, engine: "Engine", pointer: int) -> None:
        super().__init__(engine._library, pointer, engine._log)
        self._engine = engine

    @property
    def info(self) -> Dict[str, Any]:
        """What the file says about itself: components, conditions, defaults, data, provenance, tensors."""
        out = c_char_p()
        self._call("dfx_model_json", ctypes.byref(out))
        info: Dict[str, Any] = json.loads((out.value or b"{}").decode())
        return info

    def pipeline(self, config: Optional[Config] = None, **keys: Any) -> "Pipeline":
        """Binds the model to a process, guidance, sampler and grid; keys as in ``docs/json.md``, defaults the file's.

        ``model.pipeline(sampler="heun", steps=32, guidance=["cfg:{\\"scale\\": 2}"])``
        """
        raw = _setting.config(config, keys)
        out = c_void_p()
        self._call("dfx_pipeline_create", raw, ctypes.byref(out))
        said = json.loads(raw) if raw else {}
        return Pipeline(self._engine, out.value or 0, said.get("dtype", "f32"))


    def tuner(self, config: Optional[Config] = None, **keys: Any) -> Tuner:
        """Tunes the model by rewards; keys as in ``docs/json.md``: ``objective``, ``rounds``, ``samples``, ..."""
        return Tuner(self, config, keys)

    def plan_tuner(self, config: Optional[Config] = None, **keys: Any) -> int:
        """Bytes that such a tuner will hold."""
        return _tuner.plan(self, config, keys)


class Pipeline(Handle):
    """Takes samples. Immutable but for what a pilot run measures: many threads may start jobs."""

    _release_name = "dfx_pipeline_release"

    def __init__(self, engine: "Engine", pointer: int, dtype: str) -> None:
        super().__init__(engine._library, pointer, engine._log)
        self._engine = engine
        self.dtype = dtype
        """The type of state and arithmetic: arrays of floats that are not tensors become it."""

    def start(
        self,
        n_samples: int = 1,
        *,
        seed: int = 0,
        first_sample: int = 0,
        steps: int = 0,
        inputs: Optional[Mapping[str, Any]] = None,
        preview_every: int = 0,
    ) -> Job:
        """Starts a job. ``inputs``: the model's conditions by name, one value or one per sample."""
        options = self._options(n_samples, seed, first_sample, steps, inputs, preview_every)
        out = c_void_p()
        self._call("dfx_job_start", ctypes.byref(options), ctypes.byref(out))
        return Job(self._engine, out.value or 0)

    def sample(
        self,
        n_samples: int = 1,
        *,
        seed: int = 0,
        first_sample: int = 0,
        steps: int = 0,
        inputs: Optional[Mapping[str, Any]] = None,
        result: Optional[str] = None,
        progress: ProgressOption = None,
    ) -> Tensor:
        """Starts a job, waits for it and gives a result by name (default: the first component).

        ``progress``: True for a bar (tqdm, if installed), or a function of ``Progress``. An interrupt cancels the job.
        """
        job = self.start(n_samples, seed=seed, first_sample=first_sample, steps=steps, inputs=inputs)
        with job:
            follow(job, progress)
            return job.result(result)

    def resume(self, path: Path) -> Job:
        """Goes on with a saved job: same settings, same bits."""
        out = c_void_p()
        self._call("dfx_job_resume", _setting.path(path), None, ctypes.byref(out))
        return Job(self._engine, out.value or 0)

    def plan(
        self,
        n_samples: int = 1,
        *,
        steps: int = 0,
        inputs: Optional[Mapping[str, Any]] = None,
        preview_every: int = 0,
    ) -> int:
        """Bytes that such a job will take."""
        options = self._options(n_samples, 0, 0, steps, inputs, preview_every)
        out = c_uint64()
        self._call("dfx_pipeline_plan", ctypes.byref(options), ctypes.byref(out))
        return out.value

    def pilot(
        self,
        n_samples: int = 0,
        *,
        seed: int = 0,
        first_sample: int = 0,
        steps: int = 0,
        inputs: Optional[Mapping[str, Any]] = None,
    ) -> Dict[str, Any]:
        """The coarse run that a grid which adapts wants; what it gives is a config's ``pilot``. Cannot be interrupted."""
        options = self._options(n_samples, seed, first_sample, steps, inputs, 0)
        out = c_char_p()
        self._call("dfx_pipeline_pilot", ctypes.byref(options), ctypes.byref(out))
        pilot: Dict[str, Any] = json.loads((out.value or b"{}").decode())
        return pilot

    def eval(
        self, inputs: Mapping[str, Any], outputs: Sequence[str], *, slot: Optional[str] = None
    ) -> List[Tensor]:
        """One forward of the denoiser with its guidances, or of the network in ``slot``.

        Inputs: components, ``"sigma"``, conditions, ``"cotangent.NAME"``. Outputs: components, ``"grad.INPUT"``.
        """
        lent = self._lend(inputs)
        options = _setting.sized(_abi.EvalOptions)
        options.slot = None if slot is None else _setting.text(slot)
        lent.into(options, "input_names", "inputs", "n_inputs")
        options.n_outputs = len(outputs)
        options.output_names = _setting.names(outputs)
        out = (c_void_p * max(len(outputs), 1))()
        self._call("dfx_pipeline_eval", ctypes.byref(options), out)
        return [Tensor(self._library, p or 0) for p in out[: len(outputs)]]

    def score(
        self,
        inputs: Mapping[str, Any],
        *,
        steps: int = 0,
        probes: int = 0,
        seed: int = 0,
        first_sample: int = 0,
    ) -> Tensor:
        """log p(x) of data in nats, f64, by the probability flow. ``probes``: 0 for the exact divergence.

        ``inputs``: the component by name, and conditions. Cannot be interrupted.
        """
        lent = self._lend(inputs)
        options = _setting.sized(_abi.ScoreOptions)
        options.n_steps = _setting.unsigned(steps, 32, "steps")
        options.n_probes = _setting.unsigned(probes, 32, "probes")
        options.seed = _setting.unsigned(seed, 64, "seed")
        options.first_sample = _setting.unsigned(first_sample, 64, "first_sample")
        lent.into(options, "input_names", "inputs", "n_inputs")
        out = c_void_p()
        self._call("dfx_pipeline_score", ctypes.byref(options), ctypes.byref(out))
        return Tensor(self._library, out.value or 0)

    def save(self, path: Path) -> None:
        """Writes the model with the settings of this pipeline for its defaults."""
        self._call("dfx_pipeline_save", _setting.path(path))

    # ---- what calls borrow

    def _lend(self, inputs: Optional[Mapping[str, Any]]) -> _setting.Named:
        return _setting.Named({k: self._tensor(v) for k, v in (inputs or {}).items()})

    def _tensor(self, value: Any) -> Tensor:
        kind = getattr(getattr(value, "dtype", None), "kind", None)
        plain = isinstance(value, (int, float, list, tuple))
        return self._engine.tensor(value, self.dtype if kind == "f" or plain else None)

    def _options(
        self,
        n_samples: int,
        seed: int,
        first_sample: int,
        steps: int,
        inputs: Optional[Mapping[str, Any]],
        preview_every: int,
    ) -> Any:
        lent = self._lend(inputs)
        options = _setting.sized(_abi.JobOptions)
        options.seed = _setting.unsigned(seed, 64, "seed")
        options.first_sample = _setting.unsigned(first_sample, 64, "first_sample")
        options.n_samples = _setting.unsigned(n_samples, 64, "n_samples")
        options.n_steps = _setting.unsigned(steps, 32, "steps")
        options.preview_every = _setting.unsigned(preview_every, 32, "preview_every")
        lent.into(options, "input_names", "inputs", "n_inputs")
        return options
