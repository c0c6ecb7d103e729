-- What calls cost from LuaJIT: see calls.c.
local diffx = require "diffx"
local ffi = require "ffi"

ffi.cdef [[
struct bench_time { long s, ns; };
int clock_gettime(int clock, struct bench_time *out);
]]
local t = ffi.new "struct bench_time"
local function now()
    ffi.C.clock_gettime(3, t) -- CLOCK_THREAD_CPUTIME_ID
    return tonumber(t.s) * 1e9 + tonumber(t.ns)
end

local function per(n, f)
    local start = now()
    for _ = 1, n do f() end
    return (now() - start) / n
end

local engine = diffx.engine { threaded = false }
local steps = 20000
local pipeline = engine:model("vix"):pipeline { sampler = "euler", steps = 1 }
local null = engine:model(os.getenv "DIFFX_NULL")
local one, many = null:pipeline { sampler = "euler", steps = 1 }, null:pipeline { sampler = "euler", steps = steps }
local C, shape, four, sum = diffx.C, { 4 }, { 1, 2, 3, 4 }, 0

local function jobs(p, n)
    local function job()
        local j = p:start { n_samples = 1 }
        j:wait()
        local x = j:result()
        sum = sum + x.data[0]
        x:close()
        j:close()
    end
    per(math.floor(n / 10) + 1, job)
    return per(n, job)
end

print(("empty %.1f"):format(per(100000, function() sum = sum + C.dfx_api_version() end)))
print(("tensor %.1f"):format(per(20000, function()
    local x = engine:tensor(shape, four)
    sum = sum + x.data[3]
    x:close()
end)))
print(("job %.1f"):format(jobs(pipeline, 200)))
print(("null %.1f"):format(jobs(one, 500)))
print(("step %.1f"):format(jobs(many, 10) / steps))
