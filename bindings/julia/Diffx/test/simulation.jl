# Paths against their law, forwards and likelihoods.

@testset "exact CIR" begin
    kappa, theta, sigma, x0, t = 1.5, 0.04, 0.3, 0.09, 0.7
    n = 100_000
    y = simulate(setting("cir"; kappa = kappa, theta = theta, sigma = sigma); times = [t], x0 = x0, n = n, seed = 5)
    @test size(y) == (1, n) && eltype(y) === Float64
    values = vec(y)
    e = exp(-kappa * t)
    mean = theta + (x0 - theta) * e
    variance = x0 * sigma^2 / kappa * (e - e^2) + theta * sigma^2 / (2kappa) * (1 - e)^2
    m = sum(values) / n
    @test abs(m - mean) < 4 * sqrt(variance / n)
    v = sum(abs2, values .- m) / (n - 1)
    fourth = sum(x -> (x - m)^4, values) / n
    @test abs(v - variance) < 4 * sqrt((fourth - variance^2) / n)
    @test abs(v - 1.1variance) > 4 * sqrt((fourth - variance^2) / n)   # a volatility 5 % off is seen
    @test all(values .>= 0)
end

@testset "what comes out" begin
    all_ = simulate("cir"; times = [0, 0.5, 1.0], x0 = [1.0f0, 2.0f0], n = 3)
    @test size(all_) == (2, 3, 3) && eltype(all_) === Float32 && all_[:, 1, :] == repeat(Float32[1, 2], 1, 3)
    @test simulate("cir"; times = [0, 0.5, 1.0], x0 = [1.0f0, 2.0f0], n = 3, keep = [3]) == all_[:, 3:3, :]
    euler = simulate("cir"; times = [0, 0.5, 1.0], x0 = [1.0f0, 2.0f0], n = 3, euler = true, substeps = 4)
    @test size(euler) == (2, 3, 3) && euler != all_
    @test_throws DiffxError simulate("cir"; times = [1.0, 0.5], x0 = 1.0)
    @test_throws DiffxError simulate("cir"; times = [1.0], x0 = -1.0)
end

@testset "forward and likelihood" begin
    p = Pipeline("vix")
    x = sample(p; n = 4, seed = 2)
    d, g = evaluate(p, ["x", "grad.x"]; x = x, sigma = fill(1.0f0, 4))
    @test size(d) == size(g) == (32, 4) && all(isfinite, d) && any(g .!= 0)
    nats = score(p; x = x, steps = 8, probes = 2)
    @test length(nats) == 4 && eltype(nats) === Float64 && all(isfinite, nats)
    @test_throws DiffxError evaluate(p, ["x"]; x = x)      # no sigma
end
