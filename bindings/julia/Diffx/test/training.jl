# A trainer from tables in memory.

# 512 examples of 4 positive values
table() = 1.0f0 .+ reshape(Float32[sin(i)^2 for i in 1:4*512], 4, 512)
trainer(; steps = 60) = Trainer(; tables = (x = table(),), model = setting("mlp"; width = 16, depth = 1), process = "cir",
    steps = steps, batch = 32, seed = 3, data = (held_out = 0.1,))

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
