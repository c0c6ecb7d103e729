/* services.c - a sampler that asks the pipeline for the wrong thing, or plans wrongly, as its config names it; for
 * tests/abi/services.rs. {"case":"name"} */
#define DFX_HELPERS
#include "diffx_plugin.h"
#include <math.h>
#include <string.h>

typedef struct sampler {
    const dfx_host *host;
    char name[64];
} sampler;

static sampler pool[256];
static unsigned used;
#define CASE(s) if (!strcmp(name, s))

static dfx_status DFX_CALL info(const void *self, dfx_sampler_info *out, dfx_error *err) {
    static dfx_slot slot;
    const char *name = ((const sampler *)self)->name;
    (void)err;
    out->n_coeff = 2;
    out->n_variants = 1;
    slot.name = "history";
    slot.like = 1;
    out->slots = &slot;
    out->n_slots = 1;
    CASE("slot_like_far") slot.like = 9;
    CASE("no_variants") out->n_variants = 0;
    CASE("flags") out->flags = 1u << 20;
    CASE("control_promised") out->flags = DFX_SAMPLER_CONTROL;
    CASE("per_component") out->flags = DFX_SAMPLER_PER_COMPONENT;
    return DFX_OK;
}

static dfx_status DFX_CALL plan(const void *self, dfx_plan *p, dfx_error *err) {
    const char *name = ((const sampler *)self)->name;
    uint32_t i, c;
    (void)err;
    if (p->rows == NULL) {
        p->n_rows = p->n_steps;
        CASE("rows_none") p->n_rows = 0;
        CASE("rows_many") p->n_rows = 1u << 30;
        return DFX_OK;
    }
    for (i = 0; i < p->n_rows; i++)
        for (c = 0; c < p->n_coeff; c++) p->rows[i * p->n_coeff + c] = p->knots[i + c % 2];
    CASE("rows_nan") p->rows[3] = NAN;
    CASE("rows_grow") p->n_rows++;
    CASE("variant_far") p->variants[1] = 1;
    CASE("level_below") p->levels[0] = -1.0;
    CASE("level_set") p->levels[0] = 0.75;
    return DFX_OK;
}

static dfx_status DFX_CALL step(const void *self, dfx_graph *g, dfx_step_io *io, dfx_error *err) {
    const sampler *s = (const sampler *)self;
    const char *name = s->name;
    const dfx_graph_api *e = s->host->graph;
    const dfx_build_api *b = s->host->build;
    dfx_node x = io->x[0], many[8], n[3];
    dfx_component component;
    dfx_eval eval;
    dfx_model_io net;
    int i;
    (void)err;
    for (i = 0; i < 8; i++) many[i] = x;
    memset(&eval, 0, sizeof eval);
    memset(&net, 0, sizeof net);
    eval.struct_size = sizeof eval;
    eval.x = io->x;
    eval.sigma = io->coeff;
    net.struct_size = sizeof net;
    io->next[0] = x;

    CASE("asks") {
        if (b->components(g) != 1 || b->conds(g) != 0 || b->cond_index(g, "none") != -1) return DFX_E_PLUGIN;
        if (b->component(g, 0, &component) || strcmp(component.name, "x") || component.desc.dims[0] != 3) return DFX_E_PLUGIN;
        if (e->batch(g) != 4 || e->float_type(g) != DFX_F32) return DFX_E_PLUGIN;
        if (!e->supports(g, DFX_OP_ADD, DFX_F32) || e->supports(g, 9999, DFX_F32) || e->supports(g, DFX_OP_SQRT, DFX_I32)) return DFX_E_PLUGIN;
        if (b->denoise(g, 0, &eval, 1, n)) return DFX_E_PLUGIN;
        io->next[0] = n[0];
    }
    CASE("evals_none") return b->denoise(g, 0, &eval, 0, n);
    CASE("evals_many") return b->denoise(g, 0, &eval, 1000, n);
    CASE("evals_null") return b->denoise(g, 0, NULL, 1, n);
    CASE("evals_size") { eval.struct_size = 8; return b->denoise(g, 0, &eval, 1, n); }
    CASE("eval_null_x") { eval.x = NULL; return b->denoise(g, 0, &eval, 1, n); }
    CASE("out_null") return b->denoise(g, 0, &eval, 1, NULL);
    CASE("denoiser_far") return b->denoise(g, 77, &eval, 1, n);
    CASE("slot_unknown") { b->denoise(g, b->denoiser_of(g, "nowhere"), &eval, 1, n); io->next[0] = n[0]; }
    CASE("network_unknown") return b->network(g, "nowhere", &net);
    CASE("network_null") return b->network(g, "base", NULL);
    CASE("network_short") { net.struct_size = 12; return b->network(g, "base", &net); }
    CASE("function_far") return b->process(g, 0, 99, 2, many, 1, n, 1);
    CASE("purpose_far") return b->process(g, 0, DFX_PROCESS_ENCODE, 256, many, 1, n, 1);
    CASE("component_far") return b->process(g, 5, DFX_PROCESS_ENCODE, 2, many, 1, n, 1);
    CASE("inputs_wrong") return b->process(g, 0, DFX_PROCESS_ENCODE, 2, many, 2, n, 1);
    CASE("places_wrong") return b->process(g, 0, DFX_PROCESS_ENCODE, 2, many, 1, n, 3);
    CASE("stats_far") { dfx_stats stats; return b->stats(g, 9, &stats); }
    CASE("stats_null") return b->stats(g, 0, NULL);
    CASE("cond_far") return b->cond(g, 3, n, n + 1);
    CASE("probe_unused") { if (b->process(g, 0, DFX_PROCESS_LOG_TRANSITION, 2, many, 3, n, 1) != DFX_E_UNSUPPORTED) return DFX_E_PLUGIN; }
    CASE("probe_used") { b->process(g, 0, DFX_PROCESS_LOG_TRANSITION, 2, many, 3, n, 1); io->next[0] = dfx_square(e, g, n[0]); }
    CASE("probe_given") { b->process(g, 0, DFX_PROCESS_LOG_TRANSITION, 2, many, 3, n, 1); io->next[0] = n[0]; }
    CASE("no_next") io->next[0] = 0;
    CASE("slot_lost") io->slot_out[0] = 0;
    CASE("control_alone") io->control[0] = x;
    CASE("inner_fails") { if (b->process(g, 0, DFX_PROCESS_PERTURB, 2, many, 2, n, 2)) return DFX_E_PLUGIN; io->next[0] = n[0]; }
    return DFX_OK;
}

static dfx_status DFX_CALL create(const dfx_factory *f, const dfx_host *h, const char *json, void **out, dfx_error *err) {
    sampler *m = &pool[used++ % 256];
    const char *start = strstr(json, "\"case\":\""), *end = start ? strchr(start + 8, '"') : NULL;
    (void)f;
    if (!end || end - start - 8 >= 64) return dfx_fail(err, DFX_E_FORMAT, "config: want a case");
    m->host = h;
    memset(m->name, 0, sizeof m->name);
    memcpy(m->name, start + 8, (size_t)(end - start - 8));
    *out = m;
    return DFX_OK;
}
static void DFX_CALL destroy(void *instance) { (void)instance; }

static const dfx_sampler_api api = {sizeof(dfx_sampler_api), 0, info, plan, step};
static const dfx_factory services = {sizeof(dfx_factory), DFX_KIND_SAMPLER, &api, "org.asker.sampler", NULL, NULL, create, destroy};
static const dfx_factory *const factories[] = {&services};
DFX_PLUGIN(services) = {DFX_PLUGIN_HEADER, 1, factories, "org.asker", "1.0.0", "MIT"};
