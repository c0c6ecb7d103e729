# What the C side owns: an object, released once, by `close` or by the collector, in any order.
#
# A finalizer here is one call into C that runs no Julia code; diffx says that its objects may be released in any order and
# on any thread, each keeping what it needs, so the collector's order is as good as any. The release of an engine's last
# object waits for the node of a graph that is being computed; nothing it waits for needs Julia.

abstract type Handle end

function Base.unsafe_convert(::Type{Ptr{Cvoid}}, h::Handle)
    h.ptr == C_NULL && throw(DiffxError(E_STATE, "this $(nameof(typeof(h))) is closed", 0))
    return h.ptr
end

Base.isopen(h::Handle) = h.ptr != C_NULL
Base.show(io::IO, h::Handle) = print(io, nameof(typeof(h)), isopen(h) ? "" : " (closed)")

# Takes the pointer out, so that whoever comes second releases nothing.
function take!!(h::Handle)
    ptr = h.ptr
    h.ptr = C_NULL
    return ptr
end

# The new object that a call writes to `out`.
adopt(h::Handle) = finalizer(close, h)

"""
    Engine(; threads = 0, memory = 0, plugins = false, device = "", threaded = true)

What everything else is opened in. `threads = 0` is one per core; `memory` caps the bytes of tensors, weights and sessions;
`plugins = true` allows `load_plugin`; with `threaded = false` everything runs inside `wait` and `pump`. Calls without an engine use one of their own, made when it is first needed.
"""
mutable struct Engine <: Handle
    ptr::Ptr{Cvoid}
end

const NO_THREADS = UInt32(1)
const LOAD_PLUGINS = UInt32(2)

function Engine(; threads::Integer = 0, memory::Integer = 0, plugins::Bool = false, device::AbstractString = "",
    threaded::Bool = true)
    name = String(device)
    out = Ref(C_NULL)
    GC.@preserve name begin
        options = Ref(filled(CEngineOptions;
            flags = (plugins ? LOAD_PLUGINS : UInt32(0)) | (threaded ? UInt32(0) : NO_THREADS), arena_bytes = memory, n_threads = threads,
            device = isempty(name) ? Ptr{UInt8}(C_NULL) : pointer(name)))
        @ok dfx_engine_create(options::Ptr{CEngineOptions}, out::Handles)
    end
    return adopt(Engine(out[]))
end

function Base.close(e::Engine)
    ptr = take!!(e)
    ptr == C_NULL || @dfx dfx_engine_release(ptr::Ptr{Cvoid})::Cvoid
    return nothing
end

const OWN = Ref{Union{Nothing,Engine}}(nothing)
const OWN_LOCK = ReentrantLock()

# The engine of calls that name none.
function own_engine()
    lock(OWN_LOCK) do
        e = OWN[]
        (e === nothing || !isopen(e)) && (e = OWN[] = Engine())
        return e::Engine
    end
end

"Advances the jobs of an engine for about so many microseconds, and returns how many are unfinished."
function pump(e::Engine, microseconds::Integer)
    left = @dfx dfx_engine_pump(e::Ptr{Cvoid}, microseconds::UInt32)::Int32
    left < 0 && throw(DiffxError(left, "the engine refuses to go on", 0))
    return Int(left)
end

"Bytes that an engine has taken for tensors, weights and sessions: `(used, peak)`."
function memory(e::Engine)
    used, peak = Ref(UInt64(0)), Ref(UInt64(0))
    @ok dfx_engine_memory(e::Ptr{Cvoid}, used::Ptr{UInt64}, peak::Ptr{UInt64})
    return (used = Int(used[]), peak = Int(peak[]))
end

"Loads the plugin in a file. Its code runs in this process: trust it as your own."
function load_plugin(e::Engine, path::AbstractString; sha256::Union{Nothing,AbstractString} = nothing)
    digest = sha256 === nothing ? "" : String(sha256)
    GC.@preserve digest begin
        at = sha256 === nothing ? Ptr{UInt8}(C_NULL) : pointer(digest)
        @ok dfx_plugin_load(e::Ptr{Cvoid}, abspath(path)::Cstring, at::Ptr{UInt8})
    end
end

"What can be named in configs: a JSON text per plugin, with kind, id, summary and schema of its settings."
function factories(e::Engine = own_engine())
    return map(0:Int(@dfx dfx_factory_count(e::Ptr{Cvoid})::UInt32)-1) do i
        out = Ref(Ptr{UInt8}(C_NULL))
        @ok dfx_factory_json(e::Ptr{Cvoid}, i::UInt32, out::Ptr{Ptr{UInt8}})
        GC.@preserve e unsafe_string(out[])
    end
end
