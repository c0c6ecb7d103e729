# Sampling, progress, cancelling, errors.

@testset "samples" begin
    x = sample("vix"; n = 16, seed = 1)
    @test size(x) == (32, 16) && eltype(x) === Float32 && all(isfinite, x) && all(x .> 0)
    @test sample("vix"; n = 16, seed = 1) == x
    @test sample("vix"; n = 3, first = 5, seed = 1) == x[:, 6:8]      # a sample is its id
    @test sample("vix"; n = 16, seed = 2) != x
    p = Pipeline("vix"; sampler = "euler", steps = 4)
    @test size(sample(p; n = 2)) == (32, 2)
    @test occursin("temporal", info(Model("vix")))
    q = Pipeline("vix"; dtype = "f64", steps = 4)
    @test eltype(sample(q; n = 1, history = fill(20.0f0, 1, 32))) === Float64   # conditions take the pipeline's type
    @test plan(p; n = 100) > plan(p; n = 10) > 0
end

@testset "progress" begin
    p = Pipeline("vix"; steps = 8, batch = 2)
    seen = Any[]
    x = sample(p; n = 8, progress = at -> (push!(seen, at); nothing))
    @test last(seen).state === :done && last(seen).step == last(seen).n_steps == 32
    @test issorted([s.step for s in seen])
    @test x == sample(p; n = 8)
    err = try sample(p; n = 10_000, progress = _ -> false) catch e e end
    @test err isa DiffxError && err.status == Diffx.E_CANCELLED
    j = start(p; n = 10_000)
    @test_throws ErrorException wait(j; progress = _ -> error("enough"))   # the job goes with it
    err = try wait(j) catch e e end
    @test err isa DiffxError && err.status == Diffx.E_CANCELLED
end

@testset "jobs" begin
    p = Pipeline("vix"; steps = 8, batch = 4)
    whole = sample(p; n = 12, seed = 3)
    j = start(p; n = 12, seed = 3, preview_every = 1)
    save(j, file("job.safetensors"))
    wait(j)
    @test result(j) == result(j, "x") == whole
    @test size(preview(j, "x"), 1) == 32
    shown = preview_at(j, "x")
    @test size(shown.estimate) == (32, 4) && shown.estimate == preview(j, "x")
    @test (shown.first, shown.n) == (8, 4) && 16 < shown.step <= poll(j).n_steps # the last of three batches
    again = resume(p, file("job.safetensors"))
    @test result(wait(again)) == whole
    @test_throws DiffxError result(j, "y")
    cancel(start(p; n = 1000))
    save(p, file("eight-steps.safetensors"))
    @test sample(file("eight-steps.safetensors"); n = 12, seed = 3) == whole
end

@testset "without threads" begin
    e = Engine(threaded = false)
    p = Pipeline("vix"; engine = e, steps = 4)
    j = start(p; n = 4, seed = 1)
    @test poll(j).step == 0                                # nothing moves by itself
    while pump(e, 1000) > 0
    end
    @test result(j) == sample(p; n = 4, seed = 1) == sample(Pipeline("vix"; steps = 4); n = 4, seed = 1)
    used, peak = memory(e)
    @test 0 < used <= peak
end

@testset "errors" begin
    err = try Model("no-such-model") catch e e end
    @test err isa DiffxError && err.status == Diffx.E_NOT_FOUND && occursin("no-such-model", err.message)
    @test startswith(sprint(showerror, err), "DiffxError: DFX_E_NOT_FOUND: ")
    @test_throws DiffxError Pipeline("vix"; sampler = "no-such-sampler")
    @test_throws DiffxError Pipeline("vix"; stepz = 3)
    @test_throws DiffxError sample("vix"; history = [1.0])
    @test_throws ArgumentError Model("a\0b")               # text that C would cut short
    p = Pipeline("vix")
    close(p)
    err = try sample(p) catch e e end
    @test err isa DiffxError && err.status == Diffx.E_STATE && occursin("closed", err.message)
    small = Engine(memory = 1000)
    @test_throws DiffxError Pipeline("vix"; engine = small)
    denied = try load_plugin(Engine(), "/nowhere.so") catch e e end
    @test denied isa DiffxError && Diffx.name(denied.status) == "DFX_E_DENIED"
end
