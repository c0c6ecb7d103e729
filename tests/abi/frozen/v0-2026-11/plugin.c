/* plugin.c - frozen: a process, a guidance, a sampler and a grid as they were written for the headers beside this file.
 * tests/gate builds it against those headers and against today's, and runs it on today's engine. Never edited. */
#define DFX_HELPERS
#include "diffx_plugin.h"
#include <math.h>
#include <stdlib.h>

typedef struct self { const dfx_host *host; } self;
#define E(p) (((const self *)(p))->host->graph)
#define IGNORE (void)err

static dfx_status DFX_CALL create(const dfx_factory *f, const dfx_host *h, const char *json, void **out, dfx_error *err)
{
    self *p = (self *)h->alloc(h, sizeof(self), 16);
    (void)f;
    if (json[0] != '{') return dfx_fail(err, DFX_E_FORMAT, "want an object");
    if (p == NULL) return DFX_E_NO_MEMORY;
    p->host = h;
    h->log(h, 3, "made");
    *out = p;
    return DFX_OK;
}
static void DFX_CALL destroy(void *p)
{
    const dfx_host *h = ((self *)p)->host;
    h->free(h, p, sizeof(self), 16);
}

/* process: w = x, perturbed by Gaussian noise */
static dfx_status DFX_CALL process_info(const void *s, const dfx_stats *stats, dfx_process_info *out, dfx_error *err)
{
    (void)s; IGNORE;
    out->space = DFX_SPACE_CONTINUOUS;
    out->flags = DFX_PROCESS_IS_ADDITIVE;
    out->sigma_min = 0.002 * sqrt(stats->w_var);
    out->sigma_max = 80.0 * sqrt(stats->w_var);
    return DFX_OK;
}
static dfx_status DFX_CALL clock_(const void *s, const double *t, uint32_t n, double *sigma, dfx_error *err)
{
    uint32_t i;
    (void)s; IGNORE;
    for (i = 0; i < n; i++) sigma[i] = sqrt(t[i]);
    return DFX_OK;
}
static dfx_status DFX_CALL same(const void *s, dfx_graph *g, dfx_process_io *io, dfx_error *err)
{
    (void)s; (void)g; IGNORE;
    io->out[0] = io->in[0];
    return DFX_OK;
}
static dfx_status DFX_CALL perturb(const void *s, dfx_graph *g, dfx_process_io *io, dfx_error *err)
{
    dfx_node xi = dfx_normal_like(E(s), g, io->in[0], io->purpose);
    IGNORE;
    io->out[0] = dfx_add(E(s), g, io->in[0], dfx_mul(E(s), g, io->in[1], xi));
    io->out[1] = io->in[0];
    return DFX_OK;
}
static dfx_status DFX_CALL prior(const void *s, dfx_graph *g, dfx_process_io *io, dfx_error *err)
{
    IGNORE;
    io->out[0] = dfx_mul(E(s), g, io->in[0], dfx_normal(E(s), g, &io->component->desc, io->purpose));
    return DFX_OK;
}
static dfx_status DFX_CALL precond(const void *s, dfx_graph *g, dfx_process_io *io, dfx_error *err)
{
    const dfx_graph_api *e = E(s);
    double v = io->stats->w_var;
    dfx_node square = dfx_square(e, g, io->in[0]), total = dfx_add(e, g, square, e->scalar(g, v));
    dfx_node in = dfx_rsqrt(e, g, total), root = dfx_mul(e, g, io->in[0], e->scalar(g, sqrt(v)));
    dfx_node log = dfx_log(e, g, io->in[0]);
    IGNORE;
    io->out[0] = dfx_div(e, g, e->scalar(g, v), total);
    io->out[1] = dfx_mul(e, g, root, in);
    io->out[2] = in;
    io->out[3] = dfx_mul(e, g, log, e->scalar(g, 0.25));
    io->out[4] = dfx_div(e, g, total, dfx_mul(e, g, square, e->scalar(g, v)));
    return DFX_OK;
}
static dfx_status DFX_CALL renoise(const void *s, dfx_graph *g, dfx_process_io *io, dfx_error *err)
{
    const dfx_graph_api *e = E(s);
    dfx_node hat = dfx_square(e, g, io->in[2]), now = dfx_square(e, g, io->in[1]);
    dfx_node spread = dfx_sqrt(e, g, dfx_sub(e, g, hat, now)), xi = dfx_normal_like(e, g, io->in[0], io->purpose);
    IGNORE;
    io->out[0] = dfx_add(e, g, io->in[0], dfx_mul(e, g, spread, xi));
    return DFX_OK;
}
static const dfx_process_api process_api = { sizeof(dfx_process_api), 0, process_info, clock_, same, same, perturb, prior,
    precond, renoise, NULL, NULL, NULL, NULL, NULL, NULL, NULL };

/* guidance: what the denoiser says, times 0.999 */
static dfx_status DFX_CALL guidance_info(const void *s, dfx_guidance_info *out, dfx_error *err)
{
    (void)s; IGNORE;
    out->stage = DFX_STAGE_RESCALE;
    out->group = 1;
    out->exact_for = -1.0;
    return DFX_OK;
}
static dfx_status DFX_CALL wrap(const void *s, dfx_graph *g, dfx_wrap_io *io, dfx_error *err)
{
    const dfx_build_api *b = ((const self *)s)->host->build;
    dfx_status status = b->denoise(g, io->inner, io->evals, io->n_evals, io->out);
    uint32_t i;
    if (status != DFX_OK) return dfx_fail(err, status, "the denoiser said nothing");
    for (i = 0; i < io->n_evals * io->n_components; i++)
        io->out[i] = dfx_mul(E(s), g, io->out[i], E(s)->scalar(g, 0.999));
    return DFX_OK;
}
static const dfx_guidance_api guidance_api = { sizeof(dfx_guidance_api), 0, guidance_info, wrap, NULL, NULL, NULL, NULL, NULL };

/* sampler: Euler */
static dfx_status DFX_CALL sampler_info(const void *s, dfx_sampler_info *out, dfx_error *err)
{
    (void)s; IGNORE;
    out->n_coeff = 2;
    out->n_variants = 1;
    return DFX_OK;
}
static dfx_status DFX_CALL plan(const void *s, dfx_plan *p, dfx_error *err)
{
    uint32_t k;
    (void)s;
    if (p->n_components != 1) return dfx_fail(err, DFX_E_UNSUPPORTED, "one component");
    p->n_rows = p->n_steps;
    for (k = 0; p->rows != NULL && k < p->n_steps; k++) {
        p->rows[2 * k] = p->knots[k];
        p->rows[2 * k + 1] = p->knots[k + 1] / p->knots[k];
    }
    return DFX_OK;
}
static dfx_status DFX_CALL step(const void *s, dfx_graph *g, dfx_step_io *io, dfx_error *err)
{
    const dfx_graph_api *e = E(s);
    dfx_eval at = { sizeof(dfx_eval), 0, NULL, NULL, NULL, NULL };
    dfx_node found = 0, away;
    dfx_status status;
    at.x = io->x;
    at.sigma = &io->coeff[0];
    status = ((const self *)s)->host->build->denoise(g, 0, &at, 1, &found);
    if (status != DFX_OK) return dfx_fail(err, status, "the denoiser said nothing");
    away = dfx_sub(e, g, io->x[0], found);
    io->next[0] = dfx_add(e, g, found, dfx_mul(e, g, io->coeff[1], away));
    io->denoised[0] = found;
    return DFX_OK;
}
static const dfx_sampler_api sampler_api = { sizeof(dfx_sampler_api), 0, sampler_info, plan, step };

/* grid: geometric */
static dfx_status DFX_CALL knots(const void *s, uint32_t n, double lo, double hi, double *out, dfx_error *err)
{
    uint32_t i;
    (void)s;
    if (n == 0 || !(lo > 0.0)) return dfx_fail(err, DFX_E_INVALID, "want steps and a least level");
    for (i = 0; i <= n; i++) out[i] = i == 0 ? hi : i == n ? lo : hi * pow(lo / hi, (double)i / n);
    return DFX_OK;
}
static const dfx_grid_api grid_api = { sizeof(dfx_grid_api), 0, 0, 0, knots, NULL };

static const dfx_factory process_ = { sizeof(dfx_factory), DFX_KIND_PROCESS, &process_api, "org.frozen.gauss", "frozen", NULL, create, destroy };
static const dfx_factory guidance_ = { sizeof(dfx_factory), DFX_KIND_GUIDANCE, &guidance_api, "org.frozen.shrink", "frozen", NULL, create, destroy };
static const dfx_factory sampler_ = { sizeof(dfx_factory), DFX_KIND_SAMPLER, &sampler_api, "org.frozen.euler", "frozen", NULL, create, destroy };
static const dfx_factory grid_ = { sizeof(dfx_factory), DFX_KIND_GRID, &grid_api, "org.frozen.geometric", "frozen", NULL, create, destroy };
static const dfx_factory *const factories[] = { &process_, &guidance_, &sampler_, &grid_ };
DFX_PLUGIN(frozen) = { DFX_PLUGIN_HEADER, 4, factories, "org.frozen", "0.1.0", "MIT" };
