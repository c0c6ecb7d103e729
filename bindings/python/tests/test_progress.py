"""Bars that tqdm draws, seen as it writes them: in a process whose standard error is read, 80 columns wide."""

import importlib.util
import re
import unittest
from typing import List, Tuple

from tests.test_engine import python

FRAME = re.compile(r"^ *(?P<percent>\d+)%\|(?P<bar>[^|]*)\| (?P<n>\d+)/(?P<of>\d+) \[(?P<rest>.*)\]$")


def frames(written: str) -> List[str]:
    """Each drawing of a bar begins at the first column."""
    return [line.rstrip() for line in re.split(r"[\r\n]", written) if line.strip()]


@unittest.skipUnless(importlib.util.find_spec("tqdm"), "skipped: tqdm is not installed")
class Bars(unittest.TestCase):
    def drawn(self, program: str) -> Tuple[List["re.Match[str]"], str]:
        """The frames of the bars a program draws, and what it prints."""
        run = python(program, TQDM_NCOLS="80")
        self.assertEqual(run.returncode, 0, run.stderr)
        lines = frames(run.stderr)
        self.assertEqual({len(line) for line in lines}, {80}, lines)
        found = [FRAME.match(line) for line in lines]
        self.assertTrue(found and all(found), lines)
        return [frame for frame in found if frame], run.stdout

    def ends(self, frame: "re.Match[str]", of: int) -> None:
        """It stands at its total, and is full."""
        self.assertEqual((frame["percent"], frame["n"], frame["of"]), ("100", str(of), str(of)), frame[0])
        self.assertTrue(frame["bar"] and set(frame["bar"]) == {"█"}, frame[0])

    def test_a_job_draws_its_steps_to_the_end(self) -> None:
        drawn, out = self.drawn(
            """
            import diffx
            with diffx.Engine() as engine:
                pipeline = engine.model("vix").pipeline(steps=7)
                with pipeline.start(5, seed=1) as job:
                    print(job.progress.n_steps)
                pipeline.sample(5, seed=1, progress=True)
            """
        )
        steps = int(out)
        self.assertGreaterEqual(steps, 7)
        self.ends(drawn[-1], steps)
        self.assertIn("steps/s", drawn[-1]["rest"])
        counts = [int(frame["n"]) for frame in drawn]
        self.assertEqual(counts, sorted(counts))

    def test_a_trainer_shows_its_loss_and_a_tuner_its_reward(self) -> None:
        drawn, _ = self.drawn(
            """
            import diffx
            with diffx.Engine() as engine:
                recipe = {"model": "mlp", "process": "ve", "steps": 6, "batch": 8}
                rows = [[0.1 * i, -0.1 * i] for i in range(32)]
                with engine.trainer(recipe, tables={"x": engine.tensor(rows)}) as trainer:
                    trainer.run(progress=True)
                config = {"objective": "nft", "rounds": 3, "samples": 8, "rollout": {"steps": 2}}
                with engine.model("vix").tuner(config) as tuner:
                    tuner.run(lambda drawn: [1.5] * 8, progress=True)
            """
        )
        training = [frame for frame in drawn if frame["of"] == "6"]
        self.ends(training[-1], 6)
        self.assertRegex(training[-1]["rest"], r", loss=[0-9.]+(e-?\d+)?$")
        tuning = [frame for frame in drawn if frame["of"] == "3"]
        self.ends(tuning[-1], 3)
        self.assertRegex(tuning[-1]["rest"], r"rounds/s|s/rounds")
        self.assertIn(", reward=1.5", tuning[-1]["rest"])

    def test_a_bar_that_is_left_shows_where_it_stands(self) -> None:
        drawn, _ = self.drawn(
            """
            from diffx._job import Bar
            with Bar("steps") as bar:
                for step in (1, 2, 3):
                    bar.at(step, 4)
            """
        )
        last = drawn[-1]
        self.assertEqual((last["percent"], last["n"], last["of"]), ("75", "3", "4"), last[0])
        self.assertFalse(set(last["bar"]) == {"█"}, last[0])


if __name__ == "__main__":
    unittest.main()
