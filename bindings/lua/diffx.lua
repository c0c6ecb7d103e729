-- diffx for LuaJIT: the engine over its C ABI. Copy this one file beside a program, or put its folder on package.path.
--
--     local diffx = require "diffx"
--     local engine = diffx.engine { threaded = false }
--     local job = engine:model("vix"):pipeline { steps = 16 }:start { seed = 1, n_samples = 64 }
--     while engine:pump(2000) > 0 do draw_a_frame() end
--     local x = job:result()          -- x.data[i], x.shape, x.n
--
-- Nothing is called back: progress, previews and the end are asked for. Handles are released by the collector, or at
-- once by :close(). A failure is an error whose value has .status, .name ("NOT_FOUND") and .message.

local ffi = require "ffi"
local bit = require "bit"

-- The declarations of include/diffx.h, written by a test: DIFFX_BLESS=1 cargo test --release --test bindings lua
-- begin
ffi.cdef [[
enum {
    DFX_OK = 0,
    DFX_E_INVALID = -1,
    DFX_E_STATE = -2,
    DFX_E_NOT_FOUND = -3,
    DFX_E_NO_MEMORY = -4,
    DFX_E_IO = -5,
    DFX_E_FORMAT = -6,
    DFX_E_UNSUPPORTED = -7,
    DFX_E_VERSION = -8,
    DFX_E_CANCELLED = -9,
    DFX_E_DENIED = -10,
    DFX_E_DEVICE = -11,
    DFX_E_PLUGIN = -12,
    DFX_E_INTERNAL = -13,
    DFX_F32 = 1,
    DFX_F16 = 2,
    DFX_BF16 = 3,
    DFX_I32 = 4,
    DFX_I64 = 5,
    DFX_U8 = 6,
    DFX_F64 = 7,
    DFX_BOOL = 8,
    DFX_MAX_RANK = 8,
    DFX_API_MAJOR = 0,
    DFX_API_MINOR = 1,
    DFX_ENGINE_NO_THREADS = 1,
    DFX_ENGINE_LOAD_PLUGINS = 2,
    DFX_ENGINE_ENV_PLUGINS = 4,
    DFX_ENGINE_LOG_ANYWHERE = 8,
    DFX_JOB_QUEUED = 0,
    DFX_JOB_RUNNING = 1,
    DFX_JOB_DONE = 2,
    DFX_JOB_FAILED = 3,
    DFX_JOB_CANCELLED = 4,
    DFX_SIMULATE_PER_SAMPLE = 1,
    DFX_SIMULATE_EULER = 2,
};
typedef int32_t dfx_status;
typedef struct dfx_error {
    uint32_t   struct_size;
    dfx_status status;
    uint32_t   source;
    uint32_t   message_len;
    char       message[496];
} dfx_error;
typedef uint32_t dfx_dtype;
typedef struct dfx_desc {
    dfx_dtype dtype;
    uint32_t  rank;
    int64_t   dims[8];
} dfx_desc;
uint32_t    dfx_api_version(void);
const char *dfx_version_string(void);
int32_t     dfx_has_feature(const char *name);
const void *dfx_extension(const char *id);
const char *dfx_status_name(dfx_status s);
typedef struct dfx_engine   dfx_engine;
typedef struct dfx_model    dfx_model;
typedef struct dfx_pipeline dfx_pipeline;
typedef struct dfx_job      dfx_job;
typedef struct dfx_tensor   dfx_tensor;
typedef struct dfx_trainer  dfx_trainer;
typedef struct dfx_tuner    dfx_tuner;
typedef struct dfx_allocator {
    uint32_t struct_size;
    uint32_t reserved;
    void    *user;
    void   *(*alloc)(void *user, size_t size, size_t align);
    void    (*free)(void *user, void *p, size_t size, size_t align);
    void    *reserved_ptr;
} dfx_allocator;
typedef void (*dfx_log_fn)(void *user, int32_t level, const char *message);
typedef struct dfx_engine_options {
    uint32_t    struct_size;
    uint32_t    flags;
    uint64_t    arena_bytes;
    uint64_t    device_bytes;
    uint32_t    n_threads;
    uint32_t    reserved;
    const char *device;
    const dfx_allocator *allocator;
    dfx_log_fn  log;
    void       *log_user;
    void       *cuda_stream;
    void       *reserved_ptr;
} dfx_engine_options;
dfx_status dfx_engine_create(const dfx_engine_options *opt, dfx_engine **out, dfx_error *err);
void       dfx_engine_release(dfx_engine *e);
int32_t    dfx_engine_pump(const dfx_engine *e, uint32_t budget_us);
dfx_status dfx_engine_memory(const dfx_engine *e, uint64_t *used, uint64_t *peak, dfx_error *err);
struct dfx_plugin;
dfx_status dfx_plugin_register(dfx_engine *e, const struct dfx_plugin *p, dfx_error *err);
dfx_status dfx_plugin_load(dfx_engine *e, const char *path, const char *sha256, dfx_error *err);
uint32_t   dfx_factory_count(const dfx_engine *e);
dfx_status dfx_factory_json(const dfx_engine *e, uint32_t i, const char **json, dfx_error *err);
dfx_status dfx_model_open(dfx_engine *e, const char *path, const char *config_json,
                                  dfx_model **out, dfx_error *err);
void       dfx_model_release(dfx_model *m);
dfx_status dfx_model_json(const dfx_model *m, const char **json, dfx_error *err);
dfx_status dfx_pipeline_create(const dfx_model *m, const char *config_json,
                                       dfx_pipeline **out, dfx_error *err);
void       dfx_pipeline_release(dfx_pipeline *p);
dfx_status dfx_pipeline_save(const dfx_pipeline *p, const char *path, dfx_error *err);
typedef struct dfx_progress {
    uint32_t struct_size;
    uint32_t state;
    uint64_t step;
    uint64_t n_steps;
    uint64_t elapsed_ns;
} dfx_progress;
typedef int32_t (*dfx_progress_fn)(void *user, dfx_job *job, const dfx_progress *p);
typedef struct dfx_job_options {
    uint32_t    struct_size;
    uint32_t    flags;
    uint64_t    seed;
    uint64_t    first_sample;
    uint64_t    n_samples;
    uint32_t    n_steps;
    uint32_t    preview_every;
    uint32_t    n_inputs;
    uint32_t    reserved;
    const char *const       *input_names;
    const dfx_tensor *const *inputs;
    dfx_progress_fn progress;
    void       *user;
} dfx_job_options;
dfx_status dfx_pipeline_plan(const dfx_pipeline *p, const dfx_job_options *opt,
                                     uint64_t *bytes, dfx_error *err);
dfx_status dfx_pipeline_pilot(const dfx_pipeline *p, const dfx_job_options *opt,
                                      const char **json, dfx_error *err);
dfx_status dfx_job_start(const dfx_pipeline *p, const dfx_job_options *opt,
                                 dfx_job **out, dfx_error *err);
dfx_status dfx_job_resume(const dfx_pipeline *p, const char *path, const dfx_job_options *opt,
                                  dfx_job **out, dfx_error *err);
dfx_status dfx_job_poll(dfx_job *j, dfx_progress *out, dfx_error *err);
dfx_status dfx_job_wait(dfx_job *j, uint64_t timeout_ns, dfx_error *err);
void       dfx_job_cancel(const dfx_job *j);
dfx_status dfx_job_preview(const dfx_job *j, const char *name, dfx_tensor **out, dfx_error *err);
typedef struct dfx_preview {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t first_sample;
    uint64_t n_samples;
    uint64_t step;
} dfx_preview;
dfx_status dfx_job_preview_at(const dfx_job *j, const char *name, dfx_preview *what, dfx_tensor **out,
                                      dfx_error *err);
dfx_status dfx_job_save(const dfx_job *j, const char *path, dfx_error *err);
dfx_status dfx_job_result(const dfx_job *j, const char *name, dfx_tensor **out, dfx_error *err);
void       dfx_job_release(dfx_job *j);
struct DLManagedTensorVersioned;
typedef void (*dfx_free_fn)(void *user, void *data);
dfx_status dfx_tensor_create(const dfx_engine *e, const dfx_desc *d, const void *data,
                                     dfx_tensor **out, dfx_error *err);
dfx_status dfx_tensor_wrap(const dfx_engine *e, const dfx_desc *d, void *data, dfx_free_fn free_fn,
                                   void *user, dfx_tensor **out, dfx_error *err);
dfx_status dfx_tensor_from_dlpack(const dfx_engine *e, struct DLManagedTensorVersioned *src,
                                          void *stream, dfx_tensor **out, dfx_error *err);
dfx_status dfx_tensor_to_dlpack(const dfx_tensor *t, void *stream,
                                        struct DLManagedTensorVersioned **out, dfx_error *err);
dfx_status dfx_tensor_map(const dfx_tensor *t, const void **data, size_t *bytes, dfx_error *err);
dfx_status dfx_tensor_desc(const dfx_tensor *t, dfx_desc *out, dfx_error *err);
void       dfx_tensor_retain(const dfx_tensor *t);
void       dfx_tensor_release(const dfx_tensor *t);
typedef struct dfx_simulate_options {
    uint32_t    struct_size;
    uint32_t    flags;
    uint64_t    seed;
    uint64_t    first_sample;
    uint64_t    n_samples;
    uint32_t    n_times;
    uint32_t    substeps;
    const char *process;
    const double     *times;
    const dfx_tensor *x0;
    const uint32_t   *keep;
    uint32_t    n_keep;
    uint32_t    reserved;
} dfx_simulate_options;
dfx_status dfx_simulate(const dfx_engine *e, const dfx_simulate_options *opt, dfx_tensor **out, dfx_error *err);
typedef struct dfx_eval_options {
    uint32_t    struct_size;
    uint32_t    flags;
    uint32_t    n_inputs;
    uint32_t    n_outputs;
    const char *slot;
    const char *const       *input_names;
    const dfx_tensor *const *inputs;
    const char *const       *output_names;
} dfx_eval_options;
dfx_status dfx_pipeline_eval(const dfx_pipeline *p, const dfx_eval_options *opt, dfx_tensor **out, dfx_error *err);
typedef struct dfx_score_options {
    uint32_t    struct_size;
    uint32_t    flags;
    uint32_t    n_inputs;
    uint32_t    n_steps;
    uint32_t    n_probes;
    uint32_t    reserved;
    uint64_t    seed;
    uint64_t    first_sample;
    const char *const       *input_names;
    const dfx_tensor *const *inputs;
} dfx_score_options;
dfx_status dfx_pipeline_score(const dfx_pipeline *p, const dfx_score_options *opt, dfx_tensor **out, dfx_error *err);
typedef struct dfx_training {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t step;
    uint64_t n_steps;
    double   loss;
    double   norm;
    double   rate;
} dfx_training;
typedef struct dfx_trainer_options {
    uint32_t    struct_size;
    uint32_t    flags;
    uint32_t    n_tables;
    uint32_t    reserved;
    const char *const       *table_names;
    const dfx_tensor *const *tables;
} dfx_trainer_options;
dfx_status dfx_trainer_create(dfx_engine *e, const char *config_json, const dfx_trainer_options *opt,
                                      dfx_trainer **out, dfx_error *err);
void       dfx_trainer_release(dfx_trainer *t);
dfx_status dfx_trainer_plan(dfx_engine *e, const char *config_json, const dfx_trainer_options *opt,
                                    uint64_t *bytes, dfx_error *err);
dfx_status dfx_trainer_step(dfx_trainer *t, uint32_t n_steps, dfx_training *out, dfx_error *err);
dfx_status dfx_trainer_measure(dfx_trainer *t, dfx_training *out, dfx_error *err);
uint32_t   dfx_trainer_metric_count(const dfx_trainer *t);
dfx_status dfx_trainer_metric_name(const dfx_trainer *t, uint32_t i, const char **name, dfx_error *err);
dfx_status dfx_trainer_metric(dfx_trainer *t, const char *name, double *out, dfx_error *err);
dfx_status dfx_trainer_checkpoint(dfx_trainer *t, const char *path, dfx_error *err);
dfx_status dfx_trainer_resume(dfx_trainer *t, const char *path, dfx_error *err);
dfx_status dfx_trainer_save(dfx_trainer *t, const char *path, dfx_error *err);
dfx_status dfx_tuner_create(const dfx_model *m, const char *config_json, dfx_tuner **out, dfx_error *err);
void       dfx_tuner_release(dfx_tuner *t);
dfx_status dfx_tuner_plan(const dfx_model *m, const char *config_json, uint64_t *bytes, dfx_error *err);
dfx_status dfx_tuner_json(const dfx_tuner *t, const char **json, dfx_error *err);
typedef struct dfx_rollout_options {
    uint32_t    struct_size;
    uint32_t    flags;
    uint32_t    n_inputs;
    uint32_t    reserved;
    const char *const       *input_names;
    const dfx_tensor *const *inputs;
} dfx_rollout_options;
dfx_status dfx_tuner_rollout(dfx_tuner *t, const dfx_rollout_options *opt, dfx_error *err);
dfx_status dfx_tuner_result(const dfx_tuner *t, const char *name, dfx_tensor **out, dfx_error *err);
typedef struct dfx_reward {
    uint32_t    struct_size;
    uint32_t    flags;
    const dfx_tensor *values;
    const dfx_tensor *valid;
    uint32_t    n_grads;
    uint32_t    reserved;
    const char *const       *grad_names;
    const dfx_tensor *const *grads;
} dfx_reward;
dfx_status dfx_tuner_reward(dfx_tuner *t, const dfx_reward *reward, dfx_error *err);
dfx_status dfx_tuner_update(dfx_tuner *t, uint32_t n_updates, dfx_training *out, dfx_error *err);
uint32_t   dfx_tuner_metric_count(const dfx_tuner *t);
dfx_status dfx_tuner_metric_name(const dfx_tuner *t, uint32_t i, const char **name, dfx_error *err);
dfx_status dfx_tuner_metric(dfx_tuner *t, const char *name, double *out, dfx_error *err);
dfx_status dfx_tuner_checkpoint(dfx_tuner *t, const char *path, dfx_error *err);
dfx_status dfx_tuner_resume(dfx_tuner *t, const char *path, dfx_error *err);
dfx_status dfx_tuner_save(dfx_tuner *t, const char *path, dfx_error *err);
]]
-- end

local diffx = { _VERSION = "0.1.0" }

local function load_library()
    local named = os.getenv "DIFFX_LIBRARY"
    if named and named ~= "" then return ffi.load(named) end
    local here = debug.getinfo(1, "S").source:match "^@(.*)[/\\][^/\\]*$" or "."
    local tree = here:match "^(.*)/share/diffx/lua$" -- installed: the library of the same tree
    local folder = tree and tree .. "/lib" or here
    local why
    for _, name in ipairs {
        here .. "/libdiffx.so.0", here .. "/libdiffx.so", folder .. "/libdiffx.so.0", "libdiffx.so.0", "diffx",
    } do
        local ok, library = pcall(ffi.load, name)
        if ok then return library end
        why = library
    end
    error("libdiffx was not found; set DIFFX_LIBRARY to the file: " .. tostring(why), 0)
end

local C = load_library()
diffx.C = C

do
    local version = C.dfx_api_version()
    local major, minor = bit.rshift(version, 16), bit.band(version, 0xffff)
    if major ~= C.DFX_API_MAJOR or minor < C.DFX_API_MINOR then
        error(("libdiffx: its API is %d.%d, want %d.%d or later"):format(
            major, minor, tonumber(C.DFX_API_MAJOR), tonumber(C.DFX_API_MINOR)), 0)
    end
end

-- ---- errors

local Error = {}
Error.__index = Error
function Error:__tostring() return self.name .. ": " .. self.message end

local function fail(status, message)
    local name = ffi.string(C.dfx_status_name(status)):gsub("^DFX_E_", "")
    error(setmetatable({ status = status, name = name, message = message }, Error), 0)
end

local error_t = ffi.typeof "dfx_error"

-- Calls a function that ends in a dfx_error. It has an error of its own for each call: nothing is shared.
local function call(f, ...)
    local n, e = select("#", ...), error_t(ffi.sizeof(error_t))
    local status
    if n == 1 then local a = ...; status = f(a, e)
    elseif n == 2 then local a, b = ...; status = f(a, b, e)
    elseif n == 3 then local a, b, c = ...; status = f(a, b, c, e)
    else local a, b, c, d = ...; status = f(a, b, c, d, e) end
    if status < 0 then fail(status, ffi.string(e.message)) end
end

-- What the last options struct points into: a pointer in a struct keeps nothing from the collector.
local borrowed

local function struct(name) return ffi.new(name, ffi.sizeof(name)) end

-- ---- JSON: configs go in, descriptions come out

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function encode(v)
    local kind = type(v)
    if kind == "string" then
        return '"' .. v:gsub('[%c"\\]', function(c) return escapes[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
    elseif kind == "number" then
        if v ~= v or v == math.huge or v == -math.huge then fail(C.DFX_E_INVALID, "JSON has no " .. v) end
        return ("%.17g"):format(v)
    elseif kind == "boolean" then return tostring(v)
    elseif v == diffx.null then return "null"
    elseif kind ~= "table" then fail(C.DFX_E_INVALID, "JSON has no " .. kind) end
    local out = {}
    if #v > 0 or getmetatable(v) == diffx.list then
        for i = 1, #v do out[i] = encode(v[i]) end
        return "[" .. table.concat(out, ",") .. "]"
    end
    for k, x in pairs(v) do out[#out + 1] = encode(tostring(k)) .. ":" .. encode(x) end
    table.sort(out) -- one text for one table
    return "{" .. table.concat(out, ",") .. "}"
end

diffx.list = {}                -- the metatable of a table that is a list also when it is empty
diffx.null = setmetatable({}, { __tostring = function() return "null" end }) -- nil has no place in a table

local decode_at
local literals = { t = { "true", true }, f = { "false", false }, n = { "null", diffx.null } }
local unescaped = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function utf8(code)
    if code < 0x80 then return string.char(code) end
    if code < 0x800 then return string.char(0xc0 + bit.rshift(code, 6), 0x80 + bit.band(code, 63)) end
    return string.char(0xe0 + bit.rshift(code, 12), 0x80 + bit.band(bit.rshift(code, 6), 63), 0x80 + bit.band(code, 63))
end

local function decode_string(s, at)
    local out = {}
    while true do
        local stop = s:find('["\\]', at) or fail(C.DFX_E_FORMAT, "JSON: a text without its end")
        out[#out + 1] = s:sub(at, stop - 1)
        if s:sub(stop, stop) == '"' then return table.concat(out), stop + 1 end
        local c = s:sub(stop + 1, stop + 1)
        if c == "u" then
            out[#out + 1] = utf8(tonumber(s:sub(stop + 2, stop + 5), 16))
            at = stop + 6
        else
            out[#out + 1] = unescaped[c] or c
            at = stop + 2
        end
    end
end

local function decode_members(s, at, close, take)
    at = s:match("^%s*()", at)
    if s:sub(at, at) == close then return at + 1 end
    while true do
        at = s:match("^%s*()", take(at))
        local c = s:sub(at, at)
        if c == close then return at + 1 end
        if c ~= "," then fail(C.DFX_E_FORMAT, "JSON: want , or " .. close .. " at byte " .. at) end
        at = at + 1
    end
end

function decode_at(s, at)
    at = s:match("^%s*()", at)
    local c = s:sub(at, at)
    if c == '"' then return decode_string(s, at + 1) end
    if c == "[" then
        local out = setmetatable({}, diffx.list)
        return out, decode_members(s, at + 1, "]", function(i)
            local v, after = decode_at(s, i)
            out[#out + 1] = v
            return after
        end)
    elseif c == "{" then
        local out = {}
        return out, decode_members(s, at + 1, "}", function(i)
            local key, after = decode_at(s, i)
            out[key], after = decode_at(s, s:match("^%s*:()", after))
            return after
        end)
    elseif literals[c] then
        return literals[c][2], at + #literals[c][1]
    end
    local number, after = s:match("^([-+%d.eE]+)()", at)
    return tonumber(number) or fail(C.DFX_E_FORMAT, "JSON: no value at byte " .. at), after
end

diffx.encode = encode
function diffx.decode(s) return (decode_at(s, 1)) end

local function config(v)
    if v == nil or type(v) == "string" then return v end
    return next(v) ~= nil and encode(v) or nil
end

-- ---- handles

local function class(name, release)
    local methods = {}
    methods.__index = methods
    function methods:close()
        if self.handle then
            ffi.gc(self.handle, nil)
            C[release](self.handle)
            self.handle = nil
        end
    end
    function methods:__tostring() return "diffx." .. name .. (self.handle and "" or " (closed)") end
    local pointer = ffi.typeof(release:gsub("_release$", "") .. " *")
    local slot = ffi.typeof("$ *[1]", ffi.typeof((release:gsub("_release$", ""))))
    -- The collector calls the C function itself: no Lua runs in a finalizer, and any order is fine.
    local function wrap(out, fields)
        fields.handle = ffi.gc(ffi.cast(pointer, out[0]), C[release])
        return setmetatable(fields, methods)
    end
    return methods, slot, wrap
end

local function held(object)
    return object.handle or fail(C.DFX_E_STATE, tostring(object))
end

local Engine, engine_slot, wrap_engine = class("Engine", "dfx_engine_release")
local Model, model_slot, wrap_model = class("Model", "dfx_model_release")
local Pipeline, pipeline_slot, wrap_pipeline = class("Pipeline", "dfx_pipeline_release")
local Job, job_slot, wrap_job = class("Job", "dfx_job_release")
local Tensor, tensor_slot, wrap_tensor = class("Tensor", "dfx_tensor_release")

-- ---- tensors

local types = {
    f32 = { C.DFX_F32, "float" }, f64 = { C.DFX_F64, "double" }, i32 = { C.DFX_I32, "int32_t" },
    i64 = { C.DFX_I64, "int64_t" }, u8 = { C.DFX_U8, "uint8_t" }, bool = { C.DFX_BOOL, "uint8_t" },
    f16 = { C.DFX_F16, "uint16_t" }, bf16 = { C.DFX_BF16, "uint16_t" },
}
local type_names, pointers = {}, {}
for name, t in pairs(types) do
    type_names[tonumber(t[1])], pointers[name] = name, ffi.typeof("const " .. t[2] .. " *")
end

-- data: a read-only pointer to n elements, valid while this table lives.
local function tensor(out)
    local t = wrap_tensor(out, {})
    local desc, data, bytes = ffi.new "dfx_desc", ffi.new "const void *[1]", ffi.new "size_t[1]"
    call(C.dfx_tensor_desc, t.handle, desc)
    call(C.dfx_tensor_map, t.handle, data, bytes)
    t.dtype, t.shape, t.n, t.bytes = type_names[desc.dtype], {}, 1, tonumber(bytes[0])
    for i = 1, desc.rank do
        t.shape[i] = tonumber(desc.dims[i - 1])
        t.n = t.n * t.shape[i]
    end
    t.data = ffi.cast(pointers[t.dtype], data[0])
    return t
end

function Tensor:close()
    self.data = nil
    if self.handle then
        ffi.gc(self.handle, nil)
        C.dfx_tensor_release(self.handle)
        self.handle = nil
    end
end

-- The bytes, as a string.
function Tensor:string() held(self); return ffi.string(self.data, self.bytes) end

-- A tensor of numbers: engine:tensor({ 2, 3 }, { 1, 2, 3, 4, 5, 6 }, "f32")
function Engine:tensor(shape, values, dtype)
    dtype = dtype or "f32"
    local kind = types[dtype] or fail(C.DFX_E_INVALID, "dtype " .. tostring(dtype))
    if #shape > C.DFX_MAX_RANK then fail(C.DFX_E_INVALID, "rank " .. #shape) end
    local desc, n = ffi.new "dfx_desc", 1
    desc.dtype, desc.rank = kind[1], #shape
    for i, d in ipairs(shape) do
        desc.dims[i - 1] = d
        n = n * d
    end
    if n ~= #values then fail(C.DFX_E_INVALID, ("%d values, the shape has %d"):format(#values, n)) end
    local out = tensor_slot()
    call(C.dfx_tensor_create, held(self), desc, ffi.new(kind[2] .. "[?]", math.max(n, 1), values), out)
    return tensor(out)
end

-- ---- engines

local function flag(on, value) return on and value or 0 end

-- options: threads, threaded (false: it starts none and moves in pump), memory_limit, device, load_plugins, env_plugins
function diffx.engine(options)
    options = options or {}
    local o = struct "dfx_engine_options"
    o.flags = bit.bor(flag(options.threaded == false, C.DFX_ENGINE_NO_THREADS),
        flag(options.load_plugins or options.env_plugins, C.DFX_ENGINE_LOAD_PLUGINS),
        flag(options.env_plugins, C.DFX_ENGINE_ENV_PLUGINS))
    o.n_threads, o.arena_bytes, o.device = options.threads or 0, options.memory_limit or 0, options.device
    borrowed = options
    local out = engine_slot()
    call(C.dfx_engine_create, o, out)
    return wrap_engine(out, {})
end

-- Advances all jobs for about so many microseconds; how many are unfinished.
function Engine:pump(budget_us)
    local left = C.dfx_engine_pump(held(self), budget_us)
    if left < 0 then fail(left, "pump") end
    return left
end

function Engine:memory()
    local used, peak = ffi.new "uint64_t[1]", ffi.new "uint64_t[1]"
    call(C.dfx_engine_memory, held(self), used, peak)
    return tonumber(used[0]), tonumber(peak[0])
end

function Engine:model(path)
    local out = model_slot()
    call(C.dfx_model_open, held(self), path, nil, out)
    return wrap_model(out, { engine = self })
end

function Engine:load_plugin(path, sha256)
    call(C.dfx_plugin_load, held(self), path, sha256)
end

-- What can be named: a list of tables with kind, id, summary, config_schema.
function Engine:plugins()
    local list, text = {}, ffi.new "const char *[1]"
    for i = 1, C.dfx_factory_count(held(self)) do
        call(C.dfx_factory_json, self.handle, i - 1, text)
        list[i] = diffx.decode(ffi.string(text[0]))
    end
    return list
end

-- Paths of a process: { process =, x0 = tensor, times = { ... }, n_samples =, seed =, euler =, substeps =, per_sample = }
function Engine:simulate(options)
    local o = struct "dfx_simulate_options"
    local process = options.process
    if type(process) == "table" then
        process = process.id .. (process.config and ":" .. encode(process.config) or "")
    end
    local times = ffi.new("double[?]", math.max(#options.times, 1), options.times)
    o.flags = bit.bor(flag(options.per_sample, C.DFX_SIMULATE_PER_SAMPLE), flag(options.euler, C.DFX_SIMULATE_EULER))
    o.seed, o.first_sample, o.n_samples = options.seed or 0, options.first_sample or 0, options.n_samples or 1
    o.n_times, o.substeps, o.times = #options.times, options.substeps or 0, times
    o.process, o.x0 = process, held(options.x0)
    borrowed = { options, process, times }
    local out = tensor_slot()
    call(C.dfx_simulate, held(self), o, out)
    return tensor(out)
end

-- ---- models, pipelines, jobs

function Model:info()
    local text = ffi.new "const char *[1]"
    call(C.dfx_model_json, held(self), text)
    return diffx.decode(ffi.string(text[0]))
end

-- settings: a table with keys of docs/json.md, or JSON text
function Model:pipeline(settings)
    local out = pipeline_slot()
    call(C.dfx_pipeline_create, held(self), config(settings), out)
    return wrap_pipeline(out, { engine = self.engine })
end

-- options: seed, first_sample, n_samples, steps, preview_every, inputs = { name = tensor }
local function job_options(options)
    options = options or {}
    local o, names, handles = struct "dfx_job_options", {}, {}
    o.seed, o.first_sample, o.n_samples = options.seed or 0, options.first_sample or 0, options.n_samples or 1
    o.n_steps, o.preview_every = options.steps or 0, options.preview_every or 0
    for name, t in pairs(options.inputs or {}) do
        names[#names + 1], handles[#handles + 1] = name, held(t)
    end
    local c_names = ffi.new("const char *[?]", math.max(#names, 1), names)
    local c_handles = ffi.new("const dfx_tensor *[?]", math.max(#names, 1), handles)
    o.n_inputs, o.input_names, o.inputs = #names, c_names, c_handles
    borrowed = { options, names, c_names, c_handles }
    return o
end

function Pipeline:plan(options)
    local o = job_options(options)
    local bytes = ffi.new "uint64_t[1]"
    call(C.dfx_pipeline_plan, held(self), o, bytes)
    return tonumber(bytes[0])
end

function Pipeline:start(options)
    local o = job_options(options)
    local out = job_slot()
    call(C.dfx_job_start, held(self), o, out)
    return wrap_job(out, { engine = self.engine })
end

function Pipeline:resume(path)
    local out = job_slot()
    call(C.dfx_job_resume, held(self), path, nil, out)
    return wrap_job(out, { engine = self.engine })
end

-- Starts, waits, gives a result.
function Pipeline:sample(options)
    local job = self:start(options)
    job:wait()
    return job:result()
end

local states = { [0] = "queued", "running", "done", "failed", "cancelled" }

-- state, step, n_steps, seconds
function Job:progress()
    local p = struct "dfx_progress"
    call(C.dfx_job_poll, held(self), p)
    return states[p.state], tonumber(p.step), tonumber(p.n_steps), tonumber(p.elapsed_ns) / 1e9
end

function Job:is_over()
    local state = self:progress()
    return state ~= "queued" and state ~= "running"
end

-- true when done, false when so many seconds were over; a job that failed is an error
function Job:wait(seconds)
    local ns = seconds and ffi.cast("uint64_t", seconds * 1e9) or 0xffffffffffffffffULL
    local e = error_t(ffi.sizeof(error_t))
    local status = C.dfx_job_wait(held(self), ns, e)
    if status >= 0 then return true end
    if status == C.DFX_E_STATE and not self:is_over() then return false end
    fail(status, ffi.string(e.message))
end

function Job:cancel() C.dfx_job_cancel(held(self)) end

function Job:save(path) call(C.dfx_job_save, held(self), path) end

-- A component by name (none: the first), "feasible", "log_weight".
function Job:result(name)
    local out = tensor_slot()
    call(C.dfx_job_result, held(self), name, out)
    return tensor(out)
end

-- The newest estimate of one batch of a component; nil while there is none.
function Job:preview(name)
    local out, e = tensor_slot(), error_t(ffi.sizeof(error_t))
    local status = C.dfx_job_preview(held(self), name, out, e)
    if status == C.DFX_E_STATE then return nil end
    if status < 0 then fail(status, ffi.string(e.message)) end
    return tensor(out)
end

-- The same, then which samples it shows (the first, how many) and after how many steps.
function Job:preview_at(name)
    local out, what, e = tensor_slot(), struct "dfx_preview", error_t(ffi.sizeof(error_t))
    local status = C.dfx_job_preview_at(held(self), name, what, out, e)
    if status == C.DFX_E_STATE then return nil end
    if status < 0 then fail(status, ffi.string(e.message)) end
    return tensor(out), tonumber(what.first_sample), tonumber(what.n_samples), tonumber(what.step)
end

function diffx.version() return ffi.string(C.dfx_version_string()) end
function diffx.has_feature(name) return C.dfx_has_feature(name) ~= 0 end

return diffx
