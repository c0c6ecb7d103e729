// Callbacks that throw, against the rules: the process ends with words, it does not run on with unwound frames.
// usage: throws CALLBACK, one of those below, or none to be well-behaved. PROMISE says noexcept, as C++17 asks.
#include "diffx.h"
#include "diffx_plugin.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#ifdef PROMISE
#define MAY_THROW noexcept
#else
#define MAY_THROW
#endif

static const char *thrower = "";

static void at(const char *callback)
{
    if (!std::strcmp(thrower, callback)) throw 42;
}

static void must(dfx_status s, const dfx_error &err)
{
    if (s == DFX_OK) return;
    std::fprintf(stderr, "%d %s\n", s, err.message);
    std::exit(1);
}

extern "C" {
static void *DFX_CALL on_alloc(void *, size_t size, size_t align) MAY_THROW
{
    void *p = nullptr;
    at("alloc");
    return posix_memalign(&p, align, size) ? nullptr : p;
}
static void DFX_CALL on_free(void *, void *p, size_t, size_t) MAY_THROW
{
    at("free");
    std::free(p);
}
static void DFX_CALL on_log(void *, int32_t, const char *) MAY_THROW { at("log"); }
static void DFX_CALL on_free_fn(void *, void *) MAY_THROW { at("free_fn"); }
static int32_t DFX_CALL on_progress(void *, dfx_job *, const dfx_progress *) MAY_THROW
{
    at("progress");
    return 0;
}
}

// DLManagedTensorVersioned
struct managed {
    uint32_t major, minor;
    void *context;
    void (*deleter)(managed *);
    uint64_t flags;
    void *data;
    int32_t device, id, ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t offset;
};
extern "C" void on_delete(managed *) { at("DLPack deleter"); }

static const struct { uint32_t struct_size, flags; } api = {16, 0};
static dfx_status DFX_CALL create(const dfx_factory *, const dfx_host *, const char *, void **, dfx_error *) { return DFX_E_STATE; }
static void DFX_CALL destroy(void *) {}
static const dfx_factory factory = {sizeof(dfx_factory), 77, &api, "org.test.future", nullptr, nullptr, create, destroy};
static const dfx_factory *const factories[] = {&factory};
static const dfx_plugin plugin = {DFX_PLUGIN_HEADER, 1, factories, "org.test.throws", "1.0.0", "MIT"};

int main(int argc, char **argv)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_allocator allocator = {sizeof(dfx_allocator), 0, nullptr, on_alloc, on_free, nullptr};
    dfx_engine_options o = DFX_ENGINE_OPTIONS_INIT;
    dfx_engine *e = nullptr;
    dfx_model *m = nullptr;
    dfx_pipeline *p = nullptr;
    dfx_job *j = nullptr;
    dfx_tensor *t = nullptr;
    float one = 1.0f;
    dfx_desc d;
    std::memset(&d, 0, sizeof d);
    d.dtype = DFX_F32;
    if (argc > 1) thrower = argv[1];
    o.flags = DFX_ENGINE_LOG_ANYWHERE;
    o.allocator = &allocator;
    o.log = on_log;
    o.n_threads = 1;
    must(dfx_engine_create(&o, &e, &err), err);
    must(dfx_plugin_register(e, &plugin, &err), err);
    must(dfx_tensor_wrap(e, &d, &one, on_free_fn, nullptr, &t, &err), err);
    dfx_tensor_release(t);
    managed lent = {1, 0, nullptr, on_delete, 0, &one, 1, 0, 0, 2, 32, 1, nullptr, nullptr, 0};
    must(dfx_tensor_from_dlpack(e, reinterpret_cast<DLManagedTensorVersioned *>(&lent), nullptr, &t, &err), err);
    dfx_tensor_release(t);
    must(dfx_tensor_create(e, &d, &one, &t, &err), err);
    dfx_tensor_release(t);
    must(dfx_model_open(e, "vix", nullptr, &m, &err), err);
    must(dfx_pipeline_create(m, "{\"steps\":2}", &p, &err), err);
    dfx_job_options jo = DFX_JOB_OPTIONS_INIT;
    jo.progress = on_progress;
    must(dfx_job_start(p, &jo, &j, &err), err);
    must(dfx_job_wait(j, DFX_FOREVER, &err), err);
    dfx_job_release(j);
    dfx_pipeline_release(p);
    dfx_model_release(m);
    dfx_engine_release(e);
    std::puts("ok");
    return 0;
}
