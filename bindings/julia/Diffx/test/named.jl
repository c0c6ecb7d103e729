# Conditions whose names are those of other keywords: by `inputs`.

@testset "conditions of any name" begin
    # x lies at 4 where the condition `steps` is 1, and 8 further where `n` is
    s = Float32[i % 2 for i in 1:512]
    n = Float32[i % 4 > 1 for i in 1:512]
    x = 4 .* reshape(s .+ 2 .* n, 1, :) .+ reshape(Float32[0.1 * sin(i) for i in 1:512], 1, :)
    t = Trainer(; tables = (x = x, steps = reshape(s, 1, :), n = reshape(n, 1, :)), model = setting("mlp"; width = 16, depth = 1),
        process = "ve", steps = 300, batch = 32, seed = 3, rate = 0.01)
    train!(t)
    save(t, file("named.safetensors"))
    p = Pipeline(file("named.safetensors"); steps = 8)
    far, none = ones(Float32, 1, 4), zeros(Float32, 1, 4)
    draw(s, n) = sample(p; n = 4, seed = 1, inputs = (steps = s, n = n))
    low, high = draw(none, none), draw(far, far)
    @test size(low) == size(high) == (1, 4) && all(high .> low)   # conditions, and neither 4 samples nor 8 steps of them
    @test draw(far, none) != low && draw(none, far) != draw(far, none)
    @test sample(p; n = 4, seed = 1, inputs = Dict("steps" => far, "n" => far)) == high
    @test sample(p; n = 4, seed = 1, inputs = Dict(:steps => far, :n => far)) == high
    @test sample(p; n = 4, seed = 1, steps = 3, inputs = (steps = far, n = far)) != high
    @test plan(p; n = 4, inputs = (steps = far, n = far)) > 0
    y = only(evaluate(p, ["x"]; x = low, sigma = fill(1.0f0, 4), inputs = (steps = far, n = far)))
    @test y != only(evaluate(p, ["x"]; x = low, sigma = fill(1.0f0, 4), inputs = (steps = none, n = none)))
    a = score(p; x = high, steps = 8, inputs = (steps = far, n = far))
    @test all(a .> score(p; x = high, steps = 8, inputs = (steps = none, n = none)))

    history = fill(20.0f0, 1, 32)
    v = Pipeline("vix"; steps = 4)
    @test sample(v; seed = 1, inputs = (history = history,)) == sample(v; seed = 1, history = history) != sample(v; seed = 1)
    err = try sample(v; history = history, inputs = (history = history,)) catch e e end
    @test err isa ArgumentError && occursin("history is given twice", err.msg)
    err = try sample(v; inputs = history) catch e e end
    @test err isa ArgumentError && occursin("want a NamedTuple or a Dict", err.msg)
    err = try sample(v; inputs = (steps = far,)) catch e e end
    @test err isa DiffxError && occursin("steps", err.message)
end
