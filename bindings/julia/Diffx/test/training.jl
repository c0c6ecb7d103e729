# A trainer from tables in memory.

# 512 examples of 4 positive values
table() = 1.0f0 .+ reshape(Float32[sin(i)^2 for i in 1:4*512], 4, 512)
trainer(; steps = 60, process = "cir") = Trainer(; tables = (x = table(),), model = setting("mlp"; width = 16, depth = 1),
    process = process, steps = steps, batch = 32, seed = 3, data = (held_out = 0.1,))

@testset "training" begin
    t = trainer()
    first_step = step!(t)
    @test first_step.step == 1 && first_step.n_steps == 60 && isfinite(first_step.loss) && first_step.norm > 0
    seen = Int[]
    at = train!(t; progress = s -> (push!(seen, s.step); nothing))
    @test at.step == 60 && issorted(seen) && last(seen) == 60
    @test step!(t, 5).step == 60                           # none are left
    @test isfinite(measure(t).loss)
    @test metrics(t) isa Dict{String,Float64}
    save(t, file("small.safetensors"))
    x = sample(file("small.safetensors"); n = 8, seed = 1, steps = 8)
    @test size(x) == (4, 8) && all(x .> 0)

    # stopped by progress, put away, and gone on with elsewhere: the same model
    half = trainer()
    stopped = train!(half; progress = s -> s.step < 20)
    @test 20 <= stopped.step <= 60
    checkpoint(half, file("half.safetensors"))
    other = trainer()
    resume!(other, file("half.safetensors"))
    @test train!(other).loss == at.loss
    save(other, file("other.safetensors"))
    @test sample(file("other.safetensors"); n = 8, seed = 1, steps = 8) == x

    @test_throws DiffxError Trainer(; tables = (x = -table(),), model = "mlp", process = "cir")
    @test_throws DiffxError Trainer("{\"model\":\"mlp\"}")
end

@testset "tuning by a reward" begin
    if !any(occursin("org.diffx.nft", text) for text in factories())
        println("skipped: tuning: this library has no objective nft")
    else
        t = trainer(steps = 300)
        train!(t)
        save(t, file("before.safetensors"))
        tuner(; rounds = 12) = Tuner(file("before.safetensors"); objective = "nft", rounds = rounds, samples = 128,
            rate = 0.003, seed = 1, rollout = (steps = 8,))
        mean(x) = sum(x) / length(x)
        drawn(path) = mean(sample(path; n = 500, seed = 9, steps = 8))
        before = drawn(file("before.safetensors"))

        u, seen = tuner(), Float64[]
        at = tune!(u; progress = a -> (push!(seen, a.reward); nothing)) do x
            @assert size(x) == (4, 128)
            vec(sum(x; dims = 1))
        end
        @test at.round == at.n_rounds == 12 && length(seen) == 12 && last(seen) > first(seen)
        @test metrics(u)["reward"] == last(seen) && metrics(u)["valid"] == 1
        save(u, file("up.safetensors"))
        @test drawn(file("up.safetensors")) > before + 0.1

        # the other way, and some without a word
        v = tuner()
        tune!(x -> [i % 4 == 0 ? missing : -sum(x[:, i]) for i in axes(x, 2)], v)
        @test metrics(v)["valid"] == 0.75
        save(v, file("down.safetensors"))
        @test drawn(file("down.safetensors")) < before - 0.1

        # stopped, put away and gone on with: the same model
        half = tuner()
        reward(x) = vec(sum(x; dims = 1))
        @test tune!(reward, half; progress = a -> a.round < 5).round == 5
        checkpoint(half, file("tuner.safetensors"))
        other = tuner()
        resume!(other, file("tuner.safetensors"))
        @test tune!(reward, other).round == 12
        save(other, file("again.safetensors"))
        @test sample(file("again.safetensors"); n = 20, seed = 1, steps = 8) == sample(file("up.safetensors"); n = 20, seed = 1, steps = 8)

        # what a reward throws is thrown; what it gets wrong is refused
        @test_throws ErrorException tune!(_ -> error("no"), tuner())
        @test_throws DiffxError tune!(_ -> [1.0, 2.0], tuner())
        @test_throws DiffxError tune!(x -> fill(NaN, 128), tuner())
        @test_throws DiffxError update!(tuner())           # nothing was drawn
        # arrays become the type that is tuned
        t = trainer(steps = 20, process = "flow")
        train!(t)
        save(t, file("flow.safetensors"))
        twice = Tuner(file("flow.safetensors"); objective = "draft", rounds = 1, samples = 4,
            rollout = (sampler = "flow_sde", steps = 4, dtype = "f64"))
        rollout!(twice)
        @test eltype(result(twice)) == Float64
        reward!(twice, ones(4); gradients = (x = ones(Float32, 4, 4),))
        @test isfinite(update!(twice).norm)
        # by hand
        w = tuner()
        rollout!(w)
        x = result(w)
        @test result(w, "x") == x
        reward!(w, vec(sum(x; dims = 1)))
        @test update!(w).step == 1 && isopen(w)
    end
end
