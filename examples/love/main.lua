-- A game that hosts the engine in its frame loop: a fan chart of the VIX that grows while you watch and play with it.
--
--     DIFFX_LIBRARY=path/to/libdiffx.so love examples/love
--
-- Space: other scenarios. Left, right: the seed. Sliders: how many scenarios, how many steps. H: figures. Escape: leave.
-- DIFFX_LOVE_REPORT=folder records 600 frames idle and 600 frames while sampling, with a screenshot, and leaves.

package.path = love.filesystem.getSource() .. "/../../bindings/lua/?.lua;" .. package.path

local Forecast, Chart, Slider = require "forecast", require "chart", require "slider"

local BUDGET_US = 2000 -- of each frame, for the engine

local game = { seed = 1, hud = true, pump = { last = 0, worst = 0 } }

local function rerun()
    game.forecast:restart(game.seed, game.scenarios.value, game.steps.value)
    game.pump.worst = 0
end

local function place()
    local w, h = love.graphics.getDimensions()
    game.chart:place(70, 96, w - 110, h - 240)
    game.scenarios:place(70, h - 48, 260)
    game.steps:place(380, h - 48, 200)
end

function love.load()
    love.graphics.setBackgroundColor(0.055, 0.075, 0.115)
    game.font = love.graphics.newFont(12)
    game.forecast = Forecast.new()
    game.chart = Chart.new(game.forecast.days)
    game.scenarios = Slider.new("scenarios", 32, 512, 32, 256, rerun)
    game.steps = Slider.new("steps", 4, 32, 2, 16, rerun)
    place()
    rerun()
end

function love.resize() place() end

function love.update(dt)
    local took = game.forecast:update(BUDGET_US)
    game.pump.last, game.pump.worst = took, math.max(game.pump.worst, took)
    game.chart:update(game.forecast, dt)
end

function love.draw()
    local lg, forecast = love.graphics, game.forecast
    local w, h = lg.getDimensions()
    game.chart:draw(forecast)
    lg.setFont(game.font)
    game.scenarios:draw()
    game.steps:draw()
    lg.setColor(0.90, 0.93, 0.98)
    lg.print(("seed %d    %d of %d scenarios"):format(game.seed, forecast.done, forecast.scenarios), 630, h - 74)
    lg.setColor(0.20, 0.25, 0.34)
    lg.rectangle("fill", 630, h - 50, w - 670, 4, 2)
    lg.setColor(0.98, 0.47, 0.55)
    lg.rectangle("fill", 630, h - 50, (w - 670) * forecast:progress(), 4, 2)
    lg.setColor(0.45, 0.52, 0.64)
    if game.hud then
        lg.printf(("%d frames a second   engine %.2f ms of this frame, at most %.2f"):format(
            love.timer.getFPS(), game.pump.last * 1e3, game.pump.worst * 1e3), w - 540, 38, 500, "right")
    end
    lg.print("space: again   left, right: seed   h: figures   escape: leave", 630, h - 36)
end

function love.keypressed(key)
    if key == "escape" then love.event.quit()
    elseif key == "h" then game.hud = not game.hud
    elseif key == "space" or key == "right" then game.seed = game.seed + 1; rerun()
    elseif key == "left" then game.seed = math.max(0, game.seed - 1); rerun() end
end

function love.mousepressed(x, y)
    if game.scenarios:pressed(x, y) or game.steps:pressed(x, y) then return end
    local c = game.chart
    if x > c.x and x < c.x + c.w and y > c.y and y < c.y + c.h then love.keypressed "space" end
end

function love.mousemoved(x)
    game.scenarios:moved(x)
    game.steps:moved(x)
end

function love.mousereleased() game.scenarios.held, game.steps.held = false, false end

local folder = os.getenv "DIFFX_LOVE_REPORT"
if folder then require("record")(game, folder, rerun) end
