#!/usr/bin/env python3
"""convert-pickle.py IN OUT.safetensors: the tensors of a PyTorch checkpoint as safetensors, which diffx opens.

Needs torch and safetensors. The pickle is read with weights_only=True, which runs nothing of what it holds. Checkpoints of
EDM hold source code and cannot be read so: load those where you trust them, then save net.state_dict() as model.safetensors
and net.init_kwargs with "_class_name" as config.json."""
import sys

import torch
from safetensors.torch import save_file

# where training programs put the weights: averaged ones first
INSIDE = ("ema", "model_ema", "ema_state_dict", "state_dict", "model", "module", "net")
# what they put before the names
BEFORE = ("module.", "_orig_mod.", "backbone.")


def main(source, target):
    found = torch.load(source, map_location="cpu", weights_only=True)
    while isinstance(found, dict) and not any(torch.is_tensor(v) for v in found.values()):
        inner = next((k for k in INSIDE if isinstance(found.get(k), dict)), None)
        if inner is None:
            sys.exit(f"{source}: no tensors, and none of {', '.join(INSIDE)}; there are: {', '.join(map(str, found))}")
        print(f"taking {inner}")
        found = found[inner]
    if not isinstance(found, dict):
        sys.exit(f"{source}: holds {type(found).__name__}, want a dict of tensors")
    out = {}
    for name, value in found.items():
        if not torch.is_tensor(value):
            print(f"leaving out {name}: {type(value).__name__}")
            continue
        for prefix in BEFORE:
            name = name.removeprefix(prefix)
        if name in out:
            sys.exit(f"{source}: two tensors come to the name {name}")
        out[name] = value.detach().contiguous().clone()  # a file cannot share memory between tensors
    if not out:
        sys.exit(f"{source}: no tensors")
    save_file(out, target, metadata={"format": "pt"})
    print(f"{len(out)} tensors, {sum(t.numel() for t in out.values())} values: {target}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
