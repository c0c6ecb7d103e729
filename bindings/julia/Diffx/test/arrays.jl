# Arrays in and out: the last axis of Julia is the first of diffx, and nothing is transposed.

@testset "arrays" begin
    a = reshape(collect(Float32, 1:24), 2, 3, 4)
    t = Tensor(a)
    @test t == a && size(t) == (2, 3, 4) && strides(t) == strides(a) && t isa DenseArray{Float32,3}
    @test pointer(t) != pointer(a)                         # a copy
    a[1] = 100
    @test t[1] == 1
    @test sum(t) == sum(1:24) && vec(t)[24] == 24 && t[2, 3, 4] == 24 && view(t, :, 1, 1) == [1, 2]
    @test Array(t) isa Array && Array(t) == t
    @test_throws BoundsError t[25]
    @test_throws Exception t[1] = 0                        # immutable
    @test size(Tensor(view(a, :, 1, 2:3))) == (2, 2)        # whatever is strided is collected
    for (T, values) in ((Float64, [1.5]), (Int32, [1]), (Int64, [2]), (UInt8, [3]), (Bool, [true, false]), (Float16, [0.5]))
        @test Tensor(T.(values)) == T.(values)
        @test eltype(Tensor(T.(values))) === T
    end
    @test_throws DiffxError Tensor([1 + 2im])
    @test_throws DiffxError Tensor(zeros(Float32, ntuple(_ -> 1, 9)))
    close(t)
    @test isempty(t) && !isopen(t)
    @test_throws BoundsError t[1]
    close(t)                                               # twice does nothing
    b = Float32[1 2; 3 4]
    out = b * Tensor(b)                                    # linear algebra reads it in place
    @test out == b * b
end

@testset "column-major is row-major read backwards" begin
    # 5 starts of 2 dimensions: diffx sees [5, 2], row i of which is column i here
    x0 = Float64[0.1*i + 10 * d for d in 1:2, i in 1:5]
    y = simulate(setting("cir"; kappa = 1.0, theta = 10.0, sigma = 1e-6); times = [1e-9], x0 = x0, n = 5, per_sample = true)
    @test size(y) == (2, 1, 5)
    @test y[:, 1, :] ≈ x0 rtol = 1e-3                        # a transposed reading would be far off
end

@testset "lent memory" begin
    before = borrowed()
    x0 = fill(2.0, 3)
    t = wrap(x0)
    @test pointer(t) == pointer(x0) && t == x0 && borrowed() == before + 1
    y = simulate("cir"; times = [0.5], x0 = t, n = 4)
    @test y == simulate("cir"; times = [0.5], x0 = x0, n = 4)
    close(t)
    @test borrowed() == before                             # given back by diffx, and seen without a callback
    # a job keeps what was lent to it after the tensor is closed
    history = fill(20.0f0, 1, 32)
    t = wrap(history)
    p = Pipeline("vix"; steps = 4)
    j = start(p; n = 2, history = t)
    close(t)
    wait(j)
    @test result(j) == sample(p; n = 2, history = history)
    close(j)
    close(p)
    Diffx.OWN[] === nothing || close(Diffx.OWN[])          # the last of its engine: nothing of it runs any more
    @test borrowed() == before
    @test_throws DiffxError wrap(zeros(Float32, ntuple(_ -> 1, 9)))
    @test borrowed() == before
end
