/* hostile.c - a plugin whose descriptor can be spoilt field by field with -D, for tests/abi/loading.rs. */
#include "diffx_plugin.h"

#ifdef TINY
DFX_EXPORT const uint32_t diffx_plugin_v0[2] = {DFX_PLUGIN_MAGIC, 0x00010000u};
#else

#ifndef MAGIC
#  define MAGIC DFX_PLUGIN_MAGIC
#endif
#ifndef MAJOR
#  define MAJOR DFX_PLUGIN_ABI_MAJOR
#endif
#ifndef MINOR
#  define MINOR DFX_PLUGIN_ABI_MINOR
#endif
#ifndef SIZE
#  define SIZE (uint32_t)sizeof(dfx_plugin)
#endif
#ifndef REQUIRED
#  define REQUIRED 0
#endif
#ifndef LAYOUT
#  define LAYOUT DFX_PLUGIN_LAYOUT
#endif
#ifndef COUNT
#  define COUNT 1
#endif
#ifndef FACTORIES
#  define FACTORIES factories
#endif
#ifndef ID
#  define ID "org.test"
#endif
#ifndef FACTORY_ID
#  define FACTORY_ID "org.test.levels"
#endif
#ifndef KIND
#  define KIND DFX_KIND_GRID
#endif
#ifndef FACTORY_SIZE
#  define FACTORY_SIZE sizeof(dfx_factory)
#endif
#ifndef API
#  define API &api
#endif
#ifndef CREATE
#  define CREATE create
#endif
#ifndef KNOTS
#  define KNOTS knots
#endif

static dfx_status DFX_CALL knots(const void *self, uint32_t n, double lo, double hi, double *out, dfx_error *err) {
    uint32_t i;
    (void)self;
    (void)err;
    for (i = 0; i <= n; i++) out[i] = hi + (lo - hi) * (double)i / (double)n;
    return DFX_OK;
}
static dfx_status DFX_CALL create(const dfx_factory *f, const dfx_host *h, const char *json, void **out, dfx_error *e) {
    static int instance;
    (void)f;
    (void)json;
    (void)e;
    h->log(h, 2, "created");
    if (h->extension(h, "diffx.version/1") == NULL || h->extension(h, "org.nobody/1") != NULL) return DFX_E_PLUGIN;
    *out = &instance;
    return DFX_OK;
}
static void DFX_CALL destroy(void *instance) { (void)instance; }

const dfx_grid_api api = {sizeof(dfx_grid_api), 0, 0, 0, KNOTS, NULL};
const dfx_factory one = {FACTORY_SIZE, KIND, API, FACTORY_ID, NULL, NULL, CREATE, destroy};
#ifdef UNKNOWN_KIND
const dfx_factory two = {sizeof(dfx_factory), 99, &api, "org.test.future", NULL, NULL, create, destroy};
const dfx_factory *const factories[] = {&one, &two};
#else
const dfx_factory *const factories[] = {&one};
#endif
/* what the linker must not drop when the fields above are spoilt */
const void *const used[] = {&api, &one, factories, (const void *)ID};
dfx_status (*const functions[])(const void *, uint32_t, double, double, double *, dfx_error *) = {knots};
dfx_status (DFX_CALL *const creators[])(const dfx_factory *, const dfx_host *, const char *, void **, dfx_error *) = {create};

DFX_EXPORT extern const dfx_plugin diffx_plugin_v0;
const dfx_plugin diffx_plugin_v0 = {MAGIC, MAJOR, MINOR, SIZE, REQUIRED, LAYOUT, COUNT, FACTORIES, ID, "1.0.0", "MIT"};
#endif
