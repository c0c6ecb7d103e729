# Samples the carried model and prints a checksum of the bytes, the same from every language:
# DIFFX_LIBRARY=target/release/libdiffx.so julia --project=bindings/julia/Diffx examples/hello/hello.jl
using Diffx

function fnv1a(bytes)
    h = 0xcbf29ce484222325
    for b in bytes
        h = (h ⊻ b) * 0x00000100000001b3
    end
    return h
end

x = sample("vix"; n = 16, seed = 1)
println(string(fnv1a(reinterpret(UInt8, vec(x))); base = 16, pad = 16))
