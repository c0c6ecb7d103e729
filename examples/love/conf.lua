-- Window and modules; nothing of the engine.
function love.conf(t)
    local recorded = os.getenv "DIFFX_LOVE_REPORT" ~= nil
    t.identity = "diffx-fan"
    t.version = "11.4"
    t.window.title = "diffx: what the VIX may do next"
    t.window.width, t.window.height = 1080, 640
    t.window.resizable = not recorded
    t.window.msaa = recorded and 0 or 4
    t.window.vsync = recorded and 0 or 1
    t.modules.audio, t.modules.sound, t.modules.physics, t.modules.joystick = false, false, false, false
    t.modules.video, t.modules.touch, t.modules.thread = false, false, false
end
