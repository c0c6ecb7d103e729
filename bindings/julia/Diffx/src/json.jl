# Configs are JSON. Text passes as it is; named tuples, dictionaries, lists, numbers and texts are written out.

json(text::AbstractString) = String(text)
json(value) = sprint(write_json, value)

write_json(io::IO, ::Nothing) = print(io, "null")
write_json(io::IO, x::Union{Bool,Integer}) = print(io, x)
function write_json(io::IO, x::Real)
    isfinite(x) || throw(ArgumentError("$x has no JSON"))
    print(io, Float64(x))
end
write_json(io::IO, x::Symbol) = write_json(io, String(x))
function write_json(io::IO, x::AbstractString)
    print(io, '"')
    for c in x
        if c == '"' || c == '\\'
            print(io, '\\', c)
        elseif c < ' '
            print(io, "\\u", string(UInt32(c); base = 16, pad = 4))
        else
            print(io, c)
        end
    end
    print(io, '"')
end
write_json(io::IO, x::Pair) = write_json(io, (id = x.first, config = x.second))
function write_json(io::IO, x::Union{AbstractVector,Tuple})
    print(io, '[')
    for (i, v) in enumerate(x)
        i == 1 || print(io, ',')
        write_json(io, v)
    end
    print(io, ']')
end
function write_json(io::IO, x::Union{NamedTuple,AbstractDict})
    print(io, '{')
    for (i, (k, v)) in enumerate(pairs(x))
        i == 1 || print(io, ',')
        write_json(io, string(k))
        print(io, ':')
        write_json(io, v)
    end
    print(io, '}')
end

"""
    setting(id; settings...)

A plugin with its settings, as every config takes it: `setting("cir"; kappa = 1.0)` is `cir:{"kappa":1.0}`.
"""
setting(id; settings...) = isempty(settings) ? String(id) : string(id, ":", json((; settings...)))
