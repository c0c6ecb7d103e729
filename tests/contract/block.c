/* Case 3. Block decoding with a cache and a data-dependent number of commits.
 *
 * The network mixes the features of all positions and predicts every token. In phase 0 it computes
 * all features and fills its cache; in phase 1 it computes those of one block and takes the rest
 * from the cache. The sampler opens each block with a prefill row and goes on with block rows, each
 * a variant of the step; in every row a sample commits the masked tokens of its block it is sure
 * of, and at least the surest. */
#include "contract.h"

enum { LENGTH = 12, BLOCK = 4, CLASSES = 5, MASK = 4, WIDTH = 6 };

static const dfx_component state = {
    {DFX_I32, 1, {LENGTH}}, DFX_SPACE_DISCRETE, CLASSES, "tokens", NULL,
};
static const dfx_cond conds[] = {
    {{0, 1, {CLASSES - 1}}, 0., "bias", NULL},     /* tells samples apart           */
    {{DFX_I32, 0, {0}}, 0., "start", NULL},              /* set by the sampler: the block */
};
static const dfx_slot cache = {{0, 2, {LENGTH, WIDTH}}, 0., 0, 0, "features", NULL};

/* ---- model; p = {stale}: 1 forgets to write the cache in block phase */

TELL(net_info, dfx_model_info, out)
{
    UNUSED;
    out->predicts = DFX_PREDICTS_LOGITS;
    out->n_components = 1;
    out->components = &state;
    out->n_conds = 2;
    out->conds = conds;
    out->n_slots = 1;
    out->slots = &cache;
    return DFX_OK;
}

/* Where a block lies in a tensor with an axis before and after: (0, start, 0) and its parts. */
static dfx_node place(pen k, dfx_node start, int before, int after)
{
    const int64_t one = 1;
    dfx_node zero = filled(k, 0., DFX_I32, 1, &one);
    dfx_node at = before ? join(k, zero, start, 0) : start;
    return after ? join(k, at, zero, 0) : at;
}

static dfx_node cut(pen k, dfx_node x, dfx_node at, uint32_t rank, const int64_t *sizes)
{
    dfx_attr attr = list(DFX_ATTR_SIZES, rank, sizes);
    dfx_node in[2];
    in[0] = x;
    in[1] = at;
    return emit(k, DFX_OP_DYNAMIC_SLICE, 2, in, 1, &attr);
}

static dfx_node look_up(pen k, dfx_node table, dfx_node tokens)
{
    dfx_attr axis = whole(DFX_ATTR_AXIS, 0);
    dfx_node in[2];
    in[0] = table;
    in[1] = tokens;
    return emit(k, DFX_OP_GATHER, 2, in, 1, &axis);
}

BUILD(net_build, dfx_model_io)
{
    PEN;
    const int64_t rows = desc(k, io->x[0]).dims[0], first[1] = {0}, one[1] = {1};
    const int64_t tokens[2] = {rows, BLOCK}, mixing[2] = {BLOCK, LENGTH};
    const int64_t out[3] = {rows, LENGTH, CLASSES}, per_row[3] = {rows, 1, CLASSES - 1};
    dfx_node embedding = weight(k, "embed", 2, CLASSES, WIDTH);
    dfx_node mix = weight(k, "mix", 2, LENGTH, LENGTH);
    dfx_node head = weight(k, "head", 2, WIDTH, CLASSES - 1);
    dfx_node x = io->x[0], start, features, logits, none;
    dfx_desc d;
    dfx_attr at[2];
    at[0] = list(DFX_ATTR_START, 1, first);
    at[1] = list(DFX_ATTR_STOP, 1, one);
    start = emit(k, DFX_OP_SLICE, 1, &io->cond[1], 2, at);
    if (io->phase == 0) {
        features = io->slot_out[0] = look_up(k, embedding, x);
    } else {
        dfx_node block = look_up(k, embedding, cut(k, x, place(k, start, 1, 0), 2, tokens));
        features = op3(k, DFX_OP_DYNAMIC_UPDATE, io->slot[0], block, place(k, start, 1, 1));
        if (P(0) == 0.)
            io->slot_out[0] = features;
        else
            features = io->slot[0];
        mix = cut(k, mix, place(k, start, 0, 1), 2, mixing);
    }
    logits = ADD(MATMUL(TANH(MATMUL(mix, features)), head), reshape(k, io->cond[0], 3, per_row));
    d = desc(k, logits);
    d.dims[2] = 1;
    none = filled(k, -1e9, d.dtype, 3, d.dims);          /* never the mask */
    logits = join(k, logits, none, 2);
    io->out[0] = logits;
    if (io->phase != 0)
        io->out[0] = op3(k, DFX_OP_DYNAMIC_UPDATE, filled(k, 0., d.dtype, 3, out), logits,
                         place(k, start, 1, 1));
    return DFX_OK;
}

/* ---- sampler; p = {threshold} */

TELL(blocks_info, dfx_sampler_info, out)
{
    UNUSED;
    out->n_coeff = 2;                    /* start of the block, t */
    out->n_variants = 2;                 /* prefill, block        */
    return DFX_OK;
}

TELL(blocks_plan, dfx_plan, plan)
{
    uint32_t i;
    UNUSED;
    plan->n_rows = LENGTH;               /* at worst one token per row */
    for (i = 0; plan->rows && i < LENGTH; i++) {
        plan->rows[2 * i] = i / BLOCK * BLOCK;
        plan->rows[2 * i + 1] = 1. - (double)i / LENGTH;
        plan->variants[i] = i % BLOCK != 0;
        plan->levels[i] = 1. - (i + 1.) / LENGTH;
    }
    return DFX_OK;
}

BUILD(blocks_step, dfx_step_io)
{
    PEN;
    const int64_t rows = k.api->batch(g), shape[2] = {rows, LENGTH};
    const int32_t at = k.build->cond_index(g, "start");
    dfx_node x = io->x[0], start = INTEGER(io->coeff[0]), cond[2], unused, logits;
    dfx_node sure, place_in, open, best, commit;
    dfx_eval e;
    if (at < 0 || k.build->conds(g) != 2)
        return dfx_fail(err, DFX_E_NOT_FOUND, "block decoding: the model has no condition start");
    TRY(k.build->cond(g, 0, &cond[0], &unused));
    TRY(k.build->cond(g, 1, &cond[1], &unused));
    cond[at] = spread(k, start, 1, &rows);
    memset(&e, 0, sizeof e);
    e.struct_size = (uint32_t)sizeof e;
    e.phase = io->variant;
    e.x = &x;
    e.sigma = &io->coeff[1];
    e.cond = cond;
    TRY(k.build->denoise(g, 0, &e, 1, &logits));
    io->denoised[0] = logits;

    sure = fold(k, DFX_OP_REDUCE_MAX, SOFTMAX(logits), -1, 0);
    place_in = SUB(count(k, 1, DFX_I32, 2, shape), start);
    open = AND(EQ(x, NUM(MASK)), AND(GE(place_in, NUM(0.)), LT(place_in, NUM(BLOCK))));
    sure = WHERE(open, sure, NUM(-1.));
    best = EQ(sure, fold(k, DFX_OP_REDUCE_MAX, sure, 1, 1));
    commit = AND(open, OR(best, GE(sure, NUM(P(0)))));
    io->next[0] = WHERE(commit, with(k, DFX_OP_ARGMAX, logits, whole(DFX_ATTR_AXIS, -1)), x);
    return DFX_OK;
}

/* ---- process: absorbing, alpha = 1 - t */

RANGE(mask_info)
{
    UNUSED;
    (void)stats;
    out->space = DFX_SPACE_DISCRETE;
    out->sigma_max = 1.;
    return DFX_OK;
}

BUILD(mask_prior, dfx_process_io)
{
    PEN;
    dfx_desc d = desc(k, blank(k, io->component));
    io->out[0] = filled(k, MASK, DFX_I32, d.rank, d.dims);
    return DFX_OK;
}

BUILD(mask_perturb, dfx_process_io)
{
    PEN;
    dfx_node x0 = io->in[0], u = draw(k, DFX_OP_UNIFORM, io->purpose, x0), gone = LT(u, io->in[1]);
    io->out[0] = WHERE(gone, NUM(MASK), x0);
    io->out[1] = FLOAT(gone);
    return DFX_OK;
}

static const dfx_process_api mask_api = {
    sizeof(dfx_process_api), 0, mask_info, NULL, NULL, NULL, mask_perturb, mask_prior, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
};

KIT(mask, DFX_KIND_PROCESS, "block.mask", (0), (0.));
MODEL(net, "block.net", ("stale"), (0.));
SAMPLER(blocks, "block.blocks", ("threshold"), (.9));
PLUGIN(block, &mask.base, &net.base, &blocks.base);
