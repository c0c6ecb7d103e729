# Samples the carried model through ccall alone: julia smoke.jl path/to/libdiffx.so
using Libdl
const lib = ARGS[1]
err = zeros(UInt8, 512)
fail(s) = s == 0 || error(GC.@preserve err unsafe_string(pointer(err) + 16))
fresh() = (fill!(err, 0); reinterpret(UInt32, err)[1] = 512; err)

engine = Ref{Ptr{Cvoid}}(C_NULL); model = Ref{Ptr{Cvoid}}(C_NULL); pipeline = Ref{Ptr{Cvoid}}(C_NULL)
job = Ref{Ptr{Cvoid}}(C_NULL); x = Ref{Ptr{Cvoid}}(C_NULL); data = Ref{Ptr{Float32}}(C_NULL); bytes = Ref{Csize_t}(0)
fail(ccall((:dfx_engine_create, lib), Cint, (Ptr{Cvoid}, Ref{Ptr{Cvoid}}, Ptr{UInt8}), C_NULL, engine, fresh()))
fail(ccall((:dfx_model_open, lib), Cint, (Ptr{Cvoid}, Cstring, Cstring, Ref{Ptr{Cvoid}}, Ptr{UInt8}),
           engine[], "vix", C_NULL, model, fresh()))
fail(ccall((:dfx_pipeline_create, lib), Cint, (Ptr{Cvoid}, Cstring, Ref{Ptr{Cvoid}}, Ptr{UInt8}),
           model[], "{\"steps\": 8}", pipeline, fresh()))

struct JobOptions                       # dfx_job_options
    struct_size::UInt32; flags::UInt32
    seed::UInt64; first_sample::UInt64; n_samples::UInt64
    n_steps::UInt32; preview_every::UInt32; n_inputs::UInt32; reserved::UInt32
    input_names::Ptr{Cvoid}; inputs::Ptr{Cvoid}; progress::Ptr{Cvoid}; user::Ptr{Cvoid}
end
options = Ref(JobOptions(sizeof(JobOptions), 0, 7, 0, 64, 0, 0, 0, 0, C_NULL, C_NULL, C_NULL, C_NULL))
fail(ccall((:dfx_job_start, lib), Cint, (Ptr{Cvoid}, Ptr{Cvoid}, Ref{Ptr{Cvoid}}, Ptr{UInt8}), pipeline[], options, job, fresh()))
fail(ccall((:dfx_job_wait, lib), Cint, (Ptr{Cvoid}, UInt64, Ptr{UInt8}), job[], typemax(UInt64), fresh()))
fail(ccall((:dfx_job_result, lib), Cint, (Ptr{Cvoid}, Cstring, Ref{Ptr{Cvoid}}, Ptr{UInt8}), job[], "x", x, fresh()))
fail(ccall((:dfx_tensor_map, lib), Cint, (Ptr{Cvoid}, Ref{Ptr{Float32}}, Ref{Csize_t}, Ptr{UInt8}), x[], data, bytes, fresh()))
paths = copy(reshape(unsafe_wrap(Array, data[], bytes[] ÷ 4), :, 64))   # column-major: a column is a path
for (f, p) in ((:dfx_tensor_release, x), (:dfx_job_release, job), (:dfx_pipeline_release, pipeline), (:dfx_model_release, model), (:dfx_engine_release, engine))
    ccall(dlsym(dlopen(lib), f), Cvoid, (Ptr{Cvoid},), p[])
end
@assert all(isfinite, paths) && all(paths .> 0)
println("julia: ", size(paths, 2), " positive paths of ", size(paths, 1), " days, mean ", round(sum(paths) / length(paths), digits = 3))
