# Models and pipelines.

"""
    Model(name; engine)

A model file, or the name of a carried one (`"vix"`).
"""
mutable struct Model <: Handle
    ptr::Ptr{Cvoid}
    engine::Engine
end

function Model(path::AbstractString; engine::Engine = own_engine())
    out, config = Ref(C_NULL), Ptr{UInt8}(C_NULL)
    @ok dfx_model_open(engine::Ptr{Cvoid}, path::Cstring, config::Ptr{UInt8}, out::Handles)
    return adopt(Model(out[], engine))
end

function Base.close(m::Model)
    ptr = take!!(m)
    ptr == C_NULL || @dfx dfx_model_release(ptr::Ptr{Cvoid})::Cvoid
    return nothing
end

"What a model file says about itself, as JSON."
function info(m::Model)
    out = Ref(Ptr{UInt8}(C_NULL))
    @ok dfx_model_json(m::Ptr{Cvoid}, out::Ptr{Ptr{UInt8}})
    return GC.@preserve m unsafe_string(out[])
end

"""
    Pipeline(model; sampler, grid, guidance, steps, process, dtype, ...)
    Pipeline(model, json)

A model with a noise process, guidance and a sampler by name; what is not said comes from the model file. The keywords are the
keys of a pipeline config (docs/json.md): `Pipeline("vix"; sampler = "heun", steps = 32)`. `model` may be a name.
"""
mutable struct Pipeline <: Handle
    ptr::Ptr{Cvoid}
    engine::Engine
    float::DataType                         # of state and conditions
end

function Pipeline(m::Model, config::AbstractString)
    out = Ref(C_NULL)
    @ok dfx_pipeline_create(m::Ptr{Cvoid}, config::Cstring, out::Handles)
    double = match(r"\"dtype\"\s*:\s*\"f64\"", config) !== nothing
    return adopt(Pipeline(out[], m.engine, double ? Float64 : Float32))
end
Pipeline(m::Model; config...) = Pipeline(m, json((; config...)))

function Pipeline(path::AbstractString, config::AbstractString; engine::Engine = own_engine())
    m = Model(path; engine = engine)
    try
        return Pipeline(m, config)
    finally
        close(m)                            # a pipeline keeps what it needs
    end
end
Pipeline(path::AbstractString; engine::Engine = own_engine(), config...) =
    Pipeline(path, json((; config...)); engine = engine)

function Base.close(p::Pipeline)
    ptr = take!!(p)
    ptr == C_NULL || @dfx dfx_pipeline_release(ptr::Ptr{Cvoid})::Cvoid
    return nothing
end

"Writes the model with the settings of this pipeline as its defaults."
save(p::Pipeline, path::AbstractString) = @ok dfx_pipeline_save(p::Ptr{Cvoid}, path::Cstring)
