"""diffx: a diffusion engine. Opens a model, takes samples; simulates processes exactly; trains.

    import diffx
    with diffx.Engine() as engine:
        pipeline = engine.model("vix").pipeline(steps=32)
        paths = pipeline.sample(1000, seed=1).numpy()

Results are tensors: read-only arrays that NumPy, PyTorch and JAX look at without copying. Errors are exceptions by
status (``diffx.NotFound``, ...), messages go to ``logging``, and no function of yours runs on a thread of the engine.
"""

from ._engine import Engine, Memory
from ._errors import (
    Cancelled,
    Denied,
    Device,
    Error,
    Format,
    Internal,
    Invalid,
    Io,
    NoMemory,
    NotFound,
    Plugin,
    State,
    Unsupported,
    Version,
)
from ._job import Job, Preview, Progress
from ._library import has_feature, version
from ._model import Model, Pipeline
from ._tensor import Tensor
from ._trainer import Trainer, Training
from ._tuner import Reward, Rollout, Round, Tuner

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "Denied",
    "Device",
    "Engine",
    "Error",
    "Format",
    "Internal",
    "Invalid",
    "Io",
    "Job",
    "Memory",
    "Model",
    "NoMemory",
    "NotFound",
    "Pipeline",
    "Plugin",
    "Preview",
    "Progress",
    "Reward",
    "Rollout",
    "Round",
    "State",
    "Tensor",
    "Trainer",
    "Training",
    "Tuner",
    "Unsupported",
    "Version",
    "has_feature",
    "version",
]
