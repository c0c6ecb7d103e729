# The worked example, smaller: its model's years have the quantiles of CIR.

module Scenarios
include("../examples/cir_scenarios.jl")
end

@testset "CIR scenarios" begin
    rows = Scenarios.main(8000, 800; progress = false)
    @test length(rows) == 18
    for part in Iterators.partition(rows, 3)               # 5, 50 and 95 %
        spread = part[3][3] - part[1][3]
        for (name, p, exact, learned) in part
            @test abs(learned - exact) < 0.1spread
        end
    end
end
