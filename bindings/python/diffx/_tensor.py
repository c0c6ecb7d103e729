"""Tensors: contiguous, row-major, immutable arrays of the engine, in and out without copying.

A tensor is an array to everything that asks: ``numpy.asarray(t)`` and ``torch.from_dlpack(t)`` look at its memory.
"""

from __future__ import annotations

import array
import ctypes
import importlib
import struct
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple

from . import _abi, _dlpack, _errors, _lend
from ._handle import Handle
from ._library import Library

if TYPE_CHECKING:
    from numpy import ndarray

    Array = ndarray[Any, Any]

# Name, code, bytes, letter of numpy and array.array.
_TYPES: Tuple[Tuple[str, int, int, str], ...] = (
    ("f32", _abi.F32, 4, "f"),
    ("f16", _abi.F16, 2, "e"),
    ("bf16", _abi.BF16, 2, ""),
    ("i32", _abi.I32, 4, "i"),
    ("i64", _abi.I64, 8, "q"),
    ("u8", _abi.U8, 1, "B"),
    ("f64", _abi.F64, 8, "d"),
    ("bool", _abi.BOOL, 1, "?"),
)
_BY_CODE = {code: (name, size, letter) for name, code, size, letter in _TYPES}
_BY_NAME = {name: (code, size, letter) for name, code, size, letter in _TYPES}
_BY_LETTER = {letter: name for name, _, _, letter in _TYPES if letter}


def numpy_or_none() -> Optional[Any]:
    """NumPy, if it is there: nothing here needs it but views of arrays."""
    try:
        import numpy

        return numpy
    except ImportError:
        return None


class _Held:
    """One more hold on a tensor's memory, for whatever looks at it after the tensor itself is closed."""

    def __init__(self, tensor: "Tensor") -> None:
        library, pointer = tensor._library, tensor._handle
        library.dfx_tensor_retain(pointer)
        self._handle = _Retained(library, pointer)
        self.address, self.bytes = tensor._map()


class _Retained(Handle):
    _release_name = "dfx_tensor_release"


class _ArraySource(_Held):
    """What numpy makes a view of; it becomes the base of the array."""

    def __init__(self, tensor: "Tensor", typestr: str) -> None:
        super().__init__(tensor)
        self.__array_interface__: Dict[str, Any] = {
            "version": 3,
            "shape": tensor.shape,
            "typestr": typestr,
            "data": (self.address, True),
        }


class Tensor(Handle):
    """An array of the engine. Made by ``Engine.tensor`` and by everything that gives results."""

    _release_name = "dfx_tensor_release"

    def __init__(self, library: Library, pointer: int) -> None:
        super().__init__(library, pointer)
        desc = _abi.Desc()
        self._call("dfx_tensor_desc", ctypes.byref(desc))
        self._shape: Tuple[int, ...] = tuple(desc.dims[: desc.rank])
        self._code = int(desc.dtype)

    @property
    def shape(self) -> Tuple[int, ...]:
        return self._shape

    @property
    def ndim(self) -> int:
        return len(self._shape)

    @property
    def size(self) -> int:
        n = 1
        for d in self._shape:
            n *= int(d)
        return n

    @property
    def dtype(self) -> str:
        """``"f32"``, ``"f64"``, ``"f16"``, ``"bf16"``, ``"i32"``, ``"i64"``, ``"u8"`` or ``"bool"``."""
        return _BY_CODE[self._code][0] if self._code in _BY_CODE else f"type {self._code}"

    @property
    def nbytes(self) -> int:
        return self._map()[1]

    def _map(self) -> Tuple[int, int]:
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._call("dfx_tensor_map", ctypes.byref(data), ctypes.byref(size))
        return data.value or 0, size.value

    def numpy(self) -> Array:
        """A read-only array over this memory, which stays as long as the array does; no copy.

        bf16, which NumPy lacks, comes as the type of ``ml_dtypes`` if that is installed, else as 16-bit whole numbers.
        """
        numpy = numpy_or_none()
        if numpy is None:
            raise _errors.Unsupported("numpy is not installed; memoryview() and tolist() do without")
        letter = _BY_CODE[self._code][2]
        dtype = numpy.dtype(letter or "u2")
        if self.size == 0:
            out = numpy.empty(self._shape, dtype)
        else:
            out = numpy.asarray(_ArraySource(self, dtype.str))
        if self._code == _abi.BF16:
            out = _as_bf16(out)
        out.flags.writeable = False
        view: Array = out
        return view

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Array:
        out = self.numpy()
        wanted = out.dtype if dtype is None else dtype
        if copy is False and out.dtype != wanted:
            raise ValueError(f"a view of {self.dtype} cannot be {wanted} without a copy")
        typed: Array = out.astype(wanted, copy=bool(copy))
        return typed

    def memoryview(self) -> memoryview:
        """A read-only view of the elements, without NumPy; bf16 and f16 as 16-bit whole numbers."""
        held = _Held(self)
        letter = _BY_CODE[self._code][2].replace("e", "") or "H"
        if held.bytes == 0:
            return memoryview(b"")
        block: Any = (ctypes.c_char * held.bytes).from_address(held.address)
        block._held = held
        flat: Any = memoryview(block).cast("B").toreadonly()
        view: memoryview = flat.cast(letter, self._shape) if self.ndim else flat.cast(letter)
        return view

    def tolist(self) -> Any:
        """Nested lists of numbers; a number for rank 0."""
        if self.size == 0:
            return _empty(self._shape)
        if self._code not in (_abi.BF16, _abi.F16):
            view: Any = self.memoryview()
            return view.tolist() if self.ndim else view[0]
        words = self.memoryview().cast("B").cast("H").tolist()
        if self._code == _abi.BF16:  # the upper half of an f32
            wide = struct.unpack(f"{len(words)}f", struct.pack(f"{len(words)}I", *(w << 16 for w in words)))
        else:
            wide = struct.unpack(f"{len(words)}e", struct.pack(f"{len(words)}H", *words))
        return _nested(iter(wide), self._shape)

    def tobytes(self) -> bytes:
        address, size = self._map()
        return ctypes.string_at(address, size) if size else b""

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("len() of a tensor of rank 0")
        return self._shape[0]

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: Optional[Tuple[int, int]] = None,
        dl_device: Optional[Tuple[int, int]] = None,
        copy: Optional[bool] = None,
    ) -> Any:
        """A DLPack capsule. To a consumer of before DLPack 1, which knows no read-only memory, a copy is given."""
        return _dlpack.export(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> Tuple[int, int]:
        return _dlpack.CPU, 0

    def close(self) -> None:
        super().close()
        _lend.sweep()

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"diffx.Tensor({self.dtype}{list(self._shape)}{state})"


def _empty(shape: Sequence[int]) -> Any:
    return [_empty(shape[1:]) for _ in range(shape[0])] if shape else []


def _nested(values: Iterator[float], shape: Sequence[int]) -> Any:
    return [_nested(values, shape[1:]) for _ in range(shape[0])] if shape else next(values)


def _as_bf16(bits: Any) -> Any:
    try:
        # not by `import`: a checker of types may not have it either
        ml_dtypes = importlib.import_module("ml_dtypes")
    except ImportError:
        return bits
    return bits.view(ml_dtypes.bfloat16)


# ---- in


def create(library: Library, engine: int, value: Any, dtype: Optional[str], copy: bool) -> Tensor:
    """A tensor of anything: an array (lent, unless ``copy``), what speaks DLPack, a buffer, numbers."""
    if isinstance(value, Tensor):
        if dtype is None or dtype == value.dtype:
            return value
        if value.dtype == "bf16":
            raise _errors.Unsupported(f"bf16 to {dtype}: read it by numpy() with ml_dtypes, or tolist()")
        value = value.numpy()
    if dtype is not None and dtype not in _BY_NAME:
        raise _errors.Invalid(f"dtype {dtype!r}, want one of {', '.join(_BY_NAME)}")
    numpy = numpy_or_none()
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _of_array(library, engine, numpy, value, dtype, copy)
    if hasattr(value, "__dlpack__") and dtype is None:
        return taken(library, engine, value, copy)
    if numpy is not None:
        numbers = numpy.asarray(value)
        if dtype is None and numbers.dtype.kind in "iuf" and not hasattr(value, "dtype"):
            dtype = "f32" if numbers.dtype.kind == "f" else None
        return _of_array(library, engine, numpy, numbers, dtype, copy)
    return _of_numbers(library, engine, value, dtype)


def taken(library: Library, engine: int, source: Any, copy: bool) -> Tensor:
    """A tensor over what ``source.__dlpack__`` gives."""
    loan = _dlpack.take(source)
    desc = describe(_BY_CODE[loan.code][0], loan.shape)
    try:
        if not copy and _lend.can_lend():
            return _lent(library, engine, desc, loan.address, loan, loan.give_back)
        out = _copied(library, engine, desc, loan.address)
    except BaseException:
        if not _lend.holds(loan):  # else it goes back when the library is done
            loan.give_back()
        raise
    loan.give_back()
    return out


def describe(dtype: str, shape: Sequence[int]) -> _abi.Desc:
    if len(shape) > _abi.MAX_RANK:
        raise _errors.Invalid(f"rank {len(shape)}, want at most {_abi.MAX_RANK}")
    desc = _abi.Desc(dtype=_BY_NAME[dtype][0], rank=len(shape))
    for i, d in enumerate(shape):
        desc.dims[i] = d
    return desc


def _copied(library: Library, engine: int, desc: _abi.Desc, address: int) -> Tensor:
    out = ctypes.c_void_p()
    library.call("dfx_tensor_create", engine, ctypes.byref(desc), address or None, ctypes.byref(out))
    return Tensor(library, out.value or 0)


def _lent(
    library: Library, engine: int, desc: _abi.Desc, address: int, owner: Any, done: Any = None
) -> Tensor:
    out = ctypes.c_void_p()

    def give(free: Any, user: Any) -> None:
        reference, result = ctypes.byref(desc), ctypes.byref(out)
        library.call("dfx_tensor_wrap", engine, reference, address or None, free, user, result)

    try:
        _lend.lend(owner, give, lambda: bool(out), done)
    except BaseException:
        if out:  # interrupted: nobody else will let go of it
            library.dfx_tensor_release(out)
        raise
    return Tensor(library, out.value or 0)


def _of_array(
    library: Library, engine: int, numpy: Any, value: Any, dtype: Optional[str], copy: bool
) -> Tensor:
    name = dtype or ("bf16" if value.dtype.name == "bfloat16" else _BY_LETTER.get(value.dtype.char))
    if name is None:
        # a whole number of another width, or of another letter for the same width
        kind, size = value.dtype.kind, value.dtype.itemsize
        same = {"i4": "i32", "i8": "i64", "u1": "u8", "i1": "i32", "i2": "i32", "u2": "i32", "u4": "i64"}
        name = same.get(f"{kind}{size}")
    if name is None:
        known = ", ".join(_BY_NAME)
        raise _errors.Unsupported(f"an array of {value.dtype} is no tensor; the types are {known}")
    letter = _BY_NAME[name][2]
    if letter:
        wanted = numpy.dtype(letter)
    elif value.dtype.name == "bfloat16":
        wanted = value.dtype
    else:
        raise _errors.Unsupported("bf16 comes in by DLPack or as an array of ml_dtypes.bfloat16")
    whole = numpy.require(value, wanted, ["C", "A"])
    desc, address = describe(name, value.shape), whole.ctypes.data
    if copy or whole.size == 0 or not _lend.can_lend():
        return _copied(library, engine, desc, address if whole.size else 0)
    return _lent(library, engine, desc, address, whole)


def _of_numbers(library: Library, engine: int, value: Any, dtype: Optional[str]) -> Tensor:
    """Without NumPy: a buffer as it is, or nested lists of numbers."""
    if isinstance(value, (bytes, bytearray, memoryview, array.array)):
        view = memoryview(value)
        name = dtype or _BY_LETTER.get({"l": "q" if view.itemsize == 8 else "i"}.get(view.format, view.format))
        if name is None or _BY_NAME[name][1] != view.itemsize or not view.c_contiguous:
            raise _errors.Unsupported(f"a buffer of format {view.format!r} is no tensor")
        raw = view.tobytes()
        return _from_bytes(library, engine, describe(name, view.shape or ()), raw)
    shape, flat = _flatten(value)
    name = dtype or ("f32" if any(isinstance(x, float) for x in flat) else "i64")
    code = _BY_NAME[name][2]
    if not code or code in "e?":
        raise _errors.Unsupported(f"numbers as {name} need numpy")
    return _from_bytes(library, engine, describe(name, shape), array.array(code, flat).tobytes())


def _from_bytes(library: Library, engine: int, desc: _abi.Desc, raw: bytes) -> Tensor:
    block = ctypes.create_string_buffer(raw, len(raw)) if raw else None
    return _copied(library, engine, desc, ctypes.addressof(block) if block else 0)


def _flatten(value: Any) -> Tuple[List[int], List[Any]]:
    if not isinstance(value, (list, tuple)):
        return [], [value]
    parts = [_flatten(v) for v in value]
    if any(shape != parts[0][0] for shape, _ in parts):
        raise _errors.Invalid("lists of numbers must have one length on each level")
    inner = parts[0][0] if parts else []
    return [len(parts)] + inner, [x for _, flat in parts for x in flat]


