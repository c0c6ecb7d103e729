/*
 * ve_example.c - a whole plugin in C89: the process x -> w = scale x, perturbed by Gaussian noise ("variance
 * exploding"). cc -shared -fPIC -I include ve_example.c -o libve_example.so
 */
#define DFX_HELPERS
#include "diffx_plugin.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct ve {
    const dfx_graph_api *e;
    double scale;
} ve;

static dfx_status DFX_CALL info(const void *self, const dfx_stats *stats, dfx_process_info *out, dfx_error *err) {
    (void)self;
    if (!(stats->w_var > 0.0)) return dfx_fail(err, DFX_E_INVALID, "the data has no variance");
    out->space = DFX_SPACE_CONTINUOUS;
    out->flags = DFX_PROCESS_IS_ADDITIVE;
    out->sigma_min = 0.002 * sqrt(stats->w_var);
    out->sigma_max = 80.0 * sqrt(stats->w_var);
    return DFX_OK;
}

static dfx_status DFX_CALL encode(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) {
    const ve *p = (const ve *)self;
    (void)err;
    io->out[0] = dfx_mul(p->e, g, io->in[0], p->e->scalar(g, p->scale));
    return DFX_OK;
}

static dfx_status DFX_CALL decode(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) {
    const ve *p = (const ve *)self;
    (void)err;
    io->out[0] = dfx_div(p->e, g, io->in[0], p->e->scalar(g, p->scale));
    return DFX_OK;
}

static dfx_status DFX_CALL perturb(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) {
    const dfx_graph_api *e = ((const ve *)self)->e;
    dfx_node xi = dfx_normal_like(e, g, io->in[0], io->purpose);
    (void)err;
    io->out[0] = dfx_add(e, g, io->in[0], dfx_mul(e, g, io->in[1], xi));
    io->out[1] = io->in[0];
    return DFX_OK;
}

static dfx_status DFX_CALL prior(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) {
    const dfx_graph_api *e = ((const ve *)self)->e;
    (void)err;
    io->out[0] = dfx_mul(e, g, io->in[0], dfx_normal(e, g, &io->component->desc, io->purpose));
    return DFX_OK;
}

/* EDM: c_skip = v / (s^2 + v), c_out = s sqrt(v) / sqrt(s^2 + v), c_in = 1 / sqrt(s^2 + v), c_noise = ln(s) / 4 */
static dfx_status DFX_CALL precond(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) {
    const dfx_graph_api *e = ((const ve *)self)->e;
    double v = io->stats->w_var;
    dfx_node s = io->in[0], square = dfx_square(e, g, s);
    dfx_node total = dfx_add(e, g, square, e->scalar(g, v)), c_in = dfx_rsqrt(e, g, total);
    (void)err;
    io->out[1] = dfx_mul(e, g, dfx_mul(e, g, s, e->scalar(g, sqrt(v))), c_in);
    io->out[0] = dfx_div(e, g, e->scalar(g, v), total);
    io->out[2] = c_in;
    s = dfx_log(e, g, s);
    io->out[3] = dfx_mul(e, g, s, e->scalar(g, 0.25));
    square = dfx_square(e, g, io->in[0]);
    io->out[4] = dfx_div(e, g, total, dfx_mul(e, g, square, e->scalar(g, v)));
    return DFX_OK;
}

static dfx_status DFX_CALL renoise(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) {
    const dfx_graph_api *e = ((const ve *)self)->e;
    dfx_node hat = dfx_square(e, g, io->in[2]), now = dfx_square(e, g, io->in[1]);
    dfx_node spread = dfx_sqrt(e, g, dfx_sub(e, g, hat, now));
    dfx_node xi = dfx_normal_like(e, g, io->in[0], io->purpose);
    (void)err;
    io->out[0] = dfx_add(e, g, io->in[0], dfx_mul(e, g, spread, xi));
    return DFX_OK;
}

static dfx_status DFX_CALL ancestral(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) {
    const dfx_graph_api *e = ((const ve *)self)->e;
    dfx_node spread = dfx_sqrt(e, g, io->in[1]), xi = dfx_normal_like(e, g, io->in[0], io->purpose);
    (void)err;
    io->out[0] = dfx_add(e, g, io->in[0], dfx_mul(e, g, spread, xi));
    return DFX_OK;
}

static dfx_status DFX_CALL to_score(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) {
    const dfx_graph_api *e = ((const ve *)self)->e;
    dfx_node away = dfx_sub(e, g, io->in[1], io->in[0]);
    (void)err;
    io->out[0] = dfx_div(e, g, away, dfx_square(e, g, io->in[2]));
    return DFX_OK;
}

static dfx_status DFX_CALL create(const dfx_factory *f, const dfx_host *h, const char *json, void **out, dfx_error *err) {
    ve *p = (ve *)malloc(sizeof *p);
    int end = f == NULL; /* stays 0: how far sscanf came */
    if (p == NULL) return DFX_E_NO_MEMORY;
    p->e = h->graph;
    p->scale = 1.0;
    if ((sscanf(json, " { \"scale\" : %lf } %n", &p->scale, &end) < 1 && (sscanf(json, " { } %n", &end), end == 0)) ||
        end == 0 || json[end] != 0 || !(p->scale > 0.0)) {
        free(p);
        return dfx_fail(err, DFX_E_FORMAT, "config: want {\"scale\": a number above 0}");
    }
    *out = p;
    return DFX_OK;
}

static const dfx_process_api api = {sizeof(dfx_process_api), 0, info, NULL, encode, decode, perturb, prior, precond,
                                    renoise, ancestral, to_score, NULL, NULL, NULL, NULL, NULL};
static const dfx_factory ve_factory = {sizeof(dfx_factory), DFX_KIND_PROCESS, &api, "org.example.ve",
                                       "Gaussian noise on scaled data", NULL, create, free};
static const dfx_factory *const factories[] = {&ve_factory};
DFX_PLUGIN(ve_example) = {DFX_PLUGIN_HEADER, 1, factories, "org.example", "1.0.0", "MIT"};
