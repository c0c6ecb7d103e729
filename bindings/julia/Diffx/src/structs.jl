# The structs of diffx.h, field by field and by their C names; the tests hold them to the header with a C compiler.

const Status = Int32
const Handles = Ptr{Ptr{Cvoid}}

struct CError
    struct_size::UInt32
    status::Int32
    source::UInt32
    message_len::UInt32
    message::NTuple{496,UInt8}
end

struct CDesc
    dtype::UInt32
    rank::UInt32
    dims::NTuple{8,Int64}
end

struct CEngineOptions
    struct_size::UInt32
    flags::UInt32
    arena_bytes::UInt64
    device_bytes::UInt64
    n_threads::UInt32
    reserved::UInt32
    device::Ptr{UInt8}
    allocator::Ptr{Cvoid}
    log::Ptr{Cvoid}
    log_user::Ptr{Cvoid}
    cuda_stream::Ptr{Cvoid}
    reserved_ptr::Ptr{Cvoid}
end

struct CProgress
    struct_size::UInt32
    state::UInt32
    step::UInt64
    n_steps::UInt64
    elapsed_ns::UInt64
end

struct CPreview
    struct_size::UInt32
    reserved::UInt32
    first_sample::UInt64
    n_samples::UInt64
    step::UInt64
end

struct CJobOptions
    struct_size::UInt32
    flags::UInt32
    seed::UInt64
    first_sample::UInt64
    n_samples::UInt64
    n_steps::UInt32
    preview_every::UInt32
    n_inputs::UInt32
    reserved::UInt32
    input_names::Ptr{Ptr{UInt8}}
    inputs::Handles
    progress::Ptr{Cvoid}
    user::Ptr{Cvoid}
end

struct CSimulateOptions
    struct_size::UInt32
    flags::UInt32
    seed::UInt64
    first_sample::UInt64
    n_samples::UInt64
    n_times::UInt32
    substeps::UInt32
    process::Ptr{UInt8}
    times::Ptr{Float64}
    x0::Ptr{Cvoid}
    keep::Ptr{UInt32}
    n_keep::UInt32
    reserved::UInt32
end

struct CEvalOptions
    struct_size::UInt32
    flags::UInt32
    n_inputs::UInt32
    n_outputs::UInt32
    slot::Ptr{UInt8}
    input_names::Ptr{Ptr{UInt8}}
    inputs::Handles
    output_names::Ptr{Ptr{UInt8}}
end

struct CScoreOptions
    struct_size::UInt32
    flags::UInt32
    n_inputs::UInt32
    n_steps::UInt32
    n_probes::UInt32
    reserved::UInt32
    seed::UInt64
    first_sample::UInt64
    input_names::Ptr{Ptr{UInt8}}
    inputs::Handles
end

struct CTraining
    struct_size::UInt32
    reserved::UInt32
    step::UInt64
    n_steps::UInt64
    loss::Float64
    norm::Float64
    rate::Float64
end

struct CTrainerOptions
    struct_size::UInt32
    flags::UInt32
    n_tables::UInt32
    reserved::UInt32
    table_names::Ptr{Ptr{UInt8}}
    tables::Handles
end

struct CRolloutOptions
    struct_size::UInt32
    flags::UInt32
    n_inputs::UInt32
    reserved::UInt32
    input_names::Ptr{Ptr{UInt8}}
    inputs::Handles
end

struct CReward
    struct_size::UInt32
    flags::UInt32
    values::Ptr{Cvoid}
    valid::Ptr{Cvoid}
    n_grads::UInt32
    reserved::UInt32
    grad_names::Ptr{Ptr{UInt8}}
    grads::Handles
end

const LAYOUT = (
    "dfx_error" => CError, "dfx_desc" => CDesc, "dfx_engine_options" => CEngineOptions, "dfx_progress" => CProgress,
    "dfx_preview" => CPreview,
    "dfx_job_options" => CJobOptions, "dfx_simulate_options" => CSimulateOptions, "dfx_eval_options" => CEvalOptions,
    "dfx_score_options" => CScoreOptions, "dfx_training" => CTraining, "dfx_trainer_options" => CTrainerOptions,
    "dfx_rollout_options" => CRolloutOptions, "dfx_reward" => CReward,
)

# Fields not named are 0 or NULL, as the *_INIT macros of the header have them.
function filled(::Type{T}; fields...) where {T}
    has(name) = name === :struct_size ? sizeof(T) : get(fields, name, nothing)
    value(name, type) = (v = has(name); v === nothing ? zeroed(type) : convert(type, v))
    return T((value(n, t) for (n, t) in zip(fieldnames(T), fieldtypes(T)))...)
end
zeroed(::Type{P}) where {P<:Ptr} = P(C_NULL)
zeroed(::Type{N}) where {N<:Number} = zero(N)
