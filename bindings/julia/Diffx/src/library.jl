# The shared library: found once, when the package is loaded, and every function of it that is used here, by name.

const FUNCTIONS = (
    :dfx_api_version, :dfx_version_string, :dfx_has_feature, :dfx_status_name,
    :dfx_engine_create, :dfx_engine_release, :dfx_engine_pump, :dfx_engine_memory,
    :dfx_plugin_load, :dfx_factory_count, :dfx_factory_json,
    :dfx_model_open, :dfx_model_release, :dfx_model_json,
    :dfx_pipeline_create, :dfx_pipeline_release, :dfx_pipeline_save, :dfx_pipeline_plan, :dfx_pipeline_pilot,
    :dfx_pipeline_eval, :dfx_pipeline_score,
    :dfx_job_start, :dfx_job_resume, :dfx_job_poll, :dfx_job_wait, :dfx_job_cancel, :dfx_job_preview, :dfx_job_preview_at,
    :dfx_job_save, :dfx_job_result, :dfx_job_release,
    :dfx_tensor_create, :dfx_tensor_wrap, :dfx_tensor_map, :dfx_tensor_desc, :dfx_tensor_release,
    :dfx_simulate,
    :dfx_trainer_create, :dfx_trainer_release, :dfx_trainer_plan, :dfx_trainer_step, :dfx_trainer_measure,
    :dfx_trainer_metric_count, :dfx_trainer_metric_name, :dfx_trainer_metric, :dfx_trainer_checkpoint,
    :dfx_trainer_resume, :dfx_trainer_save,
    :dfx_tuner_create, :dfx_tuner_release, :dfx_tuner_json, :dfx_tuner_rollout, :dfx_tuner_result, :dfx_tuner_reward,
    :dfx_tuner_update, :dfx_tuner_metric_count, :dfx_tuner_metric_name, :dfx_tuner_metric, :dfx_tuner_checkpoint,
    :dfx_tuner_resume, :dfx_tuner_save,
)

# The addresses, one field each: a call costs a load more than one of a linked library.
@eval mutable struct Addresses
    $((:($name::Ptr{Cvoid}) for name in FUNCTIONS)...)
    Addresses() = new($((:(C_NULL) for _ in FUNCTIONS)...))
end

const LIB = Addresses()

# `@dfx dfx_f(x::T, ...)::R` calls a function of the table; arguments are kept from the collector while it runs.
macro dfx(signature)
    signature = deepcopy(signature)         # an expression may be expanded more than once
    call = signature.args[1]
    call.args[1] = Expr(:$, Expr(:., GlobalRef(@__MODULE__, :LIB), QuoteNode(call.args[1])))
    return esc(Expr(:macrocall, Symbol("@ccall"), __source__, signature))
end

# The library of the tree that this package was installed with, if it was: PREFIX/share/diffx/julia/Diffx/src.
function installed(here)
    found = match(r"^(.*)/share/diffx/julia/Diffx/src$", here)
    return found === nothing ? String[] : [string(found[1], "/lib/libdiffx.so.0")]
end

function load()
    asked = get(ENV, "DIFFX_LIBRARY", "")
    names = isempty(asked) ? [installed(@__DIR__)..., "libdiffx.so.0", "libdiffx.so", "libdiffx"] : [asked]
    handle = nothing
    for name in names
        handle = dlopen(name; throw_error = false)
        handle === nothing || break
    end
    handle === nothing && error(
        isempty(asked) ?
        "libdiffx.so is neither installed with this package nor where the system's loader looks: put its path into the environment variable DIFFX_LIBRARY" :
        "DIFFX_LIBRARY is $asked, which cannot be loaded",
    )
    for name in FUNCTIONS
        address = dlsym(handle, name; throw_error = false)
        address === nothing && error("$(dlpath(handle)) has no $name: it is older than this package (0.1)")
        setfield!(LIB, name, address)
    end
    major = @dfx(dfx_api_version()::UInt32) >> 16
    major == 0 || error("$(dlpath(handle)) has version $major of the interface, this package is for version 0")
    return nothing
end

"The version of the library, as text."
version() = unsafe_string(@dfx dfx_version_string()::Cstring)
