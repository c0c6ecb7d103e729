"""libdiffx beside onnxruntime in one process: both sample and infer in turn, in both orders of loading, and give what each
gives alone. usage: neighbours.py LIBRARY first|second|alone"""
import ctypes
import sys
import threading


class Error(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("status", ctypes.c_int32), ("source", ctypes.c_uint32),
                ("length", ctypes.c_uint32), ("message", ctypes.c_char * 496)]


class JobOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("seed", ctypes.c_uint64),
                ("first", ctypes.c_uint64), ("n_samples", ctypes.c_uint64), ("n_steps", ctypes.c_uint32),
                ("preview", ctypes.c_uint32), ("n_inputs", ctypes.c_uint32), ("reserved", ctypes.c_uint32),
                ("names", ctypes.c_void_p), ("inputs", ctypes.c_void_p), ("progress", ctypes.c_void_p),
                ("user", ctypes.c_void_p)]


def fnv(data):
    h = 0x811C9DC5
    for byte in data:
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def sampler(path):
    lib = ctypes.CDLL(path)
    err = Error(struct_size=ctypes.sizeof(Error))
    for name in ["engine", "model", "pipeline", "job", "tensor"]:
        getattr(lib, f"dfx_{name}_release").restype = None

    def call(name, *args):
        if getattr(lib, name)(*args, ctypes.byref(err)) != 0:
            raise RuntimeError(f"{name}: {err.message.decode()}")

    def sample():
        e, m, p, j, x, data = (ctypes.c_void_p() for _ in range(6))
        size = ctypes.c_size_t()
        opt = JobOptions(struct_size=ctypes.sizeof(JobOptions), seed=5, n_samples=16, n_steps=6)
        call("dfx_engine_create", None, ctypes.byref(e))
        call("dfx_model_open", e, b"vix", None, ctypes.byref(m))
        call("dfx_pipeline_create", m, None, ctypes.byref(p))
        call("dfx_job_start", p, ctypes.byref(opt), ctypes.byref(j))
        call("dfx_job_wait", j, ctypes.c_uint64(2**64 - 1))
        call("dfx_job_result", j, None, ctypes.byref(x))
        call("dfx_tensor_map", x, ctypes.byref(data), ctypes.byref(size))
        sum_ = fnv(ctypes.string_at(data, size.value))
        for name, handle in [("tensor", x), ("job", j), ("pipeline", p), ("model", m), ("engine", e)]:
            getattr(lib, f"dfx_{name}_release")(handle)
        return sum_

    return sample


def field(number, wire, payload):
    """One field of a protocol buffer."""
    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])
    head = varint(number << 3 | wire)
    return head + (varint(payload) if wire == 0 else varint(len(payload)) + payload)


def network():
    """The smallest ONNX model that multiplies matrices: y = softmax(x x), written by hand."""
    def value(name):
        dims = b"".join(field(1, 2, field(1, 0, 64)) for _ in range(2))
        return field(1, 2, name) + field(2, 2, field(1, 2, field(1, 0, 1) + field(2, 2, dims)))
    product = field(1, 2, b"x") + field(1, 2, b"x") + field(2, 2, b"z") + field(4, 2, b"MatMul")
    soft = field(1, 2, b"z") + field(2, 2, b"y") + field(4, 2, b"Softmax")
    graph = field(1, 2, product) + field(1, 2, soft) + field(2, 2, b"g") + field(11, 2, value(b"x")) + field(12, 2, value(b"y"))
    return field(1, 0, 8) + field(7, 2, graph) + field(8, 2, field(2, 0, 13))


def inference():
    import numpy
    import onnxruntime
    session = onnxruntime.InferenceSession(network(), providers=["CPUExecutionProvider"])
    x = numpy.linspace(-1, 1, 64 * 64, dtype=numpy.float32).reshape(64, 64)
    return lambda: fnv(session.run(None, {"x": x})[0].tobytes())


library, order = sys.argv[1:]
if order == "alone":
    print(f"diffx {sampler(library)():08x}")
    sys.exit()
makers = [("diffx", lambda: sampler(library)), ("onnxruntime", inference)]
runs = {name: make() for name, make in (makers if order == "first" else makers[::-1])}
said = {name: {run()} for name, run in runs.items()}
threads = [threading.Thread(target=lambda n=n, r=r: said[n].add(r())) for n, r in runs.items() for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name, run in runs.items():
    said[name].add(run())
    print(name, *(f"{s:08x}" for s in said[name]))
