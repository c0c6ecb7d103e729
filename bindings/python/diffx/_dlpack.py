"""DLPack: the exchange format of arrays between libraries, host memory only.

Out, the library makes the exported tensor itself; here it only gets its capsule. In, a capsule of either kind is taken
over (and renamed ``used_...``, so that nobody takes it again) and given back by us, on a Python thread, when the engine is
done: deleters of Python libraries take the interpreter lock, which no thread of the engine shall do.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p, pythonapi
from typing import TYPE_CHECKING, Any, Optional, Tuple

from . import _abi, _errors

if TYPE_CHECKING:
    from ._tensor import Tensor

CPU = 1
CUDA_HOST = 3  # pinned by a driver: as good as any to read
MAJOR = 1

_deleter = ctypes.CFUNCTYPE(None, c_void_p)


class Device(ctypes.Structure):
    _fields_ = [("kind", c_int32), ("id", c_int32)]


class DataType(ctypes.Structure):
    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device", Device),
        ("ndim", c_int32),
        ("dtype", DataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class Managed(ctypes.Structure):
    """``DLManagedTensor``, of before DLPack 1."""

    _fields_ = [("tensor", DLTensor), ("context", c_void_p), ("deleter", _deleter)]


class ManagedVersioned(ctypes.Structure):
    """``DLManagedTensorVersioned``."""

    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", _deleter),
        ("flags", c_uint64),
        ("tensor", DLTensor),
    ]


# (code, bits) of DLPack -> ours.
_TYPES = {
    (2, 32): _abi.F32,
    (2, 64): _abi.F64,
    (2, 16): _abi.F16,
    (4, 16): _abi.BF16,
    (0, 32): _abi.I32,
    (0, 64): _abi.I64,
    (1, 8): _abi.U8,
    (6, 8): _abi.BOOL,
}

# Names live as long as the process: a capsule keeps the pointer.
_NAME, _USED = b"dltensor", b"used_dltensor"
_NAME_VERSIONED, _USED_VERSIONED = b"dltensor_versioned", b"used_dltensor_versioned"

_is_valid = pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, [c_void_p, ctypes.c_char_p]
_get_pointer = pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = c_void_p, [c_void_p, ctypes.c_char_p]
_set_name = pythonapi.PyCapsule_SetName
_set_name.restype, _set_name.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
_new = pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [c_void_p, ctypes.c_char_p, c_void_p]


def _drop(
    capsule: int, is_valid: Any = _is_valid, get_pointer: Any = _get_pointer, name: bytes = _NAME_VERSIONED
) -> None:
    # a capsule dies under the interpreter lock; one that was taken over has another name and is not ours any more
    if is_valid(capsule, name):
        managed = ctypes.cast(get_pointer(capsule, name), POINTER(ManagedVersioned))
        managed.contents.deleter(ctypes.addressof(managed.contents))


# The address of the capsule, not the object: it is being destroyed and must not be held.
_destructor = ctypes.PYFUNCTYPE(None, c_void_p)(_drop)
# Never freed: a capsule may outlive the modules at exit.
pythonapi.Py_IncRef(ctypes.py_object(_destructor))


def export(
    tensor: "Tensor",
    stream: Any,
    max_version: Optional[Tuple[int, int]],
    device: Optional[Tuple[int, int]],
    copy: Optional[bool],
) -> Any:
    """The capsule of ``Tensor.__dlpack__``."""
    if stream is not None:
        raise _errors.Invalid(f"stream {stream!r}: host memory has none")
    if device is not None and tuple(device) != (CPU, 0):
        raise BufferError(f"device {tuple(device)} is asked for, the tensor is in host memory, {(CPU, 0)}")
    versioned = max_version is not None and max_version[0] >= MAJOR
    if copy or not versioned:
        if copy is False:
            raise BufferError("before DLPack 1 read-only memory cannot be said to be so: ask for a copy, or version 1")
        array = tensor.numpy().copy()
        return array.__dlpack__(max_version=max_version) if versioned else array.__dlpack__()
    out = c_void_p()
    tensor._call("dfx_tensor_to_dlpack", None, ctypes.byref(out))
    return _new(out, _NAME_VERSIONED, ctypes.cast(_destructor, c_void_p))


class Taken:
    """A tensor of another library, ours until it is given back."""

    def __init__(self, managed: Any) -> None:
        self._managed = managed
        t = managed.contents.tensor
        if t.device.kind not in (CPU, CUDA_HOST):
            raise _errors.Unsupported(f"dlpack device kind {t.device.kind}, want host memory")
        kind = (t.dtype.code, t.dtype.bits)
        if kind not in _TYPES or t.dtype.lanes != 1:
            raise _errors.Unsupported(f"dlpack type {kind}, lanes {t.dtype.lanes} is none of ours")
        self.code: int = _TYPES[kind]
        self.shape: Tuple[int, ...] = tuple(t.shape[i] for i in range(t.ndim))
        if t.strides:
            self._check_strides([t.strides[i] for i in range(t.ndim)])
        self.address: int = (t.data or 0) + t.byte_offset

    def _check_strides(self, strides: Any) -> None:
        expected = 1
        for dim, stride in reversed(list(zip(self.shape, strides))):
            if dim > 1 and stride != expected and 0 not in self.shape:
                raise _errors.Unsupported(
                    f"dlpack strides {strides} of {list(self.shape)}, want row-major without gaps"
                )
            expected *= dim

    def give_back(self) -> None:
        managed, self._managed = self._managed, None
        if managed is not None and managed.contents.deleter:
            managed.contents.deleter(ctypes.addressof(managed.contents))


def take(source: Any) -> Taken:
    """Takes over what ``source.__dlpack__`` gives, without a copy. On failure it stays the source's."""
    try:
        capsule = source.__dlpack__(max_version=(MAJOR, 1))
    except TypeError:  # a producer of before DLPack 1
        capsule = source.__dlpack__()
    if _is_valid(id(capsule), _NAME_VERSIONED):
        versioned = ctypes.cast(_get_pointer(id(capsule), _NAME_VERSIONED), POINTER(ManagedVersioned))
        if versioned.contents.major != MAJOR:
            raise _errors.Version(f"dlpack {versioned.contents.major}, want {MAJOR}.x")
        taken = Taken(versioned)
        _set_name(capsule, _USED_VERSIONED)
        return taken
    if _is_valid(id(capsule), _NAME):
        taken = Taken(ctypes.cast(_get_pointer(id(capsule), _NAME), POINTER(Managed)))
        _set_name(capsule, _USED)
        return taken
    raise _errors.Invalid("__dlpack__ gave no capsule named dltensor or dltensor_versioned: was it taken before?")
