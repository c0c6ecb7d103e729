-- Tests of diffx.lua: luajit bindings/lua/test.lua, with DIFFX_LIBRARY and LUA_PATH set. Prints ok at the end.
local diffx = require "diffx"
local ffi = require "ffi"

local function fails(name, f, ...)
    local ok, e = pcall(f, ...)
    assert(not ok, "nothing failed")
    assert(type(e) == "table" and e.name == name, tostring(e))
    assert(#e.message > 0 and e.status < 0)
    return e
end

local tests = {}

function tests.json_goes_both_ways()
    local v = diffx.decode '{"a": [1, -2.5e3, true, false], "b": {"c": "x\\"\\u00e9\\n"}, "d": [], "e": null}'
    assert(v.a[1] == 1 and v.a[2] == -2500 and v.a[3] == true and v.a[4] == false)
    assert(v.b.c == 'x"\195\169\n' and #v.d == 0 and v.e == diffx.null)
    assert(diffx.encode(v.a) == "[1,-2500,true,false]" and diffx.encode(v.d) == "[]" and diffx.encode {} == "{}")
    assert(diffx.encode { steps = 4, grid = "edm" } == '{"grid":"edm","steps":4}')
    assert(diffx.decode(diffx.encode(0.1)) == 0.1)
    fails("INVALID", diffx.encode, 0 / 0)
    fails("FORMAT", diffx.decode, "[1 2]")
end

function tests.null_keeps_its_place()
    local list = diffx.decode "[1,null,3]"
    assert(#list == 3 and list[1] == 1 and list[2] == diffx.null and list[3] == 3)
    for _, text in ipairs { "null", "[null]", "[1,null,3]", '{"pilot":null}', '{"a":[null,{"b":null}]}' } do
        assert(diffx.encode(diffx.decode(text)) == text, text)
    end
    assert(tostring(diffx.null) == "null")
end

function tests.same_bits_by_pump_and_by_thread()
    local function sample(engine)
        local pipeline = engine:model("vix"):pipeline { steps = 3 }
        local job = pipeline:start { n_samples = 4, seed = 7, preview_every = 1 }
        assert(engine:memory() > 0)
        local shown = 0
        while engine:pump(1) > 0 do
            local preview = job:preview "x"
            if preview then
                assert(preview.shape[1] == 4 and preview.shape[2] == 32)
                shown = shown + 1
                local _, first, n, step = job:preview_at()
                assert(first == 0 and n == 4 and step >= 1 and step <= 3)
            end
        end
        assert(job:wait() == true and job:is_over())
        local state, step, of = job:progress()
        assert(state == "done" and step == of)
        return job:result(), shown
    end
    local a, shown = sample(diffx.engine { threaded = false })
    local b = sample(diffx.engine { threads = 1 })
    assert(shown > 0)
    assert(a:string() == b:string() and a.n == 128 and a.dtype == "f32" and a.data[127] > 0)
end

function tests.inputs_and_plans()
    local engine = diffx.engine { threaded = false }
    local pipeline = engine:model("vix"):pipeline '{"steps": 2}'
    local values = {}
    for i = 1, 32 do values[i] = 20 end
    local history = engine:tensor({ 32, 1 }, values)
    local with = pipeline:sample { n_samples = 2, seed = 1, inputs = { history = history } }
    assert(with:string() ~= pipeline:sample { n_samples = 2, seed = 1 }:string())
    assert(pipeline:plan { n_samples = 64 } > pipeline:plan { n_samples = 1 })
    fails("INVALID", engine.tensor, engine, { 2 }, { 1 })
    fails("INVALID", engine.tensor, engine, { 1 }, { 1 }, "f80")
end

function tests.a_saved_job_ends_in_the_same_bits()
    local path = os.tmpname()
    local engine = diffx.engine { threaded = false }
    local pipeline = engine:model("vix"):pipeline { steps = 3 }
    local job = pipeline:start { n_samples = 4, seed = 7 }
    assert(job:wait(0) == false)
    job:save(path)
    job:cancel()
    fails("CANCELLED", job.wait, job)
    fails("CANCELLED", job.result, job)
    local resumed = pipeline:resume(path)
    assert(resumed:wait())
    os.remove(path)
    assert(resumed:result():string() == pipeline:sample { n_samples = 4, seed = 7 }:string())
end

function tests.processes_without_a_model()
    local engine = diffx.engine()
    local x0 = engine:tensor({ 1 }, { 0.03 }, "f64")
    local paths = engine:simulate {
        process = { id = "cir", config = { kappa = 1, theta = 0.04, sigma = 0.5 } },
        x0 = x0, times = { 0.5, 1 }, n_samples = 100, seed = 3,
    }
    assert(paths.dtype == "f64" and paths.shape[1] == 100 and paths.shape[2] == 2)
    for i = 0, paths.n - 1 do assert(paths.data[i] > 0) end
    fails("NOT_FOUND", engine.simulate, engine, { process = "nope", x0 = x0, times = { 1 } })
end

function tests.errors_and_closed_handles()
    local engine = diffx.engine()
    assert(tostring(fails("NOT_FOUND", engine.model, engine, "nope")):find "nope")
    fails("DENIED", engine.load_plugin, engine, "/nowhere/plugin.so")
    local model = engine:model "vix"
    engine:close()
    engine:close()
    fails("STATE", engine.model, engine, "vix")
    assert(tostring(engine) == "diffx.Engine (closed)")
    assert(model:info().components[1].name == "x") -- each keeps what it needs
    assert(#diffx.engine():plugins() > 20)
end

function tests.the_collector_releases()
    local engine = diffx.engine { threaded = false }
    local before = engine:memory()
    local values = {}
    for i = 1, 1000 do values[i] = i end
    for _ = 1, 50 do engine:tensor({ 1000 }, values) end
    collectgarbage()
    collectgarbage()
    assert(engine:memory() == before)
end

function tests.every_declared_function_is_there()
    local n = 0
    for name in io.open(debug.getinfo(diffx.engine, "S").source:sub(2)):read "*a":gmatch "[%s*](dfx_[%w_]+)%(" do
        assert(ffi.cast("void *", diffx.C[name]) ~= nil)
        n = n + 1
    end
    assert(n > 40)
end

local names = {}
for name in pairs(tests) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do
    tests[name]()
    print("passed " .. name)
end
print(diffx.version() .. " ok")
