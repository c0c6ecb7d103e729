-- The recording: 600 frames with nothing to sample, 600 while sampling, figures of both; then a picture.

local diffx = require "diffx"
local ffi = require "ffi"

ffi.cdef [[
struct record_time { long s, ns; };
int clock_gettime(int clock, struct record_time *out);
]]

-- Seconds that this thread has worked: what other programs take of a busy machine is left out.
local now = ffi.new "struct record_time"
local function worked()
    ffi.C.clock_gettime(3, now) -- CLOCK_THREAD_CPUTIME_ID
    return tonumber(now.s) + tonumber(now.ns) * 1e-9
end

local WARM, FRAMES = 60, 600

local function figures(list)
    local sorted = {}
    for i, v in ipairs(list) do sorted[i] = v end
    table.sort(sorted)
    local function at(share) return sorted[math.max(1, math.ceil(share * #sorted))] * 1e3 end
    return { frames = #sorted, p50_ms = at(0.5), p99_ms = at(0.99), worst_ms = at(1) }
end

local function write(path, text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
end

-- Takes the place of LÖVE's loop: a frame is timed from its events to after it was shown, without the sleep between.
return function(game, folder, rerun)
    local phase, frames = "warm", 0
    local times = { warm = {}, idle = {}, sampling = {}, picture = {} }
    local frames_worked = { warm = {}, idle = {}, sampling = {}, picture = {} }
    local pumped, pump_worked, work, shot = {}, {}, 0, false
    local first, previews, sampled, previewed = 0, 0, 0, 0

    local function watch_pump()
        local methods = getmetatable(game.forecast.engine)
        local pump = methods.pump
        function methods.pump(engine, budget_us)
            local start = worked()
            local left = pump(engine, budget_us)
            work = worked() - start
            return left
        end
    end

    local function finish()
        local f = game.forecast
        write(folder .. "/report.json", diffx.encode {
            idle = figures(times.idle), sampling = figures(times.sampling), pump = figures(pumped),
            pump_worked = figures(pump_worked),
            idle_worked = figures(frames_worked.idle), sampling_worked = figures(frames_worked.sampling),
            starts = figures(f.starts), scenarios = sampled, previews = previewed,
            budget_ms = 2, engine = diffx.version(), renderer = table.concat({ love.graphics.getRendererInfo() }, ", "),
        })
        love.event.quit()
    end

    local function after(seconds, seconds_worked)
        table.insert(frames_worked[phase], seconds_worked)
        frames = frames + 1
        table.insert(times[phase], seconds)
        if phase == "warm" and frames >= WARM and not game.forecast:is_busy() then
            phase, frames = "idle", 0
        elseif phase == "idle" and frames == FRAMES then
            phase, frames = "sampling", 0
            first, previews = game.forecast.finished, game.forecast.previews
            game.seed = game.seed + 1
            rerun()
        elseif phase == "sampling" then
            table.insert(pumped, game.pump.last)
            table.insert(pump_worked, work)
            if frames == FRAMES then
                sampled, previewed = game.forecast.finished - first, game.forecast.previews - previews
                phase = "picture"
            end
        end
        if phase == "sampling" or phase == "picture" then
            if not game.forecast:is_busy() then
                game.seed = game.seed + 1
                rerun()
            end
        end
        -- after the figures, because to write a picture takes long: some scenarios done, the next ones nearly
        if phase == "picture" and not shot and game.forecast.ghost and game.forecast.done >= 96 and game.forecast.step >= 13 then
            shot = true
            love.graphics.captureScreenshot(function(image)
                write(folder .. "/screenshot.png", image:encode("png"):getString())
                finish()
            end)
        end
    end

    function love.run()
        love.load()
        watch_pump()
        love.timer.step()
        return function()
            local start, start_worked = love.timer.getTime(), worked()
            love.event.pump()
            for name, a, b, c, d, e, f in love.event.poll() do
                if name == "quit" then return a or 0 end
                love.handlers[name](a, b, c, d, e, f)
            end
            love.update(love.timer.step())
            love.graphics.origin()
            love.graphics.clear(love.graphics.getBackgroundColor())
            love.draw()
            love.graphics.present()
            after(love.timer.getTime() - start, worked() - start_worked)
            love.timer.sleep(0.001)
        end
    end
end
