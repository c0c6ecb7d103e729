/* newer.c - a plugin compiled with a header of the future (tests/gate/matrix.rs derives one): larger tables, a larger
 * descriptor, an op nobody here knows. SAMPLE picks what it does with the new. With today's header it is the same plugin
 * without all that. */
#define DFX_HELPERS
#include "diffx_plugin.h"
#include <stdlib.h>

typedef struct self { const dfx_host *host; } self;

static dfx_status DFX_CALL create(const dfx_factory *f, const dfx_host *h, const char *json, void **out, dfx_error *err)
{
    self *p = (self *)malloc(sizeof(self));
    (void)f; (void)json; (void)err;
    if (p == NULL) return DFX_E_NO_MEMORY;
    p->host = h;
    *out = p;
    return DFX_OK;
}
static dfx_status DFX_CALL info(const void *s, dfx_sampler_info *out, dfx_error *err)
{
    (void)s; (void)err;
    out->n_coeff = 2;
    out->n_variants = 1;
    return DFX_OK;
}
static dfx_status DFX_CALL plan(const void *s, dfx_plan *p, dfx_error *err)
{
    uint32_t k;
    (void)s; (void)err;
    p->n_rows = p->n_steps;
    for (k = 0; p->rows != NULL && k < p->n_steps; k++) {
        p->rows[2 * k] = p->knots[k];
        p->rows[2 * k + 1] = p->knots[k + 1] / p->knots[k];
    }
    return DFX_OK;
}
static dfx_status DFX_CALL step(const void *s, dfx_graph *g, dfx_step_io *io, dfx_error *err)
{
    const dfx_host *h = ((const self *)s)->host;
    const dfx_graph_api *e = h->graph;
    dfx_eval at = { sizeof(dfx_eval), 0, NULL, NULL, NULL, NULL };
    dfx_node found = 0, away;
    dfx_status status;
    at.x = io->x;
    at.sigma = &io->coeff[0];
    status = h->build->denoise(g, 0, &at, 1, &found);
    if (status != DFX_OK) return dfx_fail(err, status, "the denoiser said nothing");
    away = dfx_sub(e, g, io->x[0], found);
    io->next[0] = dfx_add(e, g, found, dfx_mul(e, g, io->coeff[1], away));
#if SAMPLE == 1 /* asks first, as it should: an older engine has neither the op nor the field */
    if (e->supports(g, DFX_OP_FUTURE, DFX_F32)) io->next[0] = dfx_emit1(e, g, DFX_OP_FUTURE, io->next[0]);
    if (DFX_HAS(io, dfx_step_io, future)) io->next[0] = io->future;
    if (DFX_HAS(h, dfx_host, future)) h->future(h);
#elif SAMPLE == 2 /* does not ask */
    io->next[0] = dfx_emit1(e, g, DFX_OP_FUTURE, io->next[0]);
#elif SAMPLE == 3 || SAMPLE == 4 /* a call with a field of the future: zero, as before; or set */
    {
        dfx_call c = { sizeof(dfx_call), DFX_OP_NEG, NULL, NULL, NULL, NULL, 1, 0, 0, 0, 0 };
        dfx_node in = io->next[0];
        c.in = &in;
        c.future = SAMPLE == 4;
        in = e->emit(g, &c);
        io->next[0] = e->emit(g, &c);
    }
#endif
    return DFX_OK;
}
#ifdef DFX_OP_FUTURE
static dfx_status DFX_CALL later(const void *s, dfx_error *err)
{
    (void)s; (void)err;
    abort(); /* an older engine cannot know of it */
}
#define GROWN(x) , x
#else
#define GROWN(x)
#endif
static const dfx_sampler_api api = { sizeof(dfx_sampler_api), 0, info, plan, step GROWN(later) };
static const dfx_factory factory = { sizeof(dfx_factory), DFX_KIND_SAMPLER, &api, "org.newer.euler", "newer", NULL, create, free };
static const dfx_factory unknown = { sizeof(dfx_factory), 77u, &api, "org.newer.other", "newer", NULL, create, free };
static const dfx_factory *const factories[] = { &factory, &unknown };
const dfx_plugin DFX_EXPORT diffx_plugin_v0 = { DFX_PLUGIN_MAGIC, DFX_PLUGIN_ABI_MAJOR, DFX_PLUGIN_ABI_MINOR,
    (uint32_t)sizeof(dfx_plugin), REQUIRED, DFX_PLUGIN_LAYOUT, 2, factories, "org.newer", "9.0.0", "MIT" GROWN(NULL) };
