# julia --project=bindings/julia/Diffx bindings/julia/Diffx/test/runtests.jl, with DIFFX_LIBRARY naming the library.
using Diffx, Test

const SCRATCH = mktempdir()
file(name) = joinpath(SCRATCH, name)

@testset "Diffx" begin
    include("layout.jl")
    include("arrays.jl")
    include("jobs.jl")
    include("simulation.jl")
    include("training.jl")
    include("named.jl")
    include("lifetimes.jl")
    include("example.jl")
end
