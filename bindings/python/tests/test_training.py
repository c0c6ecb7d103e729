"""Training: on arrays that are lent, in pieces, from checkpoints; and the programs of the README."""

import math
import os
import re
import tempfile
import unittest

import diffx

try:
    import numpy as np
except ImportError:
    raise unittest.SkipTest("skipped: numpy is not installed")

RECIPE = {"model": {"id": "mlp", "config": {"width": 16, "depth": 1}}, "process": "cir", "steps": 12, "batch": 8, "seed": 4}


def data() -> "np.ndarray":
    return np.random.default_rng(1).gamma(2.0, size=(64, 4)).astype("f4")


class Training(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = diffx.Engine(threads=1)
        self.addCleanup(self.engine.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def trainer(self, **more):  # type: ignore[no-untyped-def]
        return self.engine.trainer(RECIPE, tables={"x": data()}, **more)

    def saved(self, trainer: diffx.Trainer) -> bytes:
        path = os.path.join(self.folder, "model.safetensors")
        trainer.save(path)
        with open(path, "rb") as f:
            return f.read()

    def test_it_runs_to_its_end_and_gives_a_model(self) -> None:
        seen = []
        with self.trainer() as trainer:
            end = trainer.run(progress=seen.append)
            self.assertEqual((end.step, end.n_steps), (12, 12))
            self.assertTrue(math.isfinite(end.loss) and end.norm > 0)
            self.assertEqual(seen[-1], end)
            self.assertEqual(trainer.step().step, 12)
            self.assertIn("loss", trainer.metrics())
            self.saved(trainer)
        model = self.engine.model(os.path.join(self.folder, "model.safetensors"))
        self.assertEqual(model.pipeline(steps=4).sample(3, seed=1).shape, (3, 4))

    def test_the_cut_into_calls_and_a_checkpoint_do_not_show(self) -> None:
        whole, pieces, later = self.trainer(), self.trainer(), self.trainer()
        whole.step(12)
        for n in (1, 4):
            pieces.step(n)
        path = os.path.join(self.folder, "checkpoint")
        pieces.checkpoint(path)
        pieces.run()
        later.resume(path)
        later.run(progress=True)
        self.assertEqual(self.saved(whole), self.saved(pieces))
        self.assertEqual(self.saved(whole), self.saved(later))

    def test_keys_are_read_and_plans_made(self) -> None:
        self.assertGreater(self.engine.plan_trainer(RECIPE, tables={"x": data()}), 1000)
        trainer = self.trainer(steps=2)
        self.assertEqual(trainer.run().n_steps, 2)
        with self.assertRaises(diffx.Error):
            self.trainer(stepz=2)
        with self.assertRaises(diffx.Error):
            self.engine.trainer(RECIPE)

    def test_held_out_data_are_measured(self) -> None:
        trainer = self.engine.trainer(RECIPE, tables={"x": data(), "held_out.x": data()[:8]})
        trainer.step()
        self.assertTrue(math.isfinite(trainer.measure().loss))


class Readme(unittest.TestCase):
    def test_its_programs_run(self) -> None:
        path = os.path.join(os.path.dirname(__file__), "..", "README.md")
        with open(path, encoding="utf-8") as f:
            programs = re.findall(r"```python\n(.*?)```", f.read(), flags=re.S)
        self.assertGreaterEqual(len(programs), 2)
        here = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                for program in programs:
                    exec(compile(program, path, "exec"), {"numpy": np, "diffx": diffx, "print": lambda *_: None})
            finally:
                os.chdir(here)


if __name__ == "__main__":
    unittest.main()
