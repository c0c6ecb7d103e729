"""Jobs: a run under way, looked at by polling, and its end.

Nothing is called back: progress is read between short waits, so an interrupt of the keyboard is seen within one of
them, cancels the job and goes on as the exception it is.
"""

from __future__ import annotations

import ctypes
import sys
import time
from ctypes import c_void_p
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Union

from . import _abi, _errors, _lend, _setting
from ._handle import Handle
from ._setting import Path
from ._tensor import Tensor

if TYPE_CHECKING:
    from ._engine import Engine

_SLICE_NS = 50_000_000  # how late an interrupt may be seen
_STATES = ("queued", "running", "done", "failed", "cancelled")


class Progress(NamedTuple):
    """How far a job is: rows run, over all batches, of so many."""

    state: str
    step: int
    n_steps: int
    seconds: float

    @property
    def is_over(self) -> bool:
        return self.state not in ("queued", "running")


class Preview(NamedTuple):
    """An estimate and what it shows: row i is sample ``first_sample + i`` for i below ``n_samples``, after so many steps."""

    tensor: Tensor
    first_sample: int
    n_samples: int
    step: int


ProgressFunction = Callable[[Progress], Any]
ProgressOption = Union[bool, None, ProgressFunction]


class Job(Handle):
    """A run. Leaving its ``with`` block cancels it if it is not over."""

    _release_name = "dfx_job_release"

    def __init__(self, engine: "Engine", pointer: int) -> None:
        super().__init__(engine._library, pointer, engine._log)
        self._engine = engine

    @property
    def progress(self) -> Progress:
        out = _setting.sized(_abi.Progress)
        self._call("dfx_job_poll", ctypes.byref(out))
        self._engine._delivered()
        state = _STATES[out.state] if out.state < len(_STATES) else f"state {out.state}"
        return Progress(state, out.step, out.n_steps, out.elapsed_ns / 1e9)

    def wait(self, timeout: Optional[float] = None, progress: Optional[ProgressFunction] = None) -> bool:
        """Waits for the end; False when the time (in seconds) was up. A job that failed raises what it failed of.

        ``progress`` is called now and then, and at the end. An interrupt, or what ``progress`` raises, cancels the job.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            ns = _SLICE_NS if left is None else min(_SLICE_NS, int(left * 1e9))
            try:
                over = self._wait(ns)
            except _errors.Error:
                raise  # what the job failed of
            except BaseException:
                self._stop()
                raise
            if progress is not None:
                try:
                    progress(self.progress)
                except BaseException:
                    self._stop()
                    raise
            if over or left == 0.0:
                return over

    def _wait(self, ns: int) -> bool:
        try:
            self._call("dfx_job_wait", ns)
        except _errors.State:
            self._engine._delivered()
            if self.progress.is_over:
                raise
            return False
        finally:
            _lend.sweep()
        self._engine._delivered()
        return True

    def _stop(self) -> None:
        """Cancels and stays until it is over, which is at its next node."""
        if self.closed:
            return
        self.cancel()
        while not self.progress.is_over:
            try:
                self._wait(_SLICE_NS)
            except _errors.Error:
                return

    def cancel(self) -> None:
        """Asks it to stop. From any thread."""
        self._library.dfx_job_cancel(self._handle)

    def result(self, name: Optional[str] = None) -> Tensor:
        """A component by name (default: the first), ``"feasible"``, ``"log_weight"``; once it is done."""
        out = c_void_p()
        self._call("dfx_job_result", None if name is None else _setting.text(name), ctypes.byref(out))
        return Tensor(self._library, out.value or 0)

    def preview(self, name: Optional[str] = None) -> Tensor:
        """The newest estimate of one batch of a component; ``diffx.State`` while there is none."""
        out = c_void_p()
        self._call("dfx_job_preview", None if name is None else _setting.text(name), ctypes.byref(out))
        return Tensor(self._library, out.value or 0)

    def preview_at(self, name: Optional[str] = None) -> Preview:
        """The same, and which samples it shows."""
        out, what = c_void_p(), _setting.sized(_abi.Preview)
        text = None if name is None else _setting.text(name)
        self._call("dfx_job_preview_at", text, ctypes.byref(what), ctypes.byref(out))
        tensor = Tensor(self._library, out.value or 0)
        return Preview(tensor, what.first_sample, what.n_samples, what.step)

    def save(self, path: Path) -> None:
        """Writes the job so that ``Pipeline.resume`` goes on from here."""
        self._call("dfx_job_save", _setting.path(path))

    def close(self) -> None:
        super().close()
        _lend.sweep()


def follow(job: Job, progress: ProgressOption) -> None:
    """Waits with a bar, a function, or nothing."""
    if progress is not True:
        job.wait(progress=progress or None)
        return
    with Bar("steps") as bar:
        job.wait(progress=lambda p: bar.at(p.step, p.n_steps))


class Bar:
    """tqdm, if it is there; else a line that counts on a terminal."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.bar: Any = None
        self.shown = ""
        try:
            from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

            self.make: Any = tqdm
        except ImportError:
            self.make = None

    def at(self, step: int, of: int, **values: float) -> None:
        if self.make is not None:
            if self.bar is None:
                self.bar = self.make(total=of, unit=self.unit)
            self.bar.update(step - self.bar.n)
            if values:
                self.bar.set_postfix(values)
        elif sys.stderr.isatty():
            more = "".join(f"  {k} {v:.4g}" for k, v in values.items())
            self.shown = f"\r{step}/{of} {self.unit}{more}"
            sys.stderr.write(self.shown)
            sys.stderr.flush()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.shown:
            sys.stderr.write("\n")
