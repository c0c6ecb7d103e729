-- The picture: the past, the fan of what may follow, the scenarios that are being made.

local lg = love.graphics

local Chart = {}
Chart.__index = Chart

local SHARES = { 0.05, 0.25, 0.5, 0.75, 0.95 }
local INK, DIM, PAST = { 0.90, 0.93, 0.98 }, { 0.45, 0.52, 0.64 }, { 0.96, 0.80, 0.42 }
local FAN, GHOST = { 0.25, 0.62, 0.95 }, { 0.98, 0.47, 0.55 }

function Chart.new(days)
    local self = setmetatable({ days = days, top = 40, fan = nil }, Chart)
    self.small, self.big = lg.newFont(12), lg.newFont(20)
    self.outer = lg.newMesh(2 * (days + 1), "strip", "stream")
    self.inner = lg.newMesh(2 * (days + 1), "strip", "stream")
    return self
end

function Chart:place(x, y, w, h) self.x, self.y, self.w, self.h = x, y, w, h end

-- Follows the forecast smoothly: what is shown moves a share of the way to what is known, each frame.
function Chart:update(forecast, dt)
    local pull = 1 - math.exp(-9 * dt)
    local highest = 0
    for _, v in ipairs(forecast.past) do highest = math.max(highest, v) end
    local fan = {}
    for i, share in ipairs(SHARES) do fan[i] = forecast:quantile(share) end
    if fan[1] then
        if not self.fan then
            self.fan = {}
            for i = 1, #SHARES do
                self.fan[i] = {}
                for day = 1, self.days do self.fan[i][day] = forecast.past[#forecast.past] end
            end
        end
        for i = 1, #SHARES do
            for day = 1, self.days do
                local now = self.fan[i][day]
                self.fan[i][day] = now + pull * (fan[i][day] - now)
            end
        end
        for day = 1, self.days do highest = math.max(highest, self.fan[5][day]) end
    end
    self.top = self.top + pull * (highest * 1.25 - self.top)
end

function Chart:px(day, past)
    return self.x + self.w * (day + past - 1) / (self.days + past - 1)
end

function Chart:py(value)
    return self.y + self.h * (1 - math.min(math.max(value / self.top, 0), 1.05))
end

local function colour(c, alpha) lg.setColor(c[1], c[2], c[3], alpha) end

function Chart:band(mesh, low, high, past, last, alpha)
    local from = self:py(last)
    mesh:setVertex(1, self:px(0, past), from, 0, 0, FAN[1], FAN[2], FAN[3], alpha)
    mesh:setVertex(2, self:px(0, past), from, 0, 0, FAN[1], FAN[2], FAN[3], alpha)
    for day = 1, self.days do
        local x, fade = self:px(day, past), alpha * (1 - 0.45 * day / self.days)
        mesh:setVertex(2 * day + 1, x, self:py(low[day]), 0, 0, FAN[1], FAN[2], FAN[3], fade)
        mesh:setVertex(2 * day + 2, x, self:py(high[day]), 0, 0, FAN[1], FAN[2], FAN[3], fade)
    end
    lg.setColor(1, 1, 1)
    lg.draw(mesh)
end

function Chart:path(row, past, last)
    local points = { self:px(0, past), self:py(last) }
    for day = 1, self.days do
        points[#points + 1] = self:px(day, past)
        points[#points + 1] = self:py(row[day])
    end
    lg.line(points)
end

function Chart:axes(past)
    lg.setFont(self.small)
    lg.setLineWidth(1)
    local every = self.top > 60 and 20 or self.top > 30 and 10 or 5
    for v = 0, self.top, every do
        local y = math.floor(self:py(v)) + 0.5
        colour(DIM, 0.18)
        lg.line(self.x, y, self.x + self.w, y)
        colour(DIM, 1)
        lg.printf(("%d"):format(v), self.x - 48, y - 8, 40, "right")
    end
    for day = -20, self.days, 10 do
        colour(DIM, 1)
        lg.printf(day == 0 and "today" or ("%+d"):format(day), self:px(day, past) - 40, self.y + self.h + 8, 80, "center")
    end
    colour(DIM, 0.5)
    lg.line(self:px(0, past), self.y, self:px(0, past), self.y + self.h)
end

function Chart:draw(forecast)
    local past, last = #forecast.past, forecast.past[#forecast.past]
    self:axes(past)
    lg.setScissor(self.x, self.y, self.w + 1, self.h)
    if self.fan then
        self:band(self.outer, self.fan[1], self.fan[5], past, last, 0.34)
        self:band(self.inner, self.fan[2], self.fan[4], past, last, 0.55)
    end
    lg.setLineWidth(1)
    colour(FAN, 0.22)
    for _, row in ipairs(forecast.paths) do self:path(row, past, last) end
    if forecast.ghost then
        colour(GHOST, 0.35)
        for _, row in ipairs(forecast.ghost) do self:path(row, past, last) end
    end
    if self.fan then
        for width, alpha in pairs { [7] = 0.10, [4] = 0.25, [2] = 1 } do
            lg.setLineWidth(width)
            colour(INK, alpha)
            self:path(self.fan[3], past, last)
        end
    end
    local points = {}
    for i, v in ipairs(forecast.past) do
        points[2 * i - 1], points[2 * i] = self:px(i - past, past), self:py(v)
    end
    for width, alpha in pairs { [6] = 0.12, [2] = 1 } do
        lg.setLineWidth(width)
        colour(PAST, alpha)
        lg.line(points)
    end
    lg.setScissor()
    lg.circle("fill", points[#points - 1], points[#points], 4)
    lg.setFont(self.big)
    colour(INK, 1)
    lg.print(("%s after %s"):format(forecast.name, forecast.last_date), self.x, self.y - 58)
    lg.setFont(self.small)
    colour(DIM, 1)
    lg.print("gold: the past   blue: 50 and 90 % of the scenarios, and the median   red: scenarios being made, out of noise",
        self.x, self.y - 30)
end

return Chart
