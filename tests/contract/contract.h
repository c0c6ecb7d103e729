/*
 * contract.h - what the contract tests share: a pen that writes graph nodes, and one
 * way to make an instance. Nothing here is part of the ABI; it is what a plugin in C
 * would write for itself in an afternoon.
 *
 * Every build function opens with PEN; the upper-case words below then emit nodes
 * through that pen, so that a formula in the code reads as it does in the book.
 */
#ifndef CONTRACT_H
#define CONTRACT_H

#define DFX_HELPERS
#include "diffx_plugin.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- instances: numbers from the config, by key */

typedef struct plug {
    const dfx_host *host;
    double p[8];
} plug;

typedef struct kit {                     /* a factory with its keys and defaults */
    dfx_factory base;
    const char *key[8];
    double      value[8];
} kit;

static dfx_status DFX_CALL plug_create(const dfx_factory *self, const dfx_host *host,
                                       const char *config, void **out, dfx_error *err)
{
    const kit *f = (const kit *)(const void *)self;
    plug *made = (plug *)host->alloc(host, sizeof *made, 16);
    int i;
    if (!made)
        return dfx_fail(err, DFX_E_NO_MEMORY, "no memory for an instance");
    made->host = host;
    for (i = 0; i < 8; i++) {
        char quoted[32] = "\"";
        const char *at = NULL;
        made->p[i] = f->value[i];
        if (!f->key[i])
            continue;
        strncat(strncat(quoted, f->key[i], 24), "\"", 2);
        at = strstr(config, quoted);
        if (at && (at = strchr(at, ':')))
            made->p[i] = strtod(at + 1, NULL);
    }
    *out = made;
    return DFX_OK;
}

static void DFX_CALL plug_destroy(void *instance)
{
    plug *made = (plug *)instance;
    if (made)
        made->host->free(made->host, made, sizeof *made, 16);
}

/* A function that says what an instance is, or plans on the host. */
#define TELL(name, type, what) \
    static dfx_status DFX_CALL name(const void *self, type *what, dfx_error *err)
/* What a process is, and the range of its levels for data of these statistics. */
#define RANGE(name) \
    static dfx_status DFX_CALL name(const void *self, const dfx_stats *stats, \
                                    dfx_process_info *out, dfx_error *err)
#define UNUSED (void)self, (void)err
#define P(i) (((const plug *)self)->p[i])

/* The tables of one factory of id "org.contract.ID". MODEL(net, "net", ("v", "b"), (1., 0.)) wants
 * net_info and net_build and makes the factory `net` of two keys and their defaults; and so on. */
#define SPREAD(...) __VA_ARGS__
#define KIT(x, kind, id, keys, values) \
    static const kit x = {{(uint32_t)sizeof(dfx_factory), kind, &x##_api, "org.contract." id, id, \
                           NULL, plug_create, plug_destroy}, {SPREAD keys}, {SPREAD values}}
#define MODEL(x, id, keys, values) \
    static const dfx_model_api x##_api = {sizeof(dfx_model_api), 0, x##_info, x##_build}; \
    KIT(x, DFX_KIND_MODEL, id, keys, values)
#define SAMPLER(x, id, keys, values) \
    static const dfx_sampler_api x##_api = {sizeof(dfx_sampler_api), 0, x##_info, x##_plan, \
                                            x##_step}; \
    KIT(x, DFX_KIND_SAMPLER, id, keys, values)
#define GUIDANCE(x, hooks, id, keys, values) \
    static const dfx_guidance_api x##_api = {sizeof(dfx_guidance_api), 0, x##_info, SPREAD hooks, NULL}; \
    KIT(x, DFX_KIND_GUIDANCE, id, keys, values)
#define OBJECTIVE(x, sweep, id, keys, values) \
    static const dfx_objective_api x##_api = {sizeof(dfx_objective_api), 0, x##_info, x##_loss, \
                                              sweep, NULL}; \
    KIT(x, DFX_KIND_OBJECTIVE, id, keys, values)
#define PLUGIN(name, ...) \
    static const dfx_factory *const factories[] = {__VA_ARGS__}; \
    DFX_PLUGIN(name) = {DFX_PLUGIN_HEADER, sizeof factories / sizeof factories[0], factories, \
                        "org.contract." #name, "1.0.0", "MIT"}

/* ---- the pen */

typedef struct pen {
    const dfx_graph_api *api;
    const dfx_build_api *build;
    dfx_graph *g;
} pen;

static pen pen_at(const void *self, dfx_graph *g)
{
    const dfx_host *host = ((const plug *)self)->host;
    pen k;
    k.api = host->graph;
    k.build = host->build;
    k.g = g;
    return k;
}
/* A build function, and its first line. */
#define BUILD(name, io_type) \
    static dfx_status DFX_CALL name(const void *self, dfx_graph *g, io_type *io, dfx_error *err)
#define PEN const pen k = pen_at(self, g); UNUSED
#define TRY(call) do { dfx_status s_ = (call); if (s_ != DFX_OK) return s_; } while (0)

static dfx_node emit(pen k, dfx_op op, uint32_t n_in, const dfx_node *in, uint32_t n_attr,
                     const dfx_attr *attr)
{
    return dfx_emit(k.api, k.g, op, in, n_in, attr, n_attr);
}
static dfx_attr list(uint32_t key, uint32_t n, const int64_t *p)
{
    return dfx_attr_ints(key, p, n);
}
#define whole dfx_attr_int
#define real  dfx_attr_float

static dfx_node op1(pen k, dfx_op op, dfx_node a) { return dfx_emit1(k.api, k.g, op, a); }
static dfx_node op2(pen k, dfx_op op, dfx_node a, dfx_node b)
{
    return dfx_emit2(k.api, k.g, op, a, b);
}
static dfx_node op3(pen k, dfx_op op, dfx_node a, dfx_node b, dfx_node c)
{
    dfx_node in[3];
    in[0] = a;
    in[1] = b;
    in[2] = c;
    return emit(k, op, 3, in, 0, NULL);
}
static dfx_node with(pen k, dfx_op op, dfx_node a, dfx_attr attr)
{
    return emit(k, op, 1, &a, 1, &attr);
}

#define NUM(v)         k.api->scalar(k.g, v)
#define NEG(a)         op1(k, DFX_OP_NEG, a)
#define SQUARE(a)      op1(k, DFX_OP_SQUARE, a)
#define SQRT(a)        op1(k, DFX_OP_SQRT, a)
#define EXP(a)         op1(k, DFX_OP_EXP, a)
#define LOG(a)         op1(k, DFX_OP_LOG, a)
#define TANH(a)        op1(k, DFX_OP_TANH, a)
#define ADD(a, b)      op2(k, DFX_OP_ADD, a, b)
#define SUB(a, b)      op2(k, DFX_OP_SUB, a, b)
#define MUL(a, b)      op2(k, DFX_OP_MUL, a, b)
#define DIV(a, b)      op2(k, DFX_OP_DIV, a, b)
#define MIN(a, b)      op2(k, DFX_OP_MIN, a, b)
#define MAX(a, b)      op2(k, DFX_OP_MAX, a, b)
#define EQ(a, b)       op2(k, DFX_OP_EQ, a, b)
#define LT(a, b)       op2(k, DFX_OP_LT, a, b)
#define LE(a, b)       op2(k, DFX_OP_LE, a, b)
#define GE(a, b)       op2(k, DFX_OP_GE, a, b)
#define AND(a, b)      op2(k, DFX_OP_AND, a, b)
#define OR(a, b)       op2(k, DFX_OP_OR, a, b)
#define MATMUL(a, b)   op2(k, DFX_OP_MATMUL, a, b)
#define WHERE(c, a, b) op3(k, DFX_OP_WHERE, c, a, b)
#define STOP(a)        op1(k, DFX_OP_STOP_GRADIENT, a)
#define CAST(a, t)     with(k, DFX_OP_CAST, a, whole(DFX_ATTR_DTYPE, t))
#define FLOAT(a)       CAST(a, k.api->float_type(k.g))
#define INTEGER(a)     CAST(a, DFX_I32)
#define SOFTMAX(a)     with(k, DFX_OP_SOFTMAX, a, whole(DFX_ATTR_AXIS, -1))
#define ALL(op, a)     op1(k, op, a)     /* a reduction over every axis */

/* ---- shapes */

static dfx_desc desc(pen k, dfx_node n)
{
    dfx_desc d;
    memset(&d, 0, sizeof d);
    k.api->describe(k.g, n, &d);
    return d;
}

static dfx_node reshape(pen k, dfx_node a, uint32_t rank, const int64_t *dims)
{
    return with(k, DFX_OP_RESHAPE, a, list(DFX_ATTR_SHAPE, rank, dims));
}
static dfx_node spread(pen k, dfx_node a, uint32_t rank, const int64_t *dims)
{
    return with(k, DFX_OP_BROADCAST_TO, a, list(DFX_ATTR_SHAPE, rank, dims));
}
static dfx_node fold(pen k, dfx_op op, dfx_node a, int64_t axis, int64_t keep)
{
    dfx_attr at[2];
    at[0] = list(DFX_ATTR_AXES, 1, &axis);
    at[1] = whole(DFX_ATTR_KEEPDIMS, keep);
    return emit(k, op, 1, &a, 2, at);
}
static dfx_node join(pen k, dfx_node a, dfx_node b, int64_t axis)
{
    dfx_attr at = whole(DFX_ATTR_AXIS, axis);
    dfx_node in[2];
    in[0] = a;
    in[1] = b;
    return emit(k, DFX_OP_CONCAT, 2, in, 1, &at);
}
static dfx_node filled(pen k, double value, dfx_dtype t, uint32_t rank, const int64_t *dims)
{
    dfx_attr at[3];
    at[0] = real(DFX_ATTR_VALUE, value);
    at[1] = list(DFX_ATTR_SHAPE, rank, dims);
    at[2] = whole(DFX_ATTR_DTYPE, t);
    return emit(k, DFX_OP_FULL, 0, NULL, 3, at);
}
static dfx_node count(pen k, int64_t axis, dfx_dtype t, uint32_t rank, const int64_t *dims)
{
    dfx_attr at[3];
    at[0] = list(DFX_ATTR_SHAPE, rank, dims);
    at[1] = whole(DFX_ATTR_AXIS, axis);
    at[2] = whole(DFX_ATTR_DTYPE, t);
    return emit(k, DFX_OP_IOTA, 0, NULL, 3, at);
}
/* [rows] */
static dfx_node flat(pen k, dfx_node a)
{
    const int64_t rows = -1;
    return reshape(k, a, 1, &rows);
}
/* A level (scalar, [rows] or shaped) as [rows,1,..,1] with the rank of `like`. */
static dfx_node shaped(pen k, dfx_node level, dfx_node like)
{
    dfx_desc d = desc(k, like);
    int64_t one[DFX_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1}, rows[DFX_MAX_RANK];
    memcpy(rows, one, sizeof rows);
    rows[0] = d.dims[0];
    if (desc(k, level).rank == 0)
        return spread(k, reshape(k, level, d.rank, one), d.rank, rows);
    return reshape(k, level, d.rank, rows);
}
/* The noise embedding a network takes, ln(sigma)/4 as [rows], and the variance it stands for. */
static dfx_node embed(pen k, dfx_node sigma, dfx_node like)
{
    return MUL(LOG(flat(k, shaped(k, sigma, like))), NUM(.25));
}
static dfx_node variance(pen k, dfx_node embedding, dfx_node like)
{
    return shaped(k, EXP(MUL(embedding, NUM(8.))), like);
}

/* Zeros in the shape of the state of a component. */
static dfx_node blank(pen k, const dfx_component *c)
{
    dfx_desc d = c->desc;
    memmove(d.dims + 1, d.dims, sizeof d.dims - sizeof d.dims[0]);
    d.dims[0] = k.api->batch(k.g);
    d.dtype = c->space == DFX_SPACE_DISCRETE ? DFX_I32 : k.api->float_type(k.g);
    return filled(k, 0., d.dtype, d.rank + 1, d.dims);
}

/* ---- draws, gradients, calls back into the pipeline */

static dfx_node draw(pen k, dfx_op op, uint32_t purpose, dfx_node like)
{
    dfx_desc d = desc(k, like);
    dfx_attr at[2];
    at[0] = list(DFX_ATTR_SHAPE, d.rank, d.dims);
    at[1] = whole(DFX_ATTR_PURPOSE, purpose);
    return emit(k, op, 0, NULL, 2, at);
}
static dfx_node draw_from(pen k, dfx_op op, uint32_t purpose, dfx_node parameter)
{
    return with(k, op, parameter, whole(DFX_ATTR_PURPOSE, purpose));
}
static dfx_node grad(pen k, dfx_node y, dfx_node cotangent, dfx_node x)
{
    dfx_node in[3], out = 0;
    dfx_call call;
    in[0] = y;
    in[1] = cotangent;
    in[2] = x;
    memset(&call, 0, sizeof call);
    call.struct_size = (uint32_t)sizeof call;
    call.op = DFX_OP_GRAD;
    call.in = in;
    call.n_in = 3;
    call.out = &out;
    call.n_out = 1;
    k.api->emit(k.g, &call);
    return out;
}
/* D of a state of one component, under the conditions of the job. */
static dfx_status denoise(pen k, dfx_denoiser d, dfx_node x, dfx_node sigma, dfx_node *out)
{
    dfx_eval e;
    memset(&e, 0, sizeof e);
    e.struct_size = (uint32_t)sizeof e;
    e.x = &x;
    e.sigma = &sigma;
    return k.build->denoise(k.g, d, &e, 1, out);
}
static dfx_status process(pen k, uint32_t component, uint32_t function, uint32_t purpose,
                          uint32_t n_in, const dfx_node *in, dfx_node *out)
{
    return k.build->process(k.g, component, function, purpose, in, n_in, out, 1);
}

/* ---- descs */

static dfx_desc sized(dfx_dtype t, uint32_t rank, int64_t d0, int64_t d1)
{
    dfx_desc d;
    memset(&d, 0, sizeof d);
    d.dtype = t;
    d.rank = rank;
    d.dims[0] = rank > 0 ? d0 : 0;
    d.dims[1] = rank > 1 ? d1 : 0;
    return d;
}
static dfx_node weight(pen k, const char *name, uint32_t rank, int64_t d0, int64_t d1)
{
    dfx_desc d = sized(0, rank, d0, d1);
    return k.api->weight(k.g, name, &d, NULL);
}

#endif /* CONTRACT_H */
