"""A plugin loaded from a file, and tuning by a reward in Python with the objective it brings."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import unittest

import diffx

try:
    import numpy as np
except ImportError:
    raise unittest.SkipTest("skipped: numpy is not installed")

HERE = os.path.dirname(os.path.abspath(__file__))
INCLUDE = os.path.join(HERE, "..", "..", "..", "include")
CONFIG = {"objective": "org.test.weighted", "rounds": 3, "samples": 8, "group": 4, "rollout": {"steps": 3}, "seed": 2, "rate": 1e-4}


def judge(drawn: diffx.Rollout) -> "np.ndarray":
    return -drawn.samples.numpy().astype("f8").mean(axis=1)


class Tuning(unittest.TestCase):
    plugin = ""

    @classmethod
    def setUpClass(cls) -> None:
        cxx = os.environ.get("CXX", "c++")
        if not shutil.which(cxx) or not os.path.isfile(os.path.join(INCLUDE, "diffx_plugin.hpp")):
            raise unittest.SkipTest(f"skipped: no C++ compiler {cxx}, or no headers beside this package")
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.plugin = os.path.join(cls.folder.name, "weighted.so")
        source = os.path.join(HERE, "weighted.cpp")
        subprocess.run(
            [cxx, "-std=c++17", "-fPIC", "-shared", "-I", INCLUDE, source, "-o", cls.plugin], check=True
        )
        os.chmod(cls.plugin, 0o755)

    def setUp(self) -> None:
        self.engine = diffx.Engine(threads=1, load_plugins=True)
        self.addCleanup(self.engine.close)
        self.engine.load_plugin(self.plugin)  # anew for each test: a file may be loaded twice in a process
        self.model = self.engine.model("vix")

    def tuner(self, **more):  # type: ignore[no-untyped-def]
        return self.model.tuner(CONFIG, **more)

    def test_a_plugin_is_loaded_by_its_hash(self) -> None:
        self.assertIn("org.test.weighted", [f["id"] for f in self.engine.plugins("objective")])
        with open(self.plugin, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        with diffx.Engine(threaded=False, load_plugins=True) as other:
            with self.assertRaises(diffx.Denied):
                other.load_plugin(self.plugin, "0" * 64)
            other.load_plugin(self.plugin, digest)

    def test_an_objective_of_data_is_refused(self) -> None:
        with self.assertRaises(diffx.Error) as caught:
            self.tuner(objective="dsm")
        self.assertIn("trainer", str(caught.exception))
        with self.assertRaises(diffx.Error):
            self.tuner(round=1)

    def test_rounds_of_rollout_reward_update(self) -> None:
        tuner, seen, drawn = self.tuner(), [], []

        def reward(r):  # type: ignore[no-untyped-def]
            self.assertEqual((r.samples.shape, r["x"].shape), ((8, 32), (8, 32)))
            drawn.append(judge(r))
            return drawn[-1]

        last = tuner.run(reward, progress=seen.append)
        self.assertEqual([s.round for s in seen], [0, 1, 2])
        self.assertEqual(seen[-1], last)
        for s, d in zip(seen, drawn):
            self.assertAlmostEqual(s.metrics["reward"], d.mean(), places=4)
            self.assertEqual(s.metrics["valid"], 1.0)
        self.assertEqual(tuner.info["round"], 3)
        self.assertIsNone(tuner.run(reward))
        with self.assertRaises(diffx.State):
            tuner.rollout()

    def test_a_checkpoint_goes_on_with_the_same_bits(self) -> None:
        whole, first, later = self.tuner(), self.tuner(), self.tuner()
        whole.run(judge, progress=True)
        self.assertEqual(first.run(judge, rounds=1).round, 0)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "checkpoint")
            first.checkpoint(path)
            later.resume(path)
            later.run(judge)
            models = []
            for tuner in (whole, later):
                tuner.save(os.path.join(folder, "model"))
                with open(os.path.join(folder, "model"), "rb") as f:
                    models.append(f.read())
        self.assertEqual(models[0], models[1])

    def test_arrays_become_the_type_that_is_tuned(self) -> None:
        name = self.model.info["conds"][0]["name"]
        for dtype in ("f32", "f64"):
            tuner = self.tuner(rollout={"steps": 3, "dtype": dtype})
            self.assertEqual(tuner.info["dtype"], dtype)
            for letter in ("f4", "f8"):
                tuner.rollout({name: np.full((32, 1), 20.0, letter)})
                self.assertEqual(tuner.result("x").dtype, dtype)
                gradients = {"x": np.zeros((8, 32), letter)} if tuner.info["gradient"] else None
                tuner.reward([1.0] * 8, gradients=gradients)
                tuner.update()

    def test_what_a_reward_may_say(self) -> None:
        tuner = self.tuner()
        self.assertGreater(self.model.plan_tuner(CONFIG), 1000)
        tuner.rollout()
        for wrong in ([1.0] * 7, [float("nan")] * 8):
            with self.assertRaises(diffx.Error):
                tuner.reward(wrong)
        tuner.reward([1.0] * 8, valid=[True] * 7 + [False])
        tuner.update()
        self.assertAlmostEqual(tuner.metrics()["valid"], 7 / 8)
        with self.assertRaises(KeyError):
            tuner.run(lambda r: {}["nothing"])
        self.assertEqual(tuner.run(lambda r: diffx.Reward(judge(r)), rounds=1).round, 1)


if __name__ == "__main__":
    unittest.main()
