# Jobs: samples in the making. They run on threads of the engine; Julia looks on by polling.

"""
    Job

Samples in the making: `start` makes one, `wait` follows it to its end, `result` has what came out.
"""
mutable struct Job <: Handle
    ptr::Ptr{Cvoid}
end

function Base.close(j::Job)
    ptr = take!!(j)
    ptr == C_NULL || @dfx dfx_job_release(ptr::Ptr{Cvoid})::Cvoid
    return nothing
end

const STATES = (:queued, :running, :done, :failed, :cancelled)

"How far a job is: `(state, step, n_steps, seconds)`; `state` is one of :queued, :running, :done, :failed, :cancelled."
function poll(j::Job)
    out = Ref(filled(CProgress))
    @ok dfx_job_poll(j::Ptr{Cvoid}, out::Ptr{CProgress})
    p = out[]
    state = p.state < length(STATES) ? STATES[p.state+1] : :unknown
    return (state = state, step = Int(p.step), n_steps = Int(p.n_steps), seconds = p.elapsed_ns / 1e9)
end

# Calls `f` with the options; everything they point to lives through the call.
function with_options(f, p::Pipeline; n = 1, seed = 0, first = 0, steps = 0, preview_every = 0, inputs = NamedTuple(),
    conditions...)
    given = named(together(inputs, values(conditions)), p.float, p.engine)
    GC.@preserve given begin
        options = Ref(filled(CJobOptions;
            seed = seed, first_sample = first, n_samples = n, n_steps = steps, preview_every = preview_every,
            n_inputs = length(given.names), input_names = pointer(given.name_pointers),
            inputs = pointer(given.tensor_pointers)))
        return f(options)
    end
end

"""
    start(pipeline; n = 1, seed = 0, first = 0, steps = 0, preview_every = 0, inputs = (;), conditions...)

Starts a job for the samples `first … first + n - 1` and returns at once. Conditions of the model are named: one value, or one
per sample along the last axis. A condition that is called as one of the other keywords goes by `inputs`, a NamedTuple or a
Dict: `start(p; n = 8, inputs = (steps = 3.0,))`.
"""
function start(p::Pipeline; options...)
    with_options(p; options...) do o
        out = Ref(C_NULL)
        @ok dfx_job_start(p::Ptr{Cvoid}, o::Ptr{CJobOptions}, out::Handles)
        return adopt(Job(out[]))
    end
end

"Bytes that a job with these options (those of `start`) will take."
function plan(p::Pipeline; options...)
    with_options(p; options...) do o
        bytes = Ref(UInt64(0))
        @ok dfx_pipeline_plan(p::Ptr{Cvoid}, o::Ptr{CJobOptions}, bytes::Ptr{UInt64})
        return Int(bytes[])
    end
end

"The coarse run that a grid which adapts wants before the first job; JSON for the key `pilot` of a pipeline."
function pilot(p::Pipeline; n = 0, options...)
    with_options(p; n = n, options...) do o
        out = Ref(Ptr{UInt8}(C_NULL))
        @ok dfx_pipeline_pilot(p::Ptr{Cvoid}, o::Ptr{CJobOptions}, out::Ptr{Ptr{UInt8}})
        return GC.@preserve p unsafe_string(out[])
    end
end

"Goes on with a job that `save` wrote: same pipeline settings, same bits."
function resume(p::Pipeline, path::AbstractString)
    out = Ref(C_NULL)
    @ok dfx_job_resume(p::Ptr{Cvoid}, path::Cstring, C_NULL::Ptr{Cvoid}, out::Handles)
    return adopt(Job(out[]))
end

"Writes a job to a file, so that `resume` goes on from here."
save(j::Job, path::AbstractString) = @ok dfx_job_save(j::Ptr{Cvoid}, path::Cstring)

"Asks a job to stop."
cancel(j::Job) = @dfx dfx_job_cancel(j::Ptr{Cvoid})::Cvoid

const SHORTEST_NAP = UInt64(200_000)        # ns in C at a time: other tasks and the collector wait so long at most
const LONGEST_NAP = UInt64(5_000_000)

"""
    wait(job; progress = nothing)

Follows a job to its end; throws what it failed of. `progress` is a function of what `poll` gives, called on this task
about as often as the state can change, and a last time at the end; when it returns `false` the job is cancelled. With
`progress = true` a line is kept up to date. Ctrl-C cancels the job.
"""
function Base.wait(j::Job; progress = nothing)
    report = reporter(progress)
    nap = SHORTEST_NAP
    try
        while true
            at = poll(j)
            at.state in (:queued, :running) || break
            report(at) === false && cancel(j)
            err = blank_error()             # DFX_E_STATE: not over yet. Failures are asked for below.
            @dfx dfx_job_wait(j::Ptr{Cvoid}, nap::UInt64, err::Ptr{UInt8})::Status
            nap = min(2nap, LONGEST_NAP)
            yield()
        end
    catch
        cancel(j)
        rethrow()
    end
    report(poll(j))
    @ok dfx_job_wait(j::Ptr{Cvoid}, UInt64(0)::UInt64)
    return j
end

reporter(f) = f
reporter(::Nothing) = ignore
reporter(on::Bool) = on ? Line() : ignore
ignore(_) = nothing

# A line on standard error, at most ten times a second.
mutable struct Line
    shown::Float64
    Line() = new(0.0)
end
function (l::Line)(at)
    over = at.step >= at.n_steps || get(at, :state, :running) in (:failed, :cancelled)
    (over || time() - l.shown > 0.1) || return nothing
    l.shown = time()
    print(stderr, "\rstep ", at.step, " of ", at.n_steps, haskey(at, :loss) ? "  loss $(round(at.loss; digits = 4))" : "",
        over ? "\n" : "")
    return nothing
end

"Newest estimate of one batch of a component, while the job runs; needs `preview_every`."
preview(j::Job, name::AbstractString) = fetch_tensor(j) do out
    @ok dfx_job_preview(j::Ptr{Cvoid}, name::Cstring, out::Handles)
end

"""
    preview_at(job, name)

The same and what it shows, of one moment: `estimate`, of which the last axis holds the samples `first … first + n - 1` (what
comes behind those fills a batch up), after `step` rows of the job.
"""
function preview_at(j::Job, name::AbstractString)
    what, out = Ref(filled(CPreview)), Ref(C_NULL)
    @ok dfx_job_preview_at(j::Ptr{Cvoid}, name::Cstring, what::Ptr{CPreview}, out::Handles)
    w = what[]
    return (estimate = tensor(out[]), first = Int(w.first_sample), n = Int(w.n_samples), step = Int(w.step))
end

"""
    result(job, name)

A result of a finished job: a component by name (`"x"`), `"feasible"`, `"log_weight"`; without a name the first component.
"""
result(j::Job, name::AbstractString) = fetch_tensor(j) do out
    @ok dfx_job_result(j::Ptr{Cvoid}, name::Cstring, out::Handles)
end
result(j::Job) = fetch_tensor(j) do out
    @ok dfx_job_result(j::Ptr{Cvoid}, C_NULL::Ptr{Cvoid}, out::Handles)
end

function fetch_tensor(call, _)
    out = Ref(C_NULL)
    call(out)
    return tensor(out[])
end

"""
    sample(model_or_pipeline; n = 1, seed = 0, first = 0, steps = 0, progress = nothing, inputs = (;), conditions...)

Samples, as an array whose last axis counts them. The same seed and id give the same sample, whatever `n` is.
Conditions are those of `start`.
"""
function sample(p::Pipeline; progress = nothing, options...)
    j = start(p; options...)
    try
        wait(j; progress = progress)
        return result(j)
    finally
        close(j)
    end
end

function sample(model::Union{Model,AbstractString}; options...)
    p = Pipeline(model)
    try
        return sample(p; options...)
    finally
        close(p)
    end
end
