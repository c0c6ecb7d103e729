/* The log and the plugins' create run under no lock of the library.
 * usage: log CASE */
#include "host.h"
#include "diffx_plugin.h"

static dfx_engine *host;
static volatile int inside, leave;
static int lines, factories;

static dfx_status DFX_CALL fine(const dfx_factory *f, const dfx_host *h, const char *config, void **out, dfx_error *err)
{
    (void)f;
    (void)config;
    (void)err;
    h->log(h, 2, "hello from create");
    *out = &lines;
    return DFX_OK;
}

static dfx_status DFX_CALL slow(const dfx_factory *f, const dfx_host *h, const char *config, void **out, dfx_error *err)
{
    inside = 1;
    while (!leave) pause_ms(1);
    return fine(f, h, config, out, err);
}

static void DFX_CALL destroy(void *instance) { (void)instance; }

static dfx_status DFX_CALL knots(const void *me, uint32_t n, double lo, double hi, double *out, dfx_error *err)
{
    uint32_t i;
    (void)me;
    (void)err;
    for (i = 0; i <= n; i++) out[i] = hi + (lo - hi) * i / n;
    return DFX_OK;
}

static const dfx_grid_api grid = {.struct_size = sizeof(dfx_grid_api), .knots = knots};
static const struct { uint32_t struct_size, flags; } future = {16, 0};

#define FACTORY(name, kind, api, id, create) \
    static const dfx_factory name = {sizeof(dfx_factory), kind, api, id, NULL, NULL, create, destroy}; \
    static const dfx_factory *const name##s[] = {&name}; \
    static const struct dfx_plugin name##_plugin = {DFX_PLUGIN_HEADER, 1, name##s, id ".plugin", "1.0.0", "MIT"}
FACTORY(unknown, 77, &future, "org.test.future", fine);
FACTORY(talker, DFX_KIND_GRID, &grid, "org.test.talker", fine);
FACTORY(sleeper, DFX_KIND_GRID, &grid, "org.test.sleeper", slow);
FACTORY(late, DFX_KIND_GRID, &grid, "org.test.late", fine);

/* Asks what is there, and registers one more plugin, once. */
static void DFX_CALL on_log(void *user, int32_t level, const char *message) DFX_NOEXCEPT
{
    static int once;
    (void)user;
    (void)level;
    lines++;
    if (!host) return;
    factories = (int)dfx_factory_count(host);
    printf("%s: %d factories\n", message, factories);
    if (!once++) MUST(dfx_plugin_register(host, &late_plugin, &err));
}

static void *create_pipeline(void *model)
{
    dfx_pipeline *p = NULL;
    MUST(dfx_pipeline_create((const dfx_model *)model, "{\"grid\":\"org.test.sleeper\"}", &p, &err));
    dfx_pipeline_release(p);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *of = argc > 1 ? argv[1] : "";
    dfx_engine_options o = DFX_ENGINE_OPTIONS_INIT;
    dfx_engine *e = NULL;
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    uint32_t before;
    o.flags = DFX_ENGINE_LOG_ANYWHERE;
    o.log = on_log;
    o.n_threads = 1;
    MUST(dfx_engine_create(&o, &e, &err));
    MUST(dfx_model_open(e, "vix", NULL, &m, &err));
    before = dfx_factory_count(e);
    alarm(60);
    if (!strcmp(of, "register")) {
        host = e;
        MUST(dfx_plugin_register(e, &unknown_plugin, &err));
        REQUIRE(lines == 1 && dfx_factory_count(e) == before + 1);
    } else if (!strcmp(of, "create")) {
        MUST(dfx_plugin_register(e, &talker_plugin, &err));
        host = e;
        MUST(dfx_pipeline_create(m, "{\"grid\":\"org.test.talker\"}", &p, &err));
        dfx_pipeline_release(p);
        REQUIRE(lines == 1 && dfx_factory_count(e) == before + 2);
    } else if (!strcmp(of, "slow")) {
        pthread_t t;
        MUST(dfx_plugin_register(e, &sleeper_plugin, &err));
        REQUIRE(!pthread_create(&t, NULL, create_pipeline, m));
        while (!inside) pause_ms(1);
        MUST(dfx_plugin_register(e, &talker_plugin, &err));
        REQUIRE(dfx_factory_count(e) == before + 2);
        MUST(dfx_pipeline_create(m, "{\"grid\":\"org.test.talker\"}", &p, &err));
        dfx_pipeline_release(p);
        leave = 1;
        pthread_join(t, NULL);
    } else {
        return 2;
    }
    host = NULL;
    dfx_model_release(m);
    dfx_engine_release(e);
    puts("ok");
    return 0;
}
