"""The shared library: where it is looked for, and calls whose failures become exceptions.

``DIFFX_LIBRARY`` names a file and wins. Then a library beside the package, as a wheel may carry it; then that of the tree
which the package was installed with; then what the system's loader finds.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any, List, Optional

from . import _abi, _errors

NAMES = ("libdiffx.so.0", "libdiffx.so")


class Library:
    """The functions of ``diffx.h`` with their types set. Calls release the interpreter lock, as ctypes does."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.raw = ctypes.CDLL(path)
        for name, (result, arguments) in _abi.FUNCTIONS.items():
            try:
                function = getattr(self.raw, name)
            except AttributeError:
                raise _errors.Version(f"{path}: has no {name}; it is another version, or no libdiffx") from None
            function.restype = result
            function.argtypes = arguments
            setattr(self, name, function)
        self._check_version()

    def _check_version(self) -> None:
        version = self.dfx_api_version()
        major, minor = version >> 16, version & 0xFFFF
        if major != _abi.API_MAJOR or minor < _abi.API_MINOR:
            raise _errors.Version(
                f"{self.path}: its API is {major}.{minor}, want {_abi.API_MAJOR}.{_abi.API_MINOR} or later"
            )

    def __getattr__(self, name: str) -> Any:  # only what the table did not set
        raise AttributeError(f"libdiffx has no {name}")

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function that ends in a ``dfx_error``, and raises what it reports."""
        error = _abi.Error(struct_size=ctypes.sizeof(_abi.Error))
        status = getattr(self, name)(*arguments, ctypes.byref(error))
        if status < 0:
            message = error.message.decode("utf-8", "replace") or f"{name} failed with {self.status_name(status)}"
            raise _errors.from_status(status, message, error.source)

    def status_name(self, status: int) -> str:
        name: bytes = self.dfx_status_name(status)
        return name.decode()


def candidates() -> List[str]:
    """Where the library is looked for, in order."""
    named = os.environ.get("DIFFX_LIBRARY")
    if named:
        return [named]
    package = os.path.dirname(os.path.abspath(__file__))
    folders = [package, os.path.dirname(package)]
    tree, found, rest = package.rpartition(os.path.join("", "share", "diffx", "python", ""))
    if found and rest == "diffx":
        folders.append(os.path.join(tree, "lib"))
    beside = [os.path.join(folder, name) for folder in folders for name in NAMES]
    return [path for path in beside if os.path.isfile(path)] + list(NAMES)


_lock = threading.Lock()
_library: Optional[Library] = None


def library() -> Library:
    """The library of this process, loaded at the first call."""
    global _library
    with _lock:
        if _library is None:
            tried = []
            for path in candidates():
                try:
                    _library = Library(path)
                    break
                except OSError as e:
                    tried.append(str(e))
            else:
                raise _errors.NotFound(
                    "libdiffx was not found; set DIFFX_LIBRARY to the file: " + "; ".join(tried),
                    status=_abi.E_NOT_FOUND,
                )
        return _library


def version() -> str:
    """The version of the library, as ``0.1.0``."""
    return str(library().dfx_version_string().decode())


def has_feature(name: str) -> bool:
    """Whether the library was built with ``"cpu"``, ``"cuda"``, ``"train"``."""
    return bool(library().dfx_has_feature(name.encode()))
