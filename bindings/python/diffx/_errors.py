"""Errors: one exception per status of ``diffx.h``, made from one table."""

from __future__ import annotations

from typing import Dict, Type

from . import _abi


class Error(Exception):
    """A call of the engine failed. ``status`` is the code, ``source`` the number of the plugin at fault (0: none)."""

    status: int = 0

    def __init__(self, message: str = "", *, status: int = 0, source: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        if status:
            self.status = status

    def __str__(self) -> str:
        return self.message


class Invalid(Error, ValueError):
    """A bad argument."""


class State(Error, RuntimeError):
    """The right call at the wrong time."""


class NotFound(Error, LookupError):
    """No such file, id, name or tensor."""


class NoMemory(Error, MemoryError):
    """Memory, or the cap that was set on it, does not reach."""


class Io(Error, OSError):
    """The system refused to read or write."""


class Format(Error, ValueError):
    """A malformed file, config or plugin."""


class Unsupported(Error, NotImplementedError):
    """An op, type, device or option that is not available."""


class Version(Error):
    """A library, plugin or file of another version."""


class Cancelled(Error):
    """The job was cancelled."""


class Denied(Error, PermissionError):
    """The trust policy refused."""


class Device(Error):
    """The driver or a kernel failed."""


class Plugin(Error):
    """A plugin broke its contract."""


class Internal(Error):
    """A bug in diffx; the engine is poisoned."""


BY_STATUS: Dict[int, Type[Error]] = {
    _abi.E_INVALID: Invalid,
    _abi.E_STATE: State,
    _abi.E_NOT_FOUND: NotFound,
    _abi.E_NO_MEMORY: NoMemory,
    _abi.E_IO: Io,
    _abi.E_FORMAT: Format,
    _abi.E_UNSUPPORTED: Unsupported,
    _abi.E_VERSION: Version,
    _abi.E_CANCELLED: Cancelled,
    _abi.E_DENIED: Denied,
    _abi.E_DEVICE: Device,
    _abi.E_PLUGIN: Plugin,
    _abi.E_INTERNAL: Internal,
}
Error.__module__ = "diffx"
for _status, _class in BY_STATUS.items():
    _class.status = _status
    _class.__module__ = "diffx"  # where users meet them


def from_status(status: int, message: str, source: int = 0) -> Error:
    """The exception of a status; of one this package does not know, the base class."""
    return BY_STATUS.get(status, Error)(message, status=status, source=source)
