-- Samples the carried model and prints a checksum of the bytes: the same in every language.
-- DIFFX_LIBRARY=path/to/libdiffx.so LUA_PATH="bindings/lua/?.lua;;" luajit examples/hello/hello.lua
local bit = require "bit"
local diffx = require "diffx"

local function fnv1a(text)
    local h = 0xcbf29ce484222325ULL
    for i = 1, #text do h = bit.bxor(h, text:byte(i)) * 0x100000001b3ULL end
    return h
end

local engine = diffx.engine()
local paths = engine:model("vix"):pipeline():sample { n_samples = 16, seed = 1 }
print(bit.tohex(fnv1a(paths:string()), 16))
