# The collector releases in any order and at any time, and threads of diffx never meet Julia.

function leave_behind(n)
    for i in 1:n
        e = Engine(threads = 2)
        p = Pipeline("vix"; engine = e, steps = 4)
        j = start(p; n = 64, seed = i)
        i % 3 == 0 && close(e)                             # each keeps what it needs
        i % 2 == 0 && (wait(j); result(j))
        t = wrap(fill(Float32(i), 32); engine = Diffx.own_engine())
    end
end

@testset "finalizers" begin
    leave_behind(12)
    for _ in 1:4
        GC.gc()
    end
    @test borrowed() <= 1                                  # the last one may still be on the stack
    x = sample("vix"; n = 4, seed = 1)
    keep = map(i -> sample("vix"; n = 4, seed = i), 1:5)
    GC.gc()
    @test keep[1] == x                                     # what is held stays
end

@testset "collections while threads of diffx run" begin
    p = Pipeline("vix"; steps = 8)
    whole = sample(p; n = 64, seed = 9)
    j = start(p; n = 64, seed = 9)
    while poll(j).state in (:queued, :running)
        GC.gc()
        [zeros(100) for _ in 1:1000]
    end
    @test result(wait(j)) == whole
    # tasks share one process: each follows its own job
    tasks = [@async sample(p; n = 8, first = 8i, seed = 9) for i in 0:7]
    @test reduce(hcat, fetch.(tasks)) == whole
end

@testset "signals stay Julia's" begin
    # Julia's collector stops its threads by SIGSEGV on a guarded page, and asks for SIGINT on a thread of its own.
    if isfile("/proc/self/status")
        line(path, key) = first(l for l in eachline(path) if startswith(l, key))
        caught = line("/proc/self/status", "SigCgt")
        blocked = line("/proc/self/status", "SigBlk")
        e = Engine(threads = 2)
        j = start(Pipeline("vix"; engine = e); n = 256)
        ours = filter(t -> startswith(read("/proc/self/task/$t/comm", String), "diffx"), readdir("/proc/self/task"))
        @test length(ours) >= 1
        @test all(line("/proc/self/task/$t/status", "SigBlk") == blocked for t in ours)
        @test line("/proc/self/status", "SigCgt") == caught    # diffx installs no handler
        cancel(j)
    else
        println("skipped: signals: no /proc")
    end
    # an exception thrown through compiled code while threads of diffx run is caught like any other
    thrower(x) = x > 0 ? error("boom") : x
    @test_throws ErrorException thrower(1)
    @test_throws UndefVarError (() -> no_such_name_anywhere)()
end

@testset "another thread of Julia collects meanwhile" begin
    if Threads.nthreads() > 1
        p = Pipeline("vix"; steps = 8)
        whole = sample(p; n = 256, seed = 4)
        over = Threads.Atomic{Bool}(false)
        other = Threads.@spawn while !over[]
            leave_behind(1)
            GC.gc(false)
        end
        again = map(_ -> sample(p; n = 256, seed = 4), 1:5)
        over[] = true
        wait(other)
        @test all(x -> x == whole, again)
    else
        println("skipped: threads of Julia: JULIA_NUM_THREADS is 1")
    end
end

@testset "nothing of Julia is handed to C to call" begin
    sources = readdir(joinpath(@__DIR__, "../src"); join = true)
    @test length(sources) > 5
    @test !any(occursin("cfunction", read(f, String)) for f in sources)
end
