-- The engine inside a frame loop: jobs of 32 scenarios each, advanced for at most so many microseconds a frame.
--
-- A scenario's bits depend on the seed and its number, so scenario 100 is the same whether 32 or 512 are asked for, and
-- whatever the frame rate was. Each job has the next 32 numbers; so it is known whose preview is shown.

local diffx = require "diffx"

local Forecast = { BLOCK = 32 }
Forecast.__index = Forecast

function Forecast.new()
    local self = setmetatable({}, Forecast)
    self.engine = diffx.engine { threaded = false }
    local model = self.engine:model "vix"
    local data = model:info().data
    self.past, self.last_date, self.name = data.history_values, data.history_dates[#data.history_dates], data.name
    local column = {}
    for i, v in ipairs(self.past) do column[i] = v end
    self.inputs = { history = self.engine:tensor({ #column, 1 }, column) }
    self.pipeline = model:pipeline { batch = Forecast.BLOCK }
    self.days = model:info().components[1].dims[1]
    self.shown, self.finished, self.previews, self.starts = {}, 0, 0, {}
    return self
end

-- Begins anew. The chart keeps what it shows until there is something better.
function Forecast:restart(seed, scenarios, steps)
    self.seed, self.scenarios, self.steps = seed, scenarios, steps
    self.done = 0
    self.sorted, self.paths = {}, {}
    for day = 1, self.days do self.sorted[day] = {} end
    self.ghost = nil
    if self.job then self.job:close() end
    self:next_block()
end

function Forecast:next_block()
    self.job = nil
    if self.done >= self.scenarios then return end
    local start = love.timer.getTime()
    self.job = self.pipeline:start {
        seed = self.seed, first_sample = self.done, n_samples = Forecast.BLOCK, steps = self.steps,
        preview_every = 1, inputs = self.inputs,
    }
    self.starts[#self.starts + 1] = love.timer.getTime() - start
    self.step = 0
end

function Forecast:is_busy() return self.job ~= nil end

-- How far it is, from 0 to 1.
function Forecast:progress()
    if not self.job then return 1 end
    local _, step, of = self.job:progress()
    return math.min(1, (self.done + Forecast.BLOCK * step / math.max(of, 1)) / self.scenarios)
end

-- At most budget_us of this frame. How long the engine had the thread, in seconds.
function Forecast:update(budget_us)
    if not self.job then return 0 end
    local start = love.timer.getTime()
    local left = self.engine:pump(budget_us)
    local took = love.timer.getTime() - start
    if left == 0 then
        self:take(self.job:result())
        self:next_block()
    else
        local _, step = self.job:progress()
        if step ~= self.step then
            self.step = step
            local preview = self.job:preview "x"
            if preview then
                self.ghost = self:rows(preview)
                self.previews = self.previews + 1
            end
        end
    end
    return took
end

function Forecast:rows(tensor)
    local rows, data = {}, tensor.data
    for i = 0, tensor.shape[1] - 1 do
        local row = {}
        for day = 1, self.days do row[day] = data[i * self.days + day - 1] end
        rows[i + 1] = row
    end
    return rows
end

local function insert(list, value)
    local low, high = 1, #list + 1
    while low < high do
        local middle = math.floor((low + high) / 2)
        if list[middle] < value then low = middle + 1 else high = middle end
    end
    table.insert(list, low, value)
end

function Forecast:take(tensor)
    for _, row in ipairs(self:rows(tensor)) do
        if self.done < self.scenarios then
            self.done, self.finished = self.done + 1, self.finished + 1
            if #self.paths < 48 then self.paths[#self.paths + 1] = row end
            for day = 1, self.days do insert(self.sorted[day], row[day]) end
        end
    end
    self.ghost = nil
end

-- The value below which a share of the finished scenarios lies, on each day; nil while there is none.
function Forecast:quantile(share)
    if self.done == 0 then return nil end
    local out = {}
    for day = 1, self.days do
        local list = self.sorted[day]
        local at = 1 + share * (#list - 1)
        local low = math.floor(at)
        out[day] = list[low] + (at - low) * ((list[low + 1] or list[low]) - list[low])
    end
    return out
end

return Forecast
