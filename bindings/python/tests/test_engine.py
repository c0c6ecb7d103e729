"""Sampling, looking on, ending early, and what goes wrong."""

import ast
import glob
import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest

import diffx

PACKAGE = os.path.dirname(diffx.__file__)


def python(program: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program in a process of its own."""
    path = os.pathsep.join(filter(None, [os.path.dirname(PACKAGE), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": path, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        timeout=300,
    )


class Sampling(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = diffx.Engine()
        cls.model = cls.engine.model("vix")
        cls.pipeline = cls.model.pipeline(steps=4)

    @classmethod
    def tearDownClass(cls) -> None:
        for thing in (cls.pipeline, cls.model, cls.engine):
            thing.close()

    def test_same_bits_whatever_the_engine(self) -> None:
        one = self.pipeline.sample(8, seed=5).tobytes()
        with diffx.Engine(threaded=False) as other:
            two = other.model("vix").pipeline({"steps": 4}).sample(8, seed=5).tobytes()
            tail = other.model("vix").pipeline('{"steps": 4}').sample(3, seed=5, first_sample=5).tobytes()
        self.assertEqual(one, two)
        self.assertEqual(one[-len(tail) :], tail)
        self.assertNotEqual(one, self.pipeline.sample(8, seed=6).tobytes())

    def test_progress_reaches_the_end(self) -> None:
        seen = []
        self.pipeline.sample(64, seed=1, progress=seen.append)
        self.assertEqual(seen[-1].state, "done")
        self.assertEqual(seen[-1].step, seen[-1].n_steps)
        self.assertTrue(all(a.step <= b.step for a, b in zip(seen, seen[1:])))
        with self.pipeline.start(8) as job:
            self.assertTrue(job.wait())
            self.assertTrue(job.progress.is_over)

    def test_what_progress_raises_cancels_the_job(self) -> None:
        with diffx.Engine(threaded=False) as engine:
            job = engine.model("vix").pipeline(steps=1000).start(4096)

            def stop(_: diffx.Progress) -> None:
                raise KeyError("enough")

            with self.assertRaises(KeyError):
                job.wait(progress=stop)
            self.assertEqual(job.progress.state, "cancelled")
            with self.assertRaises(diffx.Cancelled):
                job.result()
            job = engine.model("vix").pipeline(steps=1000).start(4096)
            with self.assertRaises(diffx.NotFound):  # one of ours is no other
                job.wait(progress=lambda _: job.preview("nothing"))
            self.assertEqual(job.progress.state, "cancelled")

    def test_a_timeout_is_no_failure(self) -> None:
        with diffx.Engine(threaded=False) as engine:
            job = engine.model("vix").pipeline(steps=1000).start(4096)
            self.assertFalse(job.wait(timeout=0.0))
            self.assertFalse(job.progress.is_over)
            job.cancel()
            with self.assertRaises(diffx.Cancelled):
                job.wait()

    def test_previews_while_it_is_pumped(self) -> None:
        with diffx.Engine(threaded=False) as engine:
            job = engine.model("vix").pipeline(steps=8).start(16, first_sample=3, preview_every=1)
            with self.assertRaises(diffx.State):
                job.preview()
            previews = 0
            while engine.pump(1):
                try:
                    self.assertEqual(job.preview("x").shape, (16, 32))
                    shown = job.preview_at()
                    self.assertEqual((shown.first_sample, shown.n_samples), (3, 16))
                    self.assertEqual((shown.tensor.shape, 1 <= shown.step <= 8), ((16, 32), True))
                    previews += 1
                except diffx.State:
                    pass
            self.assertGreater(previews, 0)
            self.assertEqual(job.progress.state, "done")

    def test_a_saved_job_ends_in_the_same_bits(self) -> None:
        expected = self.pipeline.sample(16, seed=9).tobytes()
        with tempfile.TemporaryDirectory() as folder, diffx.Engine(threaded=False) as engine:
            pipeline = engine.model("vix").pipeline(steps=4)
            path = os.path.join(folder, "job")
            job = pipeline.start(16, seed=9)
            while job.progress.step < 2:
                engine.pump(1)
            job.save(path)
            job.close()
            resumed = pipeline.resume(path)
            self.assertTrue(resumed.wait())
            self.assertEqual(resumed.result().tobytes(), expected)

    def test_plan_is_what_a_job_takes(self) -> None:
        with diffx.Engine(threaded=False) as engine:
            pipeline = engine.model("vix").pipeline(steps=4)
            before = engine.memory().used
            planned = pipeline.plan(32)
            job = pipeline.start(32)
            self.assertEqual(engine.memory().used - before, planned)
            job.close()

    def test_score_and_eval(self) -> None:
        x = self.pipeline.sample(2, seed=1)
        nats = self.pipeline.score({"x": x}, steps=4, probes=1)
        self.assertEqual((nats.dtype, nats.shape), ("f64", (2,)))
        denoised, grad = self.pipeline.eval({"x": x, "sigma": [0.5, 0.5]}, ["x", "grad.x"])
        self.assertEqual((denoised.shape, grad.shape), ((2, 32), (2, 32)))
        with self.assertRaises(diffx.NotFound):
            self.pipeline.eval({"x": x, "sigma": [0.5, 0.5]}, ["y"])

    def test_pilot_gives_a_config(self) -> None:
        art = self.model.pipeline(grid="art", steps=6)
        with self.assertRaises(diffx.State):
            art.sample(1)
        pilot = art.pilot(8, seed=2)
        again = self.model.pipeline(grid="art", steps=6, pilot=pilot)
        self.assertEqual(art.sample(2, seed=3).tobytes(), again.sample(2, seed=3).tobytes())
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.safetensors")
            art.save(path)
            saved = self.engine.model(path).pipeline()
            self.assertEqual(art.sample(2, seed=3).tobytes(), saved.sample(2, seed=3).tobytes())

    def test_simulate(self) -> None:
        cir = {"id": "cir", "config": {"kappa": 1.0, "theta": 0.04, "sigma": 0.5}}
        paths = self.engine.simulate(cir, [0.03], [0.25, 0.5, 1.0], 1000, seed=1)
        self.assertEqual((paths.dtype, paths.shape), ("f64", (1000, 3, 1)))
        last = self.engine.simulate(cir, [0.03], [0.25, 0.5, 1.0], 1000, seed=1, keep=[2])
        self.assertEqual([p[2] for p in paths.tolist()], [p[0] for p in last.tolist()])
        self.assertGreater(min(p[0][0] for p in last.tolist()), 0.0)
        mean = sum(p[0][0] for p in last.tolist()) / 1000
        # E = theta + (x0 - theta) e^-1 = 0.0363; the deviation of X is below 0.08, so of the mean below 0.0025
        self.assertLess(abs(mean - 0.0363), 0.01)
        euler = self.engine.simulate("gbm:{\"mu\": 0, \"sigma\": 0.2}", [1.0], [1.0], 4, euler=True, substeps=8)
        self.assertEqual(euler.shape, (4, 1, 1))

    def test_plugins_are_listed(self) -> None:
        ids = [f["id"] for f in self.engine.plugins("process")]
        self.assertIn("org.diffx.cir", ids)
        self.assertGreater(len(self.engine.plugins()), len(ids))
        with self.assertRaises(diffx.Denied):
            self.engine.load_plugin("/nowhere/plugin.so")

    def test_errors_say_what_and_why(self) -> None:
        with self.assertRaises(diffx.NotFound) as caught:
            self.engine.model("nope")
        self.assertIn("nope", str(caught.exception))
        self.assertIsInstance(caught.exception, LookupError)
        with self.assertRaises(diffx.NotFound):
            self.model.pipeline(sampler="nope")
        for bad in (-1, 1 << 64, 1.5, True):
            with self.assertRaises(diffx.Invalid):
                self.pipeline.sample(1, seed=bad)
        with self.assertRaises(diffx.Invalid):
            self.model.pipeline(sigma_min=float("nan"))
        with self.assertRaises(diffx.Format):
            self.model.pipeline("{", steps=2)
        with self.assertRaises(diffx.NoMemory), diffx.Engine(memory_limit=1000) as small:
            small.model("vix").pipeline().sample(1)

    def test_jobs_of_many_threads(self) -> None:
        expected = [self.pipeline.sample(4, seed=s).tobytes() for s in range(4)]
        found = [b""] * 4

        def run(seed: int) -> None:
            for _ in range(5):
                found[seed] = self.pipeline.sample(4, seed=seed).tobytes()

        threads = [threading.Thread(target=run, args=(s,)) for s in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(found, expected)

    def test_everything_may_go_in_any_order(self) -> None:
        for order in range(6):
            engine = diffx.Engine(threaded=False)
            model = engine.model("vix")
            pipeline = model.pipeline(steps=2)
            job = pipeline.start(2)
            things = [engine, model, pipeline]
            for i in range(3):
                things.pop(order % len(things)).close()
                order //= 2
            self.assertTrue(job.wait())
            self.assertEqual(job.result().shape, (2, 32))
            with self.assertRaises(diffx.State):
                engine.model("vix")


class Messages(unittest.TestCase):
    def test_they_go_to_logging_on_the_calling_thread(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "broken.so"), "w", encoding="utf-8") as f:
                f.write("no plugin")
            before = os.environ.get("DIFFX_PLUGIN_PATH")
            os.environ["DIFFX_PLUGIN_PATH"] = os.path.join(folder, "broken.so")
            try:
                with diffx.Engine(threaded=False, env_plugins=True) as engine:
                    with self.assertLogs("diffx", logging.DEBUG) as caught:
                        engine.pump(0)
            finally:
                del os.environ["DIFFX_PLUGIN_PATH"]
                if before is not None:
                    os.environ["DIFFX_PLUGIN_PATH"] = before
        self.assertTrue(any("broken.so" in line for line in caught.output), caught.output)
        self.assertTrue(all(r.threadName == threading.current_thread().name for r in caught.records))


@unittest.skipUnless(hasattr(os, "fork"), "skipped: no fork here")
class Processes(unittest.TestCase):
    def test_an_interrupt_cancels_the_job_and_goes_on(self) -> None:
        run = python(
            """
            import diffx, os, signal
            signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests may ignore it
            engine = diffx.Engine()
            job = engine.model("vix").pipeline(steps=100000).start(100000)
            sent = []
            def interrupt(progress):
                if progress.step and not sent:
                    sent.append(True)
                    os.kill(os.getpid(), signal.SIGINT)
            try:
                job.wait(progress=interrupt)
            except KeyboardInterrupt:
                print("interrupted", job.progress.state, flush=True)
            """
        )
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "interrupted cancelled\n", ""))

    def test_an_interrupt_from_outside_ends_sample(self) -> None:
        program = """
        import diffx, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        pipeline = diffx.Engine().model("vix").pipeline(steps=100000)
        print("ready", flush=True)
        pipeline.sample(100000)
        """
        path = os.pathsep.join(filter(None, [os.path.dirname(PACKAGE), os.environ.get("PYTHONPATH", "")]))
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        assert child.stdout is not None
        self.assertEqual(child.stdout.readline(), "ready\n")
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=120)
        self.assertTrue(err.rstrip().endswith("KeyboardInterrupt"), err)
        self.assertNotEqual(child.returncode, 0)

    def test_leaving_with_everything_open_is_clean(self) -> None:
        run = python(
            """
            import diffx
            engine = diffx.Engine()
            pipeline = engine.model("vix").pipeline(steps=100000)
            job = pipeline.start(100000, preview_every=1)
            view = engine.simulate("ve", [0.0], [1.0], 8).numpy()
            """
        )
        self.assertEqual((run.returncode, run.stderr), (0, ""))

    def test_a_forked_child_leaves_the_engine_alone(self) -> None:
        run = python(
            """
            import diffx, os, sys
            engine = diffx.Engine()
            pipeline = engine.model("vix").pipeline(steps=2)
            child = os.fork()
            if child == 0:
                try:
                    pipeline.sample(1)
                except diffx.State:
                    sys.exit(7)
                sys.exit(1)
            print(os.waitpid(child, 0)[1] >> 8, pipeline.sample(1).shape)
            """
        )
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "7 (1, 32)\n", ""))

    def test_without_numpy_and_tqdm(self) -> None:
        run = python(
            """
            import sys
            sys.modules["numpy"] = sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None
            import array, diffx
            with diffx.Engine() as engine:
                pipeline = engine.model("vix").pipeline(steps=2)
                name = engine.model("vix").info["conds"][0]["name"]
                x = pipeline.sample(2, seed=1, inputs={name: [[20.0]] * 32}, progress=True)
                print(x.shape, len(x.tolist()[1]), x.memoryview().shape, len(x.tobytes()))
                print(engine.tensor([[1, 2], [3, 4]]).tolist(), engine.tensor(array.array("d", [1.5])).tolist())
                print(engine.simulate("ve", [0.0], [1.0], 3).shape)
                try:
                    x.numpy()
                except diffx.Unsupported:
                    print("unsupported")
            """
        )
        self.assertEqual(run.stderr, "")
        self.assertEqual(
            run.stdout, "(2, 32) 32 (2, 32) 256\n[[1, 2], [3, 4]] [1.5]\n(3, 1, 1)\nunsupported\n"
        )

    def test_a_library_that_is_not_there_or_none_is_said(self) -> None:
        for file, kind in (("/nowhere/libdiffx.so", "NotFound"), (None, "Version")):
            other = file or next(iter(glob.glob("/lib/*/libm.so.6") + glob.glob("/lib64/libm.so.6")), None)
            if other is None:
                continue
            run = python(
                """
                import diffx
                try:
                    diffx.Engine()
                except diffx.Error as e:
                    print(type(e).__name__, e)
                """,
                DIFFX_LIBRARY=other,
            )
            self.assertTrue(run.stdout.startswith(kind + " "), run.stdout + run.stderr)
            self.assertIn(os.path.basename(other), run.stdout)


class Source(unittest.TestCase):
    def test_it_is_python_3_8(self) -> None:
        files = glob.glob(os.path.join(PACKAGE, "*.py"))
        self.assertGreater(len(files), 8)
        for path in files:
            with open(path, encoding="utf-8") as f:
                text = f.read()
            tree = ast.parse(text, path, feature_version=(3, 8))
            self.assertLess(len(text.splitlines()), 400, path)
            if not path.endswith("__init__.py"):
                self.assertIn("from __future__ import annotations", text, path)
            self.assertTrue(ast.get_docstring(tree), path)

    def test_everything_public_has_types_and_a_name(self) -> None:
        for path in glob.glob(os.path.join(PACKAGE, "*.py")):
            with open(path, encoding="utf-8") as f:
                tree = ast.parse(f.read(), path)
            for node in ast.walk(tree):
                if not isinstance(node, ast.FunctionDef):
                    continue
                arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
                self.assertEqual(untyped, [], f"{path}: {node.name}")
                self.assertIsNotNone(node.returns, f"{path}: {node.name}")
        self.assertTrue(os.path.isfile(os.path.join(PACKAGE, "py.typed")))
        self.assertEqual([n for n in diffx.__all__ if not hasattr(diffx, n)], [])

    def test_mypy_has_nothing_to_say(self) -> None:
        try:
            import mypy  # noqa: F401
        except ImportError:
            self.skipTest("skipped: mypy is not installed")
        run = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, PACKAGE],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        self.assertEqual(run.returncode, 0, run.stdout)


if __name__ == "__main__":
    unittest.main()
