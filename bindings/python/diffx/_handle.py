"""Handles: a pointer of the library, released once, by ``close``, by ``with``, by the collector or at exit.

What must outlive every object of an engine (the function that takes log messages) hangs on the finalizer of each.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Optional, Type, TypeVar

from . import _errors
from ._library import Library

T = TypeVar("T", bound="Handle")


def _release(library: Library, function: str, pointer: int, pid: int, keep: Any) -> None:
    # the threads of an engine stay in the process that made it: a child after fork must not wait for them
    if os.getpid() == pid:
        getattr(library, function)(pointer)
    del keep


class Handle:
    """Base of everything that is released. After ``close`` every call raises ``diffx.State``."""

    _release_name = ""

    def __init__(self, library: Library, pointer: int, keep: Any = None) -> None:
        self._library = library
        self._pid = os.getpid()
        self._keep = keep
        self._pointer: Optional[int] = pointer
        self._finalizer = weakref.finalize(
            self, _release, library, self._release_name, pointer, self._pid, keep
        )

    @property
    def _handle(self) -> int:
        if self._pointer is None:
            raise _errors.State(f"this {type(self).__name__} is closed")
        if os.getpid() != self._pid:
            raise _errors.State(f"this {type(self).__name__} belongs to the process before the fork")
        return self._pointer

    def _call(self, name: str, *arguments: Any) -> None:
        self._library.call(name, self._handle, *arguments)

    @property
    def closed(self) -> bool:
        return self._pointer is None

    def close(self) -> None:
        """Releases it now. Closing twice is fine; what was made from it goes on."""
        self._pointer = None
        self._finalizer()

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Any, trace: Any) -> None:
        self.close()
