# What calls cost from Julia: see calls.c. Each is run once before it is timed, so that nothing is compiled meanwhile.
using Diffx

struct Timespec
    seconds::Int64
    nanoseconds::Int64
end

function thread_time()
    at = Ref(Timespec(0, 0))
    ccall(:clock_gettime, Cint, (Cint, Ref{Timespec}), 3, at)       # CLOCK_THREAD_CPUTIME_ID
    return 1e9 * at[].seconds + at[].nanoseconds
end

function per(f, n)
    f()
    start, sum = thread_time(), 0.0
    for _ in 1:n
        sum += f()
    end
    return round((thread_time() - start) / n; digits = 1), sum
end

const engine = Engine(threaded = false)
const STEPS = 20_000
const pipeline = Pipeline("vix"; engine = engine, sampler = "euler", steps = 1)
const one = Pipeline(ENV["DIFFX_NULL"]; engine = engine, sampler = "euler", steps = 1)
const many = Pipeline(ENV["DIFFX_NULL"]; engine = engine, sampler = "euler", steps = STEPS)
const four = Float32[1, 2, 3, 4]

empty() = Diffx.@dfx dfx_api_version()::UInt32
function tensor()
    t = Tensor(four; engine = engine)
    last = t[4]
    close(t)
    return last
end
function job(p)
    j = wait(start(p))
    x = result(j)
    first = x[1]
    close(x)
    close(j)
    return first
end

println("empty ", per(empty, 100_000)[1])
println("tensor ", per(tensor, 20_000)[1])
function jobs(p, n)
    per(() -> job(p), n ÷ 10)
    return per(() -> job(p), n)[1]
end
println("job ", jobs(pipeline, 200))
println("null ", jobs(one, 500))
println("step ", jobs(many, 10) / STEPS)
