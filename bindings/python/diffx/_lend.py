"""Memory lent to the library, kept alive until the library says that it is done, without a call back.

``dfx_tensor_wrap`` reports the end by calling a function, on any thread. A Python function there would run on a thread
of the engine, take the interpreter lock, and could meet an interpreter that is shutting down. So the function is
``sem_post`` of the C library and what it is given is a semaphore of ours: the engine's thread raises a count, and we
look at it whenever something is lent, closed or waited for. Where there is no such semaphore, data are copied.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Callable, List, Optional, Tuple

from . import _abi

_SEMAPHORE_BYTES = 64  # sem_t is 32 bytes on 64-bit Linux, 16 on 32-bit


def _system() -> Optional[Any]:
    try:
        system = ctypes.CDLL(None)
        for name in ("sem_init", "sem_post", "sem_trywait"):
            getattr(system, name).restype = ctypes.c_int
        system.sem_init.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint]
        system.sem_trywait.argtypes = [ctypes.c_void_p]
        probe = ctypes.create_string_buffer(_SEMAPHORE_BYTES)
        if system.sem_init(probe, 0, 1) != 0 or system.sem_trywait(probe) != 0:
            return None
        return system
    except (OSError, AttributeError):
        return None


_SYSTEM = _system()
# A function for (user, data) that posts the semaphore `user`; the second argument stays unread, as C allows.
_POST = ctypes.cast(_SYSTEM.sem_post, _abi.free_fn) if _SYSTEM is not None else None

_lock = threading.Lock()
_lent: List["Loan"] = []


class Loan:
    """What the library holds: the semaphore it will post, the owner of the memory, and what is to be done then."""

    def __init__(self, owner: Any, done: Optional[Callable[[], None]] = None) -> None:
        assert _SYSTEM is not None
        self.semaphore = ctypes.create_string_buffer(_SEMAPHORE_BYTES)
        _SYSTEM.sem_init(self.semaphore, 0, 0)
        self.owner = owner
        self.done = done

    def is_over(self) -> bool:
        return bool(_SYSTEM is not None and _SYSTEM.sem_trywait(self.semaphore) == 0)


def can_lend() -> bool:
    return _SYSTEM is not None


def lend(
    owner: Any,
    give: Callable[[Any, Any], None],
    taken: Callable[[], bool],
    done: Optional[Callable[[], None]] = None,
) -> None:
    """Calls ``give(free_fn, user)``. If ``taken()`` then, ``owner`` lives until the library is done, then ``done`` runs.

    An interrupt may raise out of ``give`` after the library took it: what counts is ``taken``, not how ``give`` ended.
    """
    loan = Loan(owner, done)
    with _lock:  # first of all: the library may hold it from any point of `give` on
        _lent.append(loan)
    try:
        give(_POST, ctypes.addressof(loan.semaphore))
    finally:
        if not taken():
            with _lock:
                _lent[:] = [other for other in _lent if other is not loan]
    sweep()


def holds(owner: Any) -> bool:
    """Whether the library holds this very object."""
    return any(held is owner for held in outstanding())


def sweep() -> None:
    """Lets go of what the library is done with."""
    if not _lent or not _lock.acquire(blocking=False):
        return  # nothing there, or another thread (or this one, below a collection) is at it
    try:
        over: List[Loan] = []
        rest: List[Loan] = []
        for loan in _lent:
            (over if loan.is_over() else rest).append(loan)
        _lent[:] = rest
    finally:
        _lock.release()
    for loan in over:  # outside the lock: owners may run code of their own when they go
        if loan.done is not None:
            loan.done()


def outstanding() -> Tuple[Any, ...]:
    """The owners of what the library still holds."""
    sweep()
    with _lock:
        return tuple(loan.owner for loan in _lent)
