# Paths of a process without a model, one forward of a pipeline, and likelihoods.

"""
    simulate(process; times, x0, n = 1, seed = 0, first = 0, keep = nothing, euler = false, substeps = 0, per_sample = false)

Paths of a process, exact transitions unless `euler`: an array (dimensions of one `x0`, times, `n`) in the type of `x0`,
which for a number is (times, `n`).
`keep` lists the positions in `times` that come out (from 1); with `per_sample` the last axis of `x0` holds one start a path.
"""
function simulate(process::AbstractString; times, x0, n::Integer = 1, seed::Integer = 0, first::Integer = 0, keep = nothing,
    euler::Bool = false, substeps::Integer = 0, per_sample::Bool = false, engine::Engine = own_engine())
    text, clock = String(process), collect(Float64, times)
    kept = keep === nothing ? UInt32[] : UInt32[k - 1 for k in keep]
    start = x0 isa Tensor ? x0 : Tensor(x0 isa Number ? fill(float(x0)) : x0; engine = engine)
    out = Ref(C_NULL)
    GC.@preserve text clock kept start begin
        options = Ref(filled(CSimulateOptions;
            flags = (per_sample ? 0x1 : 0x0) | (euler ? 0x2 : 0x0), seed = seed, first_sample = first, n_samples = n,
            n_times = length(clock), substeps = substeps, process = pointer(text), times = pointer(clock),
            x0 = handle(start), keep = isempty(kept) ? Ptr{UInt32}(C_NULL) : pointer(kept), n_keep = length(kept)))
        @ok dfx_simulate(engine::Ptr{Cvoid}, options::Ptr{CSimulateOptions}, out::Handles)
    end
    return tensor(out[])
end

"""
    evaluate(pipeline, outputs; slot = nothing, inputs = (;), arrays...)

One forward of the denoiser, or of the network of a slot. Inputs: every component by name, `sigma` (a level per row) and
conditions. Outputs: components by name and `"grad.INPUT"`. Gives a tensor for each of `outputs`.
An input that is called `slot` goes by `inputs`, as in `start`.
"""
function evaluate(p::Pipeline, outputs; slot::Union{Nothing,AbstractString} = nothing, inputs = NamedTuple(), arrays...)
    given = named(together(inputs, values(arrays)), p.float, p.engine)
    wanted = String[o for o in outputs]
    where_ = slot === nothing ? "" : String(slot)
    pointers, out = map(pointer, wanted), fill(C_NULL, length(wanted))
    GC.@preserve given wanted where_ pointers begin
        options = Ref(filled(CEvalOptions;
            n_inputs = length(given.names), n_outputs = length(wanted),
            slot = slot === nothing ? Ptr{UInt8}(C_NULL) : pointer(where_), input_names = pointer(given.name_pointers),
            inputs = pointer(given.tensor_pointers), output_names = pointer(pointers)))
        @ok dfx_pipeline_eval(p::Ptr{Cvoid}, options::Ptr{CEvalOptions}, out::Handles)
    end
    return map(tensor, out)
end

"""
    score(pipeline; steps = 0, probes = 0, seed = 0, first = 0, inputs = (;), arrays...)

log p(x) of data in nats, one for each along the last axis: `score(p; x = data)`, and conditions by name; those
called as another keyword by `inputs`, as in `start`.
"""
function score(p::Pipeline; steps::Integer = 0, probes::Integer = 0, seed::Integer = 0, first::Integer = 0,
    inputs = NamedTuple(), arrays...)
    given = named(together(inputs, values(arrays)), p.float, p.engine)
    out = Ref(C_NULL)
    GC.@preserve given begin
        options = Ref(filled(CScoreOptions;
            n_inputs = length(given.names), n_steps = steps, n_probes = probes, seed = seed, first_sample = first,
            input_names = pointer(given.name_pointers), inputs = pointer(given.tensor_pointers)))
        @ok dfx_pipeline_score(p::Ptr{Cvoid}, options::Ptr{CScoreOptions}, out::Handles)
    end
    return tensor(out[])
end
