/* Case 7. A network that knows nothing of adapters: LoRA is the core's rewrite of its slot. */
#include "contract.h"

enum { IN = 3, HIDDEN = 5 };

static const dfx_component state = {{0, 1, {IN}}, DFX_SPACE_CONTINUOUS, 0, "x", NULL};

TELL(net_info, dfx_model_info, out)
{
    UNUSED;
    out->predicts = DFX_PREDICTS_DENOISED;
    out->n_components = 1;
    out->components = &state;
    return DFX_OK;
}

/* tanh(x W1 + b1) W2: bias and activation in the first product, the second weight transposed. */
BUILD(net_build, dfx_model_io)
{
    PEN;
    dfx_node in[3], hidden;
    dfx_attr act = whole(DFX_ATTR_ACT, DFX_OP_TANH), transposed = whole(DFX_ATTR_TRANS_B, 1);
    in[0] = io->x[0];
    in[1] = weight(k, "fc1.weight", 2, IN, HIDDEN);
    in[2] = weight(k, "fc1.bias", 1, HIDDEN, 0);
    hidden = emit(k, DFX_OP_MATMUL, 3, in, 1, &act);
    in[0] = hidden;
    in[1] = weight(k, "fc2.weight", 2, IN, HIDDEN);
    io->out[0] = emit(k, DFX_OP_MATMUL, 2, in, 1, &transposed);
    return DFX_OK;
}

/* ---- objective: |D(x0) - 1|^2, where the network sees the data as they are */

TELL(fit_info, dfx_objective_info, out)
{
    UNUSED;
    (void)out;
    return DFX_OK;
}

BUILD(fit_loss, dfx_loss_io)
{
    PEN;
    dfx_node d;
    TRY(denoise(k, 0, io->x0[0], NUM(1.), &d));
    io->loss = ALL(DFX_OP_MEAN, SQUARE(SUB(d, NUM(1.))));
    return DFX_OK;
}

/* ---- sampler: the prior, once through the network */

TELL(once_info, dfx_sampler_info, out)
{
    UNUSED;
    out->n_coeff = 1;
    out->n_variants = 1;
    return DFX_OK;
}

TELL(once_plan, dfx_plan, plan)
{
    UNUSED;
    plan->n_rows = 1;
    if (plan->rows) {
        plan->rows[0] = plan->knots[0];
        plan->variants[0] = 0;
    }
    return DFX_OK;
}

BUILD(once_step, dfx_step_io)
{
    PEN;
    return denoise(k, 0, io->x[0], io->coeff[0], &io->next[0]);
}

MODEL(net, "lora.net", (0), (0.));
OBJECTIVE(fit, NULL, "lora.fit", (0), (0.));
SAMPLER(once, "lora.once", (0), (0.));
PLUGIN(lora, &net.base, &fit.base, &once.base);
