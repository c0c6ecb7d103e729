# Tensors are arrays: the memory of diffx, read in place.

const ELEMENTS = (Float32 => 0x1, Float16 => 0x2, Int32 => 0x4, Int64 => 0x5, UInt8 => 0x6, Float64 => 0x7, Bool => 0x8)

function code(::Type{T}) where {T}
    for (type, c) in ELEMENTS
        type === T && return UInt32(c)
    end
    throw(DiffxError(E_UNSUPPORTED, "elements are $T, want one of $(join(first.(ELEMENTS), ", "))", 0))
end

function element(c::Integer)
    for (type, own) in ELEMENTS
        own == c && return type
    end
    throw(DiffxError(E_UNSUPPORTED, "elements of type $c have no type in Julia", 0))
end

"""
A tensor of diffx as a read-only Julia array over the same memory. `[n, d]` of diffx is `(d, n)` here: the last axis counts
samples. `Array(t)` is a copy to write to; `close(t)` gives the memory back before the collector does.
"""
mutable struct Tensor{T,N} <: DenseArray{T,N}
    ptr::Ptr{Cvoid}
    data::Ptr{T}
    size::NTuple{N,Int}
end

function desc(::Type{T}, size::NTuple{N,Int}) where {T,N}
    N <= 8 || throw(DiffxError(E_INVALID, "an array of $N axes, a tensor has at most 8", 0))
    return CDesc(code(T), N, ntuple(i -> i <= N ? Int64(size[N+1-i]) : Int64(0), 8))
end

# Takes over a tensor.
function tensor(ptr::Ptr{Cvoid})
    raw = Tensor{UInt8,0}(ptr, C_NULL, ())  # so that it is released whatever fails below
    finalizer(close, raw)
    d, at, bytes = Ref(CDesc(0, 0, ntuple(_ -> Int64(0), 8))), Ref(C_NULL), Ref(Csize_t(0))
    GC.@preserve raw begin
        @ok dfx_tensor_desc(ptr::Ptr{Cvoid}, d::Ptr{CDesc})
        @ok dfx_tensor_map(ptr::Ptr{Cvoid}, at::Handles, bytes::Ptr{Csize_t})
        rank = Int(d[].rank)
        size = ntuple(i -> Int(d[].dims[rank+1-i]), rank)
        T = element(d[].dtype)
        raw.ptr = C_NULL
    end
    return finalizer(close, Tensor{T,rank}(ptr, Ptr{T}(at[]), size))
end

function Base.close(t::Tensor)
    ptr = t.ptr
    t.ptr = C_NULL
    t.size = map(zero, t.size)              # a released tensor is empty: no index into it is in bounds
    ptr == C_NULL || @dfx dfx_tensor_release(ptr::Ptr{Cvoid})::Cvoid
    return nothing
end

Base.isopen(t::Tensor) = t.ptr != C_NULL

# The handle, for calls inside `GC.@preserve t`; `pointer(t)` is the memory.
function handle(t::Tensor)
    t.ptr == C_NULL && throw(DiffxError(E_STATE, "this Tensor is closed", 0))
    return t.ptr
end

Base.size(t::Tensor) = t.size
Base.IndexStyle(::Type{<:Tensor}) = IndexLinear()
Base.strides(t::Tensor{T,N}) where {T,N} = ntuple(i -> prod(t.size[1:i-1]), N)
Base.elsize(::Type{<:Tensor{T}}) where {T} = sizeof(T)
Base.unsafe_convert(::Type{Ptr{T}}, t::Tensor{T}) where {T} = t.data

Base.@propagate_inbounds function Base.getindex(t::Tensor, i::Int)
    @boundscheck checkbounds(t, i)
    return GC.@preserve t unsafe_load(t.data, i)
end

"""
    Tensor(array; engine)

A copy of a Julia array for diffx; its last axis becomes the first.
"""
function Tensor(a::AbstractArray{T,N}; engine::Engine = own_engine()) where {T,N}
    dense = a isa DenseArray ? a : collect(a)
    d, out = Ref(desc(T, size(dense))), Ref(C_NULL)
    GC.@preserve dense begin
        @ok dfx_tensor_create(engine::Ptr{Cvoid}, d::Ptr{CDesc}, pointer(dense)::Ptr{Cvoid}, out::Handles)
    end
    return tensor(out[])
end
Tensor(t::Tensor; engine = nothing) = t

# ---- arrays lent to diffx
#
# The last user of lent memory may be a thread of diffx, which must not run Julia code. So the function it calls is
# sem_post of the C library, on a semaphore of this table: called with (semaphore, memory) where it wants the first alone,
# which every calling convention diffx is built for allows. The array stays in the table until the semaphore says so.

const SEMAPHORE_BYTES = 64                  # sem_t has 16 to 32
const LENT = Vector{Tuple{Ptr{Cvoid},Any}}()
const LENT_LOCK = ReentrantLock()

"""
    wrap(array; engine)

Lends the memory of an array to diffx without a copy. It must not be written to before diffx is done with it: when the tensor
is closed (or collected) and the jobs and trainers that got it are over. `borrowed()` counts the arrays that diffx still has.
"""
function wrap(a::Array{T,N}; engine::Engine = own_engine()) where {T,N}
    borrowed()
    d, out = Ref(desc(T, size(a))), Ref(C_NULL)
    post = cglobal(:sem_post)
    lock(LENT_LOCK) do
        semaphore = Libc.calloc(1, SEMAPHORE_BYTES)
        semaphore == C_NULL && throw(OutOfMemoryError())
        @ccall sem_init(semaphore::Ptr{Cvoid}, 0::Cint, 0::Cuint)::Cint
        push!(LENT, (semaphore, a))
        try
            @ok dfx_tensor_wrap(engine::Ptr{Cvoid}, d::Ptr{CDesc}, pointer(a)::Ptr{Cvoid}, post::Ptr{Cvoid},
                semaphore::Ptr{Cvoid}, out::Handles)
        catch
            pop!(LENT)                      # a failed call leaves the memory ours and posts nothing
            Libc.free(semaphore)
            rethrow()
        end
    end
    return tensor(out[])
end

"How many lent arrays diffx still uses; the others are let go."
function borrowed()
    lock(LENT_LOCK) do
        filter!(LENT) do (semaphore, _)
            given_back = @ccall(sem_trywait(semaphore::Ptr{Cvoid})::Cint) == 0
            given_back && Libc.free(semaphore)
            return !given_back
        end
        return length(LENT)
    end
end

# ---- named tensors, as options of C take them

struct Named
    names::Vector{String}
    tensors::Vector{Any}
    name_pointers::Vector{Ptr{UInt8}}
    tensor_pointers::Vector{Ptr{Cvoid}}
end

# Keep it while its pointers are used. Floats become `float`, whole numbers Int32; a Tensor passes as it is.
function named(inputs, float::Union{Nothing,DataType}, engine::Engine)
    names = String[string(k) for k in keys(inputs)]
    tensors = Any[given(v, float, engine) for v in values(inputs)]
    pointers = Ptr{Cvoid}[handle(t) for t in tensors]
    return Named(names, tensors, map(pointer, names), pointers)
end

# Arrays by keyword, and those of `inputs`, whose names may be those of other keywords.
function together(inputs, keywords::NamedTuple)
    inputs isa Union{NamedTuple,AbstractDict} ||
        throw(ArgumentError("inputs is a $(typeof(inputs)), want a NamedTuple or a Dict of arrays by name"))
    names = Symbol[Symbol(k) for k in keys(inputs)]
    twice = intersect(names, keys(keywords))
    isempty(twice) || throw(ArgumentError("$(twice[1]) is given twice, by keyword and in inputs"))
    return merge(keywords, NamedTuple{Tuple(names)}(Tuple(values(inputs))))
end

function given(a, float::Union{Nothing,DataType}, engine::Engine)
    a isa Tensor && return a
    a isa Number && return given(fill(a), float, engine)
    a isa AbstractArray || throw(ArgumentError("$(typeof(a)) is no array of numbers"))
    T = eltype(a)
    wanted = T <: AbstractFloat ? something(float, T) : T === Bool ? Bool : T <: Integer ? Int32 : T
    return Tensor(T === wanted ? a : convert(AbstractArray{wanted}, a); engine = engine)
end
