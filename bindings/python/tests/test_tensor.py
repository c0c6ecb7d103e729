"""Arrays in and out without copying, and who keeps whose memory alive."""

import gc
import importlib
import threading
import unittest
import unittest.mock
import weakref

import diffx
from diffx import _dlpack, _lend
from diffx._library import Library

try:
    import numpy as np
except ImportError:
    raise unittest.SkipTest("skipped: numpy is not installed")


class Tensors(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = diffx.Engine(threaded=False)
        self.addCleanup(self.engine.close)

    def test_an_array_goes_in_and_out_without_a_copy(self) -> None:
        for dtype, name in [("f4", "f32"), ("f8", "f64"), ("i4", "i32"), ("i8", "i64"), ("u1", "u8"), ("?", "bool"), ("f2", "f16")]:
            a = (np.arange(24) % 2).reshape(2, 3, 4).astype(dtype)
            t = self.engine.tensor(a)
            self.assertEqual((t.dtype, t.shape, t.nbytes), (name, (2, 3, 4), a.nbytes))
            b = t.numpy()
            self.assertEqual(b.dtype, a.dtype)
            self.assertTrue((a == b).all())
            self.assertEqual(b.ctypes.data, a.ctypes.data)
            self.assertFalse(b.flags.writeable)
            self.assertEqual(t.tobytes(), a.tobytes())
            self.assertEqual(t.tolist(), a.tolist())
            words = a.view("u2") if name == "f16" else a
            self.assertEqual(t.memoryview().tolist(), words.tolist())
            with self.assertRaises(ValueError):
                b[0, 0, 0] = 1

    def test_bf16_has_the_values_of_ml_dtypes(self) -> None:
        try:
            import ml_dtypes
        except ImportError:
            self.skipTest("skipped: ml_dtypes is not installed")
        a = np.array([[1.5, -2.0], [0.25, 3.0e38]]).astype(ml_dtypes.bfloat16)
        t = self.engine.tensor(a)
        self.assertEqual(t.dtype, "bf16")
        self.assertEqual(t.numpy().dtype, a.dtype)
        self.assertEqual(t.numpy().ctypes.data, a.ctypes.data)
        self.assertEqual(t.tolist(), a.astype("f8").tolist())

    def test_what_is_no_row_major_array_is_copied(self) -> None:
        a = np.arange(12.0).reshape(3, 4)
        for given in (a.T, a[:, ::2], a.astype(">f8")):
            t = self.engine.tensor(given)
            self.assertTrue((t.numpy() == given).all())
            self.assertNotEqual(t.numpy().ctypes.data, given.ctypes.data)
        t = self.engine.tensor(a, copy=True)
        a[:] = -1
        self.assertEqual(t.tolist()[2][3], 11.0)

    def test_numbers_and_empty_arrays(self) -> None:
        self.assertEqual(self.engine.tensor([[1.5, 2], [3, 4]]).tolist(), [[1.5, 2.0], [3.0, 4.0]])
        self.assertEqual(self.engine.tensor([1.5]).dtype, "f32")
        self.assertEqual(self.engine.tensor([1, 2]).dtype, "i64")
        self.assertEqual(self.engine.tensor(2.5, "f64").tolist(), 2.5)
        self.assertEqual(self.engine.tensor(2.5).shape, ())
        e = self.engine.tensor(np.zeros((3, 0, 2), "f4"))
        self.assertEqual((e.shape, e.nbytes, e.tolist(), e.numpy().shape), ((3, 0, 2), 0, [[], [], []], (3, 0, 2)))
        with self.assertRaises(diffx.Unsupported):
            self.engine.tensor(np.zeros(3, "c16"))
        with self.assertRaises(diffx.Invalid):
            self.engine.tensor(np.zeros((1,) * 9))
        with self.assertRaises(diffx.Invalid):
            self.engine.tensor([1], "f80")

    def test_it_is_an_array_to_numpy(self) -> None:
        t = self.engine.tensor(np.arange(4.0))
        self.assertEqual(np.sum(t), 6.0)
        self.assertEqual(np.asarray(t, dtype="f4").dtype, np.float32)
        self.assertEqual(np.asarray(t).ctypes.data, t.numpy().ctypes.data)
        self.assertTrue(np.array(t).flags.writeable)
        self.assertEqual(len(t), 4)

    def test_a_lent_array_lives_as_long_as_the_tensor(self) -> None:
        a = np.arange(5.0)
        gone = weakref.ref(a)
        t = self.engine.tensor(a)
        address = a.ctypes.data
        del a
        gc.collect()
        self.assertIsNotNone(gone())
        self.assertEqual(t.numpy().ctypes.data, address)
        self.assertEqual(t.tolist(), [0.0, 1.0, 2.0, 3.0, 4.0])
        t.close()
        gc.collect()
        self.assertIsNone(gone())

    def test_an_interrupt_frees_nothing_that_the_library_holds(self) -> None:
        whole, held = Library.call, []

        def interrupted(library, name, *arguments):  # type: ignore[no-untyped-def]
            whole(library, name, *arguments)
            if name == "dfx_tensor_wrap":
                held.append([o for o in _lend.outstanding()])
                raise KeyboardInterrupt

        class Source:
            def __init__(self, array):  # type: ignore[no-untyped-def]
                self.array = array

            def __dlpack__(self, **more):  # type: ignore[no-untyped-def]
                return self.array.__dlpack__(**more)

        before = len(_lend.outstanding())
        for kind in (lambda array: array, Source):
            a = np.arange(5.0)
            gone = weakref.ref(a)
            with unittest.mock.patch.object(Library, "call", interrupted):
                with self.assertRaises(KeyboardInterrupt):
                    self.engine.tensor(kind(a))
            self.assertEqual(len(held.pop()), before + 1, "kept before the library has it")
            del a
            gc.collect()
            _lend.sweep()
            gc.collect()
            self.assertIsNone(gone(), "given back once the library let go")
            self.assertEqual(len(_lend.outstanding()), before)

    def test_what_the_library_refuses_is_not_kept(self) -> None:
        def refused(library, name, *arguments):  # type: ignore[no-untyped-def]
            raise diffx.NoMemory("none")

        a, before = np.arange(5.0), len(_lend.outstanding())
        gone = weakref.ref(a)
        with unittest.mock.patch.object(Library, "call", refused):
            with self.assertRaises(diffx.NoMemory):
                self.engine.tensor(a)
        self.assertEqual(len(_lend.outstanding()), before)
        del a
        gc.collect()
        self.assertIsNone(gone())

    def test_a_view_outlives_tensor_and_engine(self) -> None:
        t = self.engine.tensor([1.0, 2.0, 3.0], copy=True)
        a, m = t.numpy(), t.memoryview()
        part = a[1:]
        t.close()
        self.engine.close()
        del t, a
        gc.collect()
        self.assertEqual(part.tolist(), [2.0, 3.0])
        self.assertEqual(m.tolist(), [1.0, 2.0, 3.0])

    def test_memory_comes_back_with_the_last_view(self) -> None:
        before = self.engine.memory().used
        t = self.engine.tensor(np.zeros(1000), copy=True)
        a = t.numpy()
        self.assertGreaterEqual(self.engine.memory().used, before + 8000)
        t.close()
        self.assertGreaterEqual(self.engine.memory().used, before + 8000)
        del a, t
        gc.collect()
        self.assertEqual(self.engine.memory().used, before)

    def test_an_input_lives_until_its_job_is_over(self) -> None:
        pipeline = self.engine.model("vix").pipeline(steps=2)
        history = np.full((32, 1), 20.0, "f4")
        name = self.engine.model("vix").info["conds"][0]["name"]
        gone = weakref.ref(history)
        job = pipeline.start(2, seed=1, inputs={name: history})
        del history
        gc.collect()
        _lend.sweep()
        self.assertIsNotNone(gone(), "the job has yet to read it")
        job.wait()
        gc.collect()
        _lend.sweep()
        self.assertIsNone(gone())
        self.assertEqual(job.result().shape, (2, 32))

    def test_no_python_runs_on_a_thread_of_the_engine(self) -> None:
        seen = set()
        threading.setprofile(lambda *_: seen.add(threading.get_ident()))
        try:
            with diffx.Engine(threads=2) as engine:
                pipeline = engine.model("vix").pipeline(steps=2)
                name = engine.model("vix").info["conds"][0]["name"]
                array = np.full((64, 32, 1), 20.0, "f4")
                gone = weakref.ref(array)
                jobs = [pipeline.start(64, seed=i, inputs={name: array}) for i in range(4)]
                del array
                for job in jobs:
                    job.wait()
                    job.close()
                pipeline.close()
            del engine, pipeline, jobs, job
            gc.collect()
            _lend.sweep()
            self.assertIsNone(gone())
        finally:
            threading.setprofile(None)  # type: ignore[arg-type]
        self.assertLessEqual(seen, {threading.get_ident()})

    def test_closed_means_closed(self) -> None:
        t = self.engine.tensor([1.0])
        t.close()
        t.close()
        with self.assertRaises(diffx.State):
            t.numpy()
        self.assertIn("closed", repr(t))


class Exchange(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = diffx.Engine(threaded=False)
        self.addCleanup(self.engine.close)

    def test_out_to_numpy(self) -> None:
        t = self.engine.tensor(np.arange(6.0).reshape(2, 3), copy=True)
        self.assertEqual(t.__dlpack_device__(), (_dlpack.CPU, 0))
        view = np.from_dlpack(t)
        self.assertTrue((view == t.numpy()).all())
        if tuple(int(v) for v in np.__version__.split(".")[:2]) >= (2, 1):
            self.assertEqual(view.ctypes.data, t.numpy().ctypes.data)
            self.assertFalse(view.flags.writeable)
        t.close()
        self.assertEqual(view.tolist(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])

    def test_out_to_and_in_from_other_libraries(self) -> None:
        for name, there, here in (
            ("torch", lambda m, t: m.from_dlpack(t), lambda x: x.tolist()),
            ("jax.numpy", lambda m, t: m.from_dlpack(t), lambda x: x.tolist()),
        ):
            try:
                module = importlib.import_module(name)
            except ImportError:
                print(f"skipped: {name} is not installed")
                continue
            t = self.engine.tensor(np.arange(6, dtype="f4").reshape(2, 3), copy=True)
            x = there(module, t)
            t.close()
            self.assertEqual(here(x), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
            back = self.engine.from_dlpack(x)
            del x
            gc.collect()
            self.assertEqual(back.tolist(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
            back.close()

    def test_capsules_have_the_names_of_the_format(self) -> None:
        t = self.engine.tensor([1.0, 2.0])
        self.assertIn('"dltensor_versioned"', repr(t.__dlpack__(max_version=(1, 0))))
        self.assertIn('"dltensor"', repr(t.__dlpack__()))
        with self.assertRaises(BufferError):
            t.__dlpack__(copy=False)
        with self.assertRaises(BufferError):
            t.__dlpack__(max_version=(1, 0), dl_device=(2, 0))

    def test_an_unread_capsule_frees_what_it_holds(self) -> None:
        before = self.engine.memory().used
        t = self.engine.tensor(np.zeros(500), copy=True)
        capsule = t.__dlpack__(max_version=(1, 0))
        t.close()
        self.assertGreater(self.engine.memory().used, before)
        del capsule
        self.assertEqual(self.engine.memory().used, before)

    def test_in_by_either_kind_of_capsule(self) -> None:
        class Old:
            def __init__(self, array):  # type: ignore[no-untyped-def]
                self.array = array

            def __dlpack__(self):  # type: ignore[no-untyped-def]
                return self.array.__dlpack__()

            def __dlpack_device__(self):  # type: ignore[no-untyped-def]
                return (1, 0)

        class New(Old):
            def __dlpack__(self, **words):  # type: ignore[no-untyped-def]
                return self.array.__dlpack__(**words)

        for kind in (Old, New):
            a = np.arange(6, dtype="f4").reshape(2, 3)
            gone = weakref.ref(a)
            t = self.engine.from_dlpack(kind(a))
            self.assertEqual(t.numpy().ctypes.data, a.ctypes.data)
            self.assertEqual(t.tolist(), a.tolist())
            del a
            gc.collect()
            self.assertIsNotNone(gone())
            t.close()
            gc.collect()
            self.assertIsNone(gone(), kind.__name__)

    def test_a_tensor_of_ours_comes_back(self) -> None:
        t = self.engine.tensor([1.0, 2.0])
        back = self.engine.from_dlpack(t)
        self.assertEqual(back.tolist(), [1.0, 2.0])
        self.assertEqual(back.numpy().ctypes.data, t.numpy().ctypes.data)

    def test_a_capsule_is_taken_once(self) -> None:
        a = np.arange(3.0)

        class Same:
            capsule = a.__dlpack__()

            def __dlpack__(self):  # type: ignore[no-untyped-def]
                return self.capsule

        source = Same()
        self.engine.from_dlpack(source).close()
        self.assertIn('"used_dltensor"', repr(source.capsule))
        with self.assertRaises(diffx.Invalid):
            self.engine.from_dlpack(source)

    def test_what_does_not_fit_stays_the_sources(self) -> None:
        a = np.arange(12.0).reshape(3, 4)
        with self.assertRaises(diffx.Unsupported):
            self.engine.from_dlpack(a.T)
        with self.assertRaises(diffx.Unsupported):
            self.engine.from_dlpack(np.zeros(3, "c16"))
        with self.assertRaises(diffx.Invalid):
            self.engine.from_dlpack([1.0])
        capsule = a.T.__dlpack__()
        source = type("S", (), {"__dlpack__": lambda self: capsule})()
        with self.assertRaises(diffx.Unsupported):
            self.engine.from_dlpack(source)
        self.assertIn('"dltensor"', repr(capsule))


if __name__ == "__main__":
    unittest.main()
