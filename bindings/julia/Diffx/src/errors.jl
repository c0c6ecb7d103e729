# A status that is not 0 becomes an exception.

"""
What diffx refused, and why. `status` is a code of `diffx.h` (`Diffx.name(status)` is its name), `source` the number of the
plugin at fault, 0 for the engine.
"""
struct DiffxError <: Exception
    status::Int32
    message::String
    source::UInt32
end

const OK = Status(0)
const E_INVALID = Status(-1)
const E_STATE = Status(-2)
const E_NOT_FOUND = Status(-3)
const E_UNSUPPORTED = Status(-7)
const E_CANCELLED = Status(-9)

name(status::Integer) = unsafe_string(@dfx dfx_status_name(status::Int32)::Cstring)

Base.showerror(io::IO, e::DiffxError) = print(io, "DiffxError: ", name(e.status), ": ", e.message)

# A fresh dfx_error in plain bytes.
function blank_error()
    err = zeros(UInt8, sizeof(CError))
    GC.@preserve err unsafe_store!(Ptr{UInt32}(pointer(err)), UInt32(sizeof(CError)))
    return err
end

@noinline function fail(status::Status, err::Vector{UInt8})
    GC.@preserve err begin
        at = pointer(err)
        source = unsafe_load(Ptr{UInt32}(at + fieldoffset(CError, 3)))
        throw(DiffxError(status, unsafe_string(at + fieldoffset(CError, 5)), source))
    end
end

# `@ok dfx_f(x::T, ...)` calls a function that returns a status and takes a dfx_error last.
macro ok(call)
    call = Expr(:call, call.args..., :(err::Ptr{UInt8}))
    invocation = Expr(:macrocall, Symbol("@dfx"), __source__, :($call::Status))
    return esc(quote
        let err = Diffx.blank_error(), status = $invocation
            status == Diffx.OK || Diffx.fail(status, err)
            nothing
        end
    end)
end
