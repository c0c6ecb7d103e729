/* misuse.c - a model that breaks the rule its config names, for tests/abi/misuse.rs. {"case":"name"} */
#define DFX_HELPERS
#include "diffx_plugin.h"
#include <pthread.h>
#include <string.h>

typedef struct model {
    const dfx_host *host;
    char name[64];
} model;

static model pool[256];
static unsigned used;
static dfx_graph *kept; /* a handle of a build that is over */

static dfx_status DFX_CALL info(const void *self, dfx_model_info *out, dfx_error *err) {
    static dfx_component x;
    static dfx_component many[17];
    const char *name = ((const model *)self)->name;
    (void)err;
    x.desc.dtype = DFX_F32;
    x.desc.rank = 1;
    x.desc.dims[0] = -1;
    x.name = "x";
    out->predicts = DFX_PREDICTS_DENOISED;
    out->n_components = 1;
    out->components = &x;
    if (!strcmp(name, "info_null_array")) out->components = NULL;
    if (!strcmp(name, "info_many")) { out->n_components = 17; out->components = many; }
    if (!strcmp(name, "info_null_name")) out->components = many;
    if (!strcmp(name, "info_predicts")) out->predicts = 77;
    if (!strcmp(name, "info_none")) out->n_components = 0;
    return DFX_OK;
}

static void *elsewhere(void *p) {
    void **given = (void **)p;
    const model *m = (const model *)given[0];
    dfx_node *out = (dfx_node *)given[2];
    *out = m->host->graph->scalar((dfx_graph *)given[1], 1.0);
    return NULL;
}

static dfx_status DFX_CALL build(const void *self, dfx_graph *g, dfx_model_io *io, dfx_error *err) {
    const model *m = (const model *)self;
    const dfx_graph_api *e = m->host->graph;
    const dfx_build_api *b = m->host->build;
    const char *name = m->name;
    dfx_node x = io->x[0], many[100];
    dfx_attr attr[40];
    dfx_desc d;
    dfx_call c;
    int64_t axes[1] = {0};
    int i;
    struct { dfx_call c; uint64_t tail; } longer;
#define CASE(s) if (!strcmp(name, s))
    memset(&c, 0, sizeof c);
    memset(&longer, 0, sizeof longer);
    memset(&d, 0, sizeof d);
    for (i = 0; i < 100; i++) many[i] = x;
    for (i = 0; i < 40; i++) attr[i] = dfx_attr_int(DFX_ATTR_AXIS, 0);
    c.struct_size = sizeof c;
    c.op = DFX_OP_SQUARE;
    c.in = &x;
    c.n_in = 1;
    longer.c = c;
    longer.c.struct_size = sizeof longer;
    io->out[0] = x;

    CASE("unknown_op") c.op = 9999, e->emit(g, &c);
    CASE("weight_by_emit") c.op = 2, c.n_in = 0, e->emit(g, &c);
    CASE("node_zero") io->out[0] = dfx_square(e, g, 0);
    CASE("node_far") io->out[0] = dfx_square(e, g, 123456);
    CASE("no_prediction") io->out[0] = 0;
    CASE("prediction_far") io->out[0] = 123456;
    CASE("pop") e->pop(g);
    CASE("push_only") e->push(g, "left open");
    CASE("deep") for (i = 0; i < 1000; i++) e->push(g, "s");
    CASE("null_scope") e->push(g, NULL);
    CASE("null_call") e->emit(g, NULL);
    CASE("odd_call") e->emit(g, (const dfx_call *)((const char *)&c + 1));
    CASE("short_call") c.struct_size = 8, e->emit(g, &c);
    CASE("huge_call") c.struct_size = 1u << 30, e->emit(g, &c);
    CASE("longer_call_zero") io->out[0] = e->emit(g, &longer.c);
    CASE("longer_call_set") longer.tail = 1, e->emit(g, &longer.c);
    CASE("null_inputs") c.in = NULL, e->emit(g, &c);
    CASE("many_inputs") c.op = DFX_OP_CONCAT, c.in = many, c.n_in = 100, e->emit(g, &c);
    CASE("wrong_arity") c.in = many, c.n_in = 2, e->emit(g, &c);
    CASE("many_results") c.n_out = 2, c.out = many, e->emit(g, &c);
    CASE("many_attrs") c.attr = attr, c.n_attr = 40, e->emit(g, &c);
    CASE("null_attrs") c.attr = NULL, c.n_attr = 1, e->emit(g, &c);
    CASE("attr_unknown") attr[0].key = 777, c.attr = attr, c.n_attr = 1, e->emit(g, &c);
    CASE("attr_ordinal") attr[0].key = 29, c.attr = attr, c.n_attr = 1, e->emit(g, &c);
    CASE("attr_foreign") c.attr = attr, c.n_attr = 1, e->emit(g, &c);
    CASE("attr_twice") c.op = DFX_OP_ARGMAX, c.attr = attr, c.n_attr = 2, e->emit(g, &c);
    CASE("attr_as_list") c.op = DFX_OP_ARGMAX, attr[0] = dfx_attr_ints(DFX_ATTR_AXIS, axes, 1), c.attr = attr, c.n_attr = 1, e->emit(g, &c);
    CASE("list_as_attr") c.op = DFX_OP_SUM, attr[0] = dfx_attr_int(DFX_ATTR_AXES, 1), c.attr = attr, c.n_attr = 1, e->emit(g, &c);
    CASE("list_null") c.op = DFX_OP_SUM, attr[0] = dfx_attr_ints(DFX_ATTR_AXES, NULL, 3), c.attr = attr, c.n_attr = 1, e->emit(g, &c);
    CASE("list_huge") c.op = DFX_OP_SUM, attr[0] = dfx_attr_ints(DFX_ATTR_AXES, axes, 1u << 31), c.attr = attr, c.n_attr = 1, e->emit(g, &c);
    CASE("grad_places") c.op = DFX_OP_GRAD, c.in = many, c.n_in = 3, e->emit(g, &c);
    CASE("huge_rank") d.dtype = DFX_F32, d.rank = 1000, e->weight(g, "w", &d, NULL);
    CASE("negative_dim") d.dtype = DFX_F32, d.rank = 1, d.dims[0] = -3, e->weight(g, "w", &d, NULL);
    CASE("huge_dims") d.dtype = DFX_F32, d.rank = 2, d.dims[0] = d.dims[1] = INT64_MAX, e->weight(g, "w", &d, NULL);
    CASE("int_weight") d.dtype = DFX_I32, e->weight(g, "w", &d, NULL);
    CASE("unknown_dtype") d.dtype = 4242, e->weight(g, "w", &d, NULL);
    CASE("null_name") d.dtype = DFX_F32, e->weight(g, NULL, &d, NULL);
    CASE("odd_name") d.dtype = DFX_F32, e->weight(g, "\xff\xfe", &d, NULL);
    CASE("null_shape") e->weight(g, "w", NULL, NULL);
    CASE("null_constant") d.dtype = DFX_F32, d.rank = 1, d.dims[0] = 4, e->constant(g, &d, NULL);
    CASE("large_constant") d.dtype = DFX_F32, d.rank = 1, d.dims[0] = 1 << 29, e->constant(g, &d, &d);
    CASE("describe_far") e->describe(g, 123456, &d);
    CASE("describe_null") io->out[0] = e->describe(g, x, NULL) == DFX_E_INVALID ? x : 0;
    CASE("fail") e->fail(g, DFX_E_NO_MEMORY, "the shelf is full");
    CASE("fail_odd") e->fail(g, 5, NULL);
    CASE("asks_denoiser") io->out[0] = b->denoiser_of(g, "base") == 0 ? 0 : x;
    CASE("asks_itself") return b->network(g, "base", io);
    CASE("null_handle") io->out[0] = e->scalar(NULL, 1.0);
    CASE("keeps") kept = g;
    CASE("kept") io->out[0] = e->scalar(kept, 1.0);
    CASE("thread") {
        pthread_t t;
        dfx_node out = 77;
        void *given[3];
        given[0] = (void *)m, given[1] = g, given[2] = &out;
        if (pthread_create(&t, NULL, elsewhere, given) == 0) pthread_join(t, NULL);
        io->out[0] = out;
    }
    CASE("status_plus") return 7;
    CASE("status_odd") return -99;
    CASE("status_plain") return dfx_fail(err, DFX_E_UNSUPPORTED, "not on a Sunday");
    CASE("status_mute") return DFX_E_DEVICE;
    CASE("status_scribble") { memset(err->message, 0xff, sizeof err->message); err->message_len = 1u << 31; return DFX_E_INVALID; }
    CASE("ok_after_bad") { dfx_square(e, g, 0); return DFX_OK; }
    CASE("bad_scope") { e->push(g, "blocks"); e->push(g, "3"); dfx_square(e, g, 99999); e->pop(g); e->pop(g); }
    CASE("chain") { for (i = 0; i < 20000; i++) x = dfx_square(e, g, x); io->out[0] = x; }
    return DFX_OK;
}

static dfx_status DFX_CALL create(const dfx_factory *f, const dfx_host *h, const char *json, void **out, dfx_error *err) {
    model *m = &pool[used++ % 256];
    const char *start = strstr(json, "\"case\":\""), *end = start ? strchr(start + 8, '"') : NULL;
    (void)f;
    if (!end || end - start - 8 >= 64) return dfx_fail(err, DFX_E_FORMAT, "config: want a case");
    m->host = h;
    memset(m->name, 0, sizeof m->name);
    memcpy(m->name, start + 8, (size_t)(end - start - 8));
    if (!strcmp(m->name, "no_instance")) return DFX_OK;
    *out = m;
    return DFX_OK;
}
static void DFX_CALL destroy(void *instance) { (void)instance; }

static const dfx_model_api api = {sizeof(dfx_model_api), 0, info, build};
static const dfx_factory misuse = {sizeof(dfx_factory), DFX_KIND_MODEL, &api, "org.test.misuse", NULL, NULL, create, destroy};
static const dfx_factory *const factories[] = {&misuse};
DFX_PLUGIN(misuse) = {DFX_PLUGIN_HEADER, 1, factories, "org.test", "1.0.0", "MIT"};
