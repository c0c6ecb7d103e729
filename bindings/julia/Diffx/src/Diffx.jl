"""
diffx from Julia: open a model, take samples, simulate, train.

    using Diffx
    x = sample("vix"; n = 1000, seed = 1)          # 32 × 1000: a column is a sample

A diffx tensor `[n, d]` is row-major and a Julia array is column-major, so the same memory is a Julia `d × n` array: the
axes are reversed and nothing is copied or transposed. Samples, examples and rows are always the *last* axis here.

The library is the file that the environment variable `DIFFX_LIBRARY` names, else that of the tree which the package was
installed with, else what the system's loader finds as `libdiffx.so.0` or `libdiffx.so`. Nothing in this package gives diffx a Julia function to call: progress is polled, memory
comes back by a semaphore, rewards run between calls. So no thread that Julia does not know ever runs Julia code.
"""
module Diffx

using Libdl

export Engine, Model, Pipeline, Job, Trainer, Tensor, DiffxError, setting, factories, info
export sample, start, poll, cancel, preview, preview_at, result, resume, save, plan, pilot
export simulate, evaluate, score
export train!, step!, measure, metrics, checkpoint, resume!
export Tuner, tune!, rollout!, reward!, update!
export wrap, borrowed, load_plugin, memory, pump

include("library.jl")
include("structs.jl")
include("errors.jl")
include("json.jl")
include("handles.jl")
include("tensors.jl")
include("models.jl")
include("jobs.jl")
include("simulate.jl")
include("train.jl")
include("tune.jl")

__init__() = load()

end
