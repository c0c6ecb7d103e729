-- A slider of whole steps.

local lg = love.graphics

local Slider = {}
Slider.__index = Slider

-- from, to, by: its values; changed: called with a new one
function Slider.new(label, from, to, by, value, changed)
    return setmetatable({ label = label, from = from, to = to, by = by, value = value, changed = changed }, Slider)
end

function Slider:place(x, y, w) self.x, self.y, self.w = x, y, w end

function Slider:set(value)
    value = self.from + self.by * math.floor((value - self.from) / self.by + 0.5)
    value = math.min(math.max(value, self.from), self.to)
    if value ~= self.value then
        self.value = value
        self.changed(value)
    end
end

function Slider:pressed(x, y)
    self.held = x >= self.x - 8 and x <= self.x + self.w + 8 and math.abs(y - self.y) < 14
    return self:moved(x)
end

function Slider:moved(x)
    if self.held then self:set(self.from + (self.to - self.from) * (x - self.x) / self.w) end
    return self.held
end

function Slider:draw()
    local at = self.x + self.w * (self.value - self.from) / (self.to - self.from)
    lg.setColor(0.20, 0.25, 0.34)
    lg.rectangle("fill", self.x, self.y - 2, self.w, 4, 2)
    lg.setColor(0.25, 0.62, 0.95)
    lg.rectangle("fill", self.x, self.y - 2, at - self.x, 4, 2)
    lg.circle("fill", at, self.y, self.held and 9 or 7)
    lg.setColor(0.90, 0.93, 0.98)
    lg.print(("%s  %d"):format(self.label, self.value), self.x, self.y - 26)
end

return Slider
