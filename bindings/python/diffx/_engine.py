"""Engines: everything hangs off one. Messages go to the logger ``diffx``."""

from __future__ import annotations

import ctypes
import json
import logging
from ctypes import c_char_p, c_double, c_uint32, c_uint64, c_void_p
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from . import _abi, _errors, _setting, _tensor, _trainer
from ._handle import Handle
from ._library import Library, library
from ._model import Model
from ._setting import Config, Path, Setting
from ._tensor import Tensor
from ._trainer import Trainer

_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


class Memory(NamedTuple):
    """Bytes of tensors, weights and sessions: now, and at most so far."""

    used: int
    peak: int


class _Log:
    """Takes the messages of an engine. They come inside ``pump``, ``poll`` and ``wait``, on the calling thread."""

    def __init__(self, logger: logging.Logger) -> None:
        self.pending: Optional[BaseException] = None

        def take(_user: Optional[int], level: int, message: bytes) -> None:
            try:
                logger.log(_LEVELS[min(max(level, 0), 3)], "%s", message.decode("utf-8", "replace"))
            except BaseException as e:  # an interrupt too: it goes on when the call is back
                self.pending = e

        self.function = _abi.log_fn(take)

    def check(self) -> None:
        pending, self.pending = self.pending, None
        if pending is not None:
            raise pending


class Engine(Handle):
    """Opens models, simulates processes, loads plugins. One is enough for a program; it may be used from many threads.

    ``threaded=False``: it starts no thread, and jobs move when ``pump``, or ``Job.wait``, is called.
    """

    _release_name = "dfx_engine_release"

    def __init__(
        self,
        *,
        threads: int = 0,
        threaded: bool = True,
        device: Optional[str] = None,
        memory_limit: int = 0,
        load_plugins: bool = False,
        env_plugins: bool = False,
        logger: Union[logging.Logger, str, None] = "diffx",
    ) -> None:
        options = _setting.sized(_abi.EngineOptions)
        options.flags = (
            (0 if threaded else _abi.ENGINE_NO_THREADS)
            | (_abi.ENGINE_LOAD_PLUGINS if load_plugins or env_plugins else 0)
            | (_abi.ENGINE_ENV_PLUGINS if env_plugins else 0)
        )
        options.n_threads = _setting.unsigned(threads, 32, "threads")
        options.arena_bytes = _setting.unsigned(memory_limit, 64, "memory_limit")
        options.device = None if device is None else _setting.text(device)
        logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._log = None if logger is None else _Log(logger)
        if self._log is not None:
            options.log = self._log.function
        out = c_void_p()
        lib: Library = library()
        lib.call("dfx_engine_create", ctypes.byref(options), ctypes.byref(out))
        super().__init__(lib, out.value or 0, self._log)

    # ---- models and training

    def model(self, path: Path) -> Model:
        """Opens a file, or a carried model by its name: ``"vix"``."""
        out = c_void_p()
        self._call("dfx_model_open", _setting.path(path), None, ctypes.byref(out))
        return Model(self, out.value or 0)

    def trainer(
        self, recipe: Optional[Config] = None, *, tables: Optional[Mapping[str, Any]] = None, **keys: Any
    ) -> Trainer:
        """A training by a recipe (``docs/json.md``), of data it names or of ``tables``: arrays by name."""
        return Trainer(self, recipe, tables, keys)

    def plan_trainer(
        self, recipe: Optional[Config] = None, *, tables: Optional[Mapping[str, Any]] = None, **keys: Any
    ) -> int:
        """Bytes that such a trainer will hold. Reads the data."""
        return _trainer.plan(self, recipe, tables, keys)

    # ---- arrays

    def tensor(self, value: Any, dtype: Optional[str] = None, *, copy: bool = False) -> Tensor:
        """A tensor of an array, of numbers, or of anything that speaks DLPack.

        Without ``copy`` a contiguous array is lent: do not change it while the tensor, or a job it was given to, lives.
        """
        return _tensor.create(self._library, self._handle, value, dtype, copy)

    def from_dlpack(self, source: Any) -> Tensor:
        """A tensor over the memory of an array of another library."""
        if not hasattr(source, "__dlpack__"):
            raise _errors.Invalid(f"a {type(source).__name__} does not speak DLPack")
        return _tensor.taken(self._library, self._handle, source, False)

    # ---- paths of a process

    def simulate(
        self,
        process: Setting,
        x0: Any,
        times: Sequence[float],
        n_samples: int = 1,
        *,
        seed: int = 0,
        first_sample: int = 0,
        keep: Optional[Sequence[int]] = None,
        per_sample: bool = False,
        euler: bool = False,
        substeps: int = 0,
    ) -> Tensor:
        """Paths of a process, ``[n_samples, kept times, dims of one x0]``, in the type of ``x0`` (numbers: f64).

        ``per_sample``: axis 0 of ``x0`` is the sample. ``euler``: Euler steps instead of exact transitions.
        ``keep``: which times come out. Cannot be interrupted.
        """
        start = self.tensor(x0, None if hasattr(x0, "dtype") else "f64")
        options = _setting.sized(_abi.SimulateOptions)
        options.flags = (_abi.SIMULATE_PER_SAMPLE if per_sample else 0) | (
            _abi.SIMULATE_EULER if euler else 0
        )
        options.seed = _setting.unsigned(seed, 64, "seed")
        options.first_sample = _setting.unsigned(first_sample, 64, "first_sample")
        options.n_samples = _setting.unsigned(n_samples, 64, "n_samples")
        options.n_times, options.substeps = len(times), _setting.unsigned(substeps, 32, "substeps")
        options.process = _setting.setting(process)
        options.times = (c_double * len(times))(*(float(t) for t in times))
        options.x0 = start._handle
        if keep is not None:
            options.n_keep = len(keep)
            options.keep = (c_uint32 * len(keep))(*(_setting.unsigned(k, 32, "keep") for k in keep))
        out = c_void_p()
        self._call("dfx_simulate", ctypes.byref(options), ctypes.byref(out))
        return Tensor(self._library, out.value or 0)

    # ---- driving

    def pump(self, budget_us: int) -> int:
        """Advances all jobs for about so many microseconds on this thread. How many jobs are unfinished."""
        left: int = self._library.dfx_engine_pump(self._handle, _setting.unsigned(budget_us, 32, "budget_us"))
        if left < 0:
            raise _errors.from_status(left, f"pump failed with {self._library.status_name(left)}")
        self._delivered()
        return left

    def _delivered(self) -> None:
        if self._log is not None:
            self._log.check()

    def memory(self) -> Memory:
        """What is taken of the memory, and the most that was."""
        used, peak = c_uint64(), c_uint64()
        self._call("dfx_engine_memory", ctypes.byref(used), ctypes.byref(peak))
        return Memory(used.value, peak.value)

    # ---- plugins

    def plugins(self, kind: Optional[str] = None) -> List[Dict[str, Any]]:
        """What can be named: kind, id, plugin, summary and config schema of each factory."""
        out = []
        for i in range(self._library.dfx_factory_count(self._handle)):
            json_text = c_char_p()
            self._call("dfx_factory_json", i, ctypes.byref(json_text))
            out.append(json.loads((json_text.value or b"{}").decode()))
        return [f for f in out if kind is None or f["kind"] == kind]

    def load_plugin(self, path: Path, sha256: Optional[str] = None) -> None:
        """Runs the code in a file: an absolute path, and the engine was made with ``load_plugins=True``."""
        digest = None if sha256 is None else _setting.text(sha256)
        self._call("dfx_plugin_load", _setting.path(path), digest)

    def __repr__(self) -> str:
        return f"diffx.Engine({'closed' if self.closed else self._library.path})"
