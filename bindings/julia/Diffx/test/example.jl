# The worked example, smaller: its model's years have the quantiles of CIR.

module Scenarios
include("../examples/cir_scenarios.jl")
end

@testset "CIR scenarios" begin
    found = Scenarios.main(8000, 800; progress = false)
    @test length(found.rows) == length(found.rare) == 18
    for part in Iterators.partition(found.rows, 3)         # 5, 50 and 95 %
        spread = part[3][3] - part[1][3]
        for (name, p, exact, learned) in part
            @test abs(learned - exact) < 0.1spread
        end
    end
    # given the rare event: its probability, and the middle of each part; without guidance month 6 is 0.45 spreads away
    @test 0.6 < found.probability / found.share < 1.6
    for part in Iterators.partition(found.rare, 3)
        @test abs(part[2][4] - part[2][3]) < 0.2 * (part[3][3] - part[1][3])
    end
    @test abs(found.rows[5][3] - found.rare[5][3]) > 0.4 * (found.rare[6][3] - found.rare[4][3])
end
