"""What is said to the engine in JSON: settings, configs, names; and the lists that a call borrows."""

from __future__ import annotations

import ctypes
import json
import os
from ctypes import c_char_p, c_void_p
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from . import _errors

# "cir", "cir:{...}", {"id": "cir", "config": {...}}
Setting = Union[str, Mapping[str, Any]]
# A config: JSON text, or what becomes JSON.
Config = Union[str, Mapping[str, Any]]
Path = Union[str, "os.PathLike[str]"]


def text(value: str) -> bytes:
    raw = value.encode()
    if b"\0" in raw:
        raise _errors.Invalid(f"a NUL in the text {value!r}")
    return raw


def path(value: Path) -> bytes:
    return text(os.fspath(value))


def to_json(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as e:
        raise _errors.Invalid(f"this is no JSON: {e}") from None


def config(given: Optional[Config], more: Mapping[str, Any]) -> Optional[bytes]:
    """A config and keyword arguments as one JSON text; the keywords win. None where nothing is said."""
    if isinstance(given, str):
        if not more:
            return text(given)
        try:
            given = json.loads(given)
        except ValueError as e:
            raise _errors.Format(f"config: {e}") from None
    if given is not None and not isinstance(given, Mapping):
        raise _errors.Invalid(f"config: want an object, not {type(given).__name__}")
    merged: Dict[str, Any] = {**(given or {}), **more}
    return text(to_json(merged)) if merged else None


def setting(value: Setting) -> bytes:
    """A setting as the text ``id:{...}``."""
    if isinstance(value, str):
        return text(value)
    extra = set(value) - {"id", "config"}
    if "id" not in value or extra:
        raise _errors.Invalid(f"a setting is an id, or an object of id and config, not {dict(value)!r}")
    inner = value.get("config")
    return text(str(value["id"]) + (f":{to_json(inner)}" if inner else ""))


def names(values: Sequence[str]) -> Any:
    """A C array of texts; it keeps them."""
    return (c_char_p * len(values))(*(text(v) for v in values)) if values else None


class Named:
    """Tensors by name for one call: the two C arrays, and what keeps them alive."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.keep: List[Tuple[str, Any]] = list(tensors.items())
        self.count = len(self.keep)
        self.names = names([name for name, _ in self.keep])
        handles = [tensor._handle for _, tensor in self.keep]
        self.tensors: Any = (c_void_p * len(handles))(*handles) if handles else None

    def into(self, options: Any, names: str, tensors: str, count: str) -> None:
        setattr(options, count, self.count)
        if self.count:
            setattr(options, names, ctypes.cast(self.names, ctypes.POINTER(c_char_p)))
            setattr(options, tensors, ctypes.cast(self.tensors, ctypes.POINTER(c_void_p)))
        options._keep = self


def unsigned(value: int, bits: int, what: str) -> int:
    """A whole number that fits; ctypes would cut it silently."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= value < 1 << bits:
        raise _errors.Invalid(f"{what} is {value!r}, want a whole number from 0 to 2^{bits} - 1")
    return int(value)


def sized(struct: Any) -> Any:
    """A fresh options struct that says how long it is."""
    return struct(struct_size=ctypes.sizeof(struct))


