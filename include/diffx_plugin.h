/*
 * diffx_plugin.h - everything a plugin needs. ABI 0. C89, C++98, Zig, Rust.
 * One long file on purpose: it stands alone and is the whole manual, ops included.
 *
 * A plugin is one shared library exporting one constant: diffx_plugin_v0. It
 * holds no code the host must run to inspect it. Its factories create instances;
 * instances describe graphs; the host runs them. Plugin code never runs inside
 * the sampling loop and never sees tensor memory.
 *
 * Rules of the ABI
 *   1. Structs that start with struct_size grow at the end, never elsewhere.
 *      Read a field only after DFX_HAS. Absent and zero mean the same thing.
 *   2. All other structs are frozen.
 *   3. Integers used as kinds or codes are open sets.
 *   4. No exceptions, panics or longjmp across a call in either direction.
 *   5. The host calls one instance from one thread at a time; different
 *      instances run in parallel. Hence: no mutable globals.
 *   6. Pointers passed to a call are borrowed for that call unless said
 *      otherwise. Memory is freed by whoever allocated it.
 *   7. The library stays mapped until the process ends.
 *   8. Build calls are pure: the same inputs give the same graph. No I/O in them.
 *
 * While the symbol is diffx_plugin_v0 a break changes DFX_PLUGIN_LAYOUT; from v1
 * on nothing breaks.
 *
 * Words used below
 *   state      an array of components ("x"; or "image", "tokens"), each a tensor
 *              [batch, ...] with a process of its own
 *   w, sigma   coordinate and noise level of a continuous component; every
 *              continuous process follows dw/dsigma = (w - D) / sigma
 *   D          denoised estimate E[target | w], in the coordinate w; for a
 *              discrete component: logits [batch, ..., classes]
 *   shaped     a noise level or coefficient of shape [batch,1,..,1] with the rank
 *              of the state, so that it broadcasts against it
 */
#ifndef DIFFX_PLUGIN_H
#define DIFFX_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

/* ---- base types (this block is byte-identical in diffx.h and diffx_plugin.h) ---- */
#ifndef DFX_BASE_TYPES
#define DFX_BASE_TYPES

#if defined(_WIN32)
#  define DFX_CALL __cdecl
#else
#  define DFX_CALL
#endif
#if defined(__cplusplus) && __cplusplus >= 201103L
#  define DFX_STATIC_ASSERT(name, cond) static_assert(cond, #name)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#  define DFX_STATIC_ASSERT(name, cond) _Static_assert(cond, #name)
#else
#  define DFX_STATIC_ASSERT(name, cond) typedef char dfx_assert_##name[(cond) ? 1 : -1]
#endif

/* Does the struct behind `p` (which has struct_size first) contain `field`? */
#define DFX_HAS(p, type, field) \
    ((p)->struct_size >= offsetof(type, field) + sizeof((p)->field))

typedef int32_t dfx_status;              /* 0 = ok, negative = failure. Open set.            */
#define DFX_OK             0
#define DFX_E_INVALID    (-1)            /* bad argument: a bug in the caller                */
#define DFX_E_STATE      (-2)            /* right call, wrong time                           */
#define DFX_E_NOT_FOUND  (-3)            /* no such file, id, name or tensor                 */
#define DFX_E_NO_MEMORY  (-4)            /* host or device memory, or the cap the host set   */
#define DFX_E_IO         (-5)            /* the system refused to read or write              */
#define DFX_E_FORMAT     (-6)            /* malformed file, config or plugin                 */
#define DFX_E_UNSUPPORTED (-7)           /* op, dtype, device or option not available        */
#define DFX_E_VERSION    (-8)            /* ABI or file version skew                         */
#define DFX_E_CANCELLED  (-9)            /* the host cancelled the job                       */
#define DFX_E_DENIED    (-10)            /* trust policy refused                             */
#define DFX_E_DEVICE    (-11)            /* driver or kernel failure; device may be lost     */
#define DFX_E_PLUGIN    (-12)            /* plugin broke its contract or panicked            */
#define DFX_E_INTERNAL  (-13)            /* a bug in diffx; the engine is poisoned           */

/* An error is a value owned by the caller. Nothing to free, nothing thread-local.
 * Set struct_size, pass it as the last argument, or pass NULL to ignore details. */
typedef struct dfx_error {
    uint32_t   struct_size;
    dfx_status status;
    uint32_t   source;                   /* 0 = engine, else number of the plugin at fault   */
    uint32_t   message_len;              /* bytes, without the final NUL                     */
    char       message[496];             /* UTF-8, NUL-terminated, truncated to fit          */
} dfx_error;
DFX_STATIC_ASSERT(error_is_512_bytes, sizeof(dfx_error) == 512);

typedef uint32_t dfx_dtype;              /* open set: reject what you do not know            */
#define DFX_F32  1u
#define DFX_F16  2u
#define DFX_BF16 3u
#define DFX_I32  4u
#define DFX_I64  5u
#define DFX_U8   6u
#define DFX_F64  7u
#define DFX_BOOL 8u

#define DFX_MAX_RANK 8
typedef struct dfx_desc {                /* frozen: never grows, may live in arrays          */
    dfx_dtype dtype;
    uint32_t  rank;
    int64_t   dims[DFX_MAX_RANK];        /* outermost first; row-major                       */
} dfx_desc;
DFX_STATIC_ASSERT(desc_is_72_bytes, sizeof(dfx_desc) == 72);

#endif /* DFX_BASE_TYPES */

#ifdef __cplusplus
extern "C" {
#endif

#define DFX_PLUGIN_MAGIC     0x50584644u /* "DFXP" */
#define DFX_PLUGIN_ABI_MAJOR 0
#define DFX_PLUGIN_ABI_MINOR 1
/* Layout: 32-bit FNV-1a (start 0x811c9dc5, prime 0x01000193) over one line "struct.field:offset:size\n" per field
 * ("dfx_error.struct_size:0:4\n" is the first), decimal, for every struct of this header, base block included, in
 * the order of the header, as laid out on a 64-bit target. The constant is the same on every target. */
#define DFX_PLUGIN_LAYOUT    0x9d7bcb54u

/* ------------------------------------------------------------------ graph */

typedef struct dfx_graph dfx_graph;      /* valid during one build call                      */
typedef uint32_t dfx_node;               /* 0 is the error node                              */
typedef uint32_t dfx_op;                 /* open set                                         */
typedef uint32_t dfx_denoiser;           /* 0 = the outermost one                            */

/* Attribute keys: kind, meaning. */
#define DFX_ATTR_AXIS         1u    /* int: one axis; negative counts from the end */
#define DFX_ATTR_AXES         2u    /* ints: several axes; absent = all */
#define DFX_ATTR_KEEPDIMS     3u    /* int: 1 keeps reduced axes with length 1 */
#define DFX_ATTR_SHAPE        4u    /* ints: result shape */
#define DFX_ATTR_PERM         5u    /* ints: permutation of axes */
#define DFX_ATTR_START        6u    /* ints: first index per axis */
#define DFX_ATTR_STOP         7u    /* ints: one past the last index per axis */
#define DFX_ATTR_STEP         8u    /* ints: stride per axis, at least 1; absent = 1 */
#define DFX_ATTR_EPS          9u    /* float: added to the variance */
#define DFX_ATTR_GROUPS       10u   /* int: channel groups; default 1 */
#define DFX_ATTR_STRIDE       11u   /* ints: per spatial axis; default 1 */
#define DFX_ATTR_PADDING      12u   /* ints: zeros per spatial axis: [lo, hi] pairs, or one number per axis
                                     * for both sides */
#define DFX_ATTR_DILATION     13u   /* ints: per spatial axis; default 1 */
#define DFX_ATTR_TRANS_A      14u   /* int: 1 = use the first operand with its last two axes swapped */
#define DFX_ATTR_TRANS_B      15u   /* int: 1 = use the second operand with its last two axes swapped */
#define DFX_ATTR_ACT          16u   /* int: 0 none, else the code of a unary op (relu, silu, gelu,
                                     * gelu_tanh, sigmoid, tanh) */
#define DFX_ATTR_NU           17u   /* float: order of the Bessel function, above -1 */
#define DFX_ATTR_DTYPE        18u   /* int: element type code; 0 = the graph's float type */
#define DFX_ATTR_VALUE        19u   /* float: fill value */
#define DFX_ATTR_K            20u   /* int: how many */
#define DFX_ATTR_CAUSAL       21u   /* int: 1 = position i attends to positions up to i (aligned at the
                                     * end) */
#define DFX_ATTR_SCALE        22u   /* float: score scale; default 1/sqrt(head dim) */
#define DFX_ATTR_DESCENDING   23u   /* int: 1 = largest first */
#define DFX_ATTR_REVERSE      24u   /* int: 1 = from the end */
#define DFX_ATTR_EXCLUSIVE    25u   /* int: 1 = without the element itself */
#define DFX_ATTR_LO           26u   /* ints: elements added before, per axis */
#define DFX_ATTR_HI           27u   /* ints: elements added after, per axis */
#define DFX_ATTR_PURPOSE      28u   /* int: RNG purpose, 0..255 (DFX_PURPOSE_*) */
#define DFX_ATTR_RANGE_LO     30u   /* float: start of the Brownian interval */
#define DFX_ATTR_RANGE_HI     31u   /* float: end of the Brownian interval */
#define DFX_ATTR_DEPTH        32u   /* int: levels of bisection, 1..31; default 24 */
#define DFX_ATTR_ORDER        33u   /* int: order of the polygamma function, from 0 */
#define DFX_ATTR_SIZES        35u   /* ints: extent per axis */

/* Ops: inputs, attributes, meaning. A changed meaning gets a new code. */
#define DFX_OP_FULL               4u    /* 0 in; value [shape] [dtype]: every element is `value`; scalar
                                         * unless `shape` is given */
#define DFX_OP_IOTA               5u    /* 0 in; shape axis [dtype]: element = its index along `axis` */
#define DFX_OP_NEG                10u   /* 1 in: -x */
#define DFX_OP_ABS                11u   /* 1 in: |x|, gradient sign(x) */
#define DFX_OP_SIGN               12u   /* 1 in: -1, 0 or 1 */
#define DFX_OP_RECIP              13u   /* 1 in: 1/x */
#define DFX_OP_SQUARE             14u   /* 1 in: x*x */
#define DFX_OP_SQRT               15u   /* 1 in: square root; gradient at 0 is 0, so that a clamped root
                                         * trains */
#define DFX_OP_RSQRT              16u   /* 1 in: 1/sqrt(x) */
#define DFX_OP_EXP                17u   /* 1 in: e^x */
#define DFX_OP_EXPM1              18u   /* 1 in: e^x - 1 without cancellation */
#define DFX_OP_LOG                19u   /* 1 in: natural logarithm */
#define DFX_OP_LOG1P              20u   /* 1 in: log(1 + x) without cancellation */
#define DFX_OP_SIN                21u   /* 1 in: sine */
#define DFX_OP_COS                22u   /* 1 in: cosine */
#define DFX_OP_TANH               23u   /* 1 in: hyperbolic tangent */
#define DFX_OP_SIGMOID            24u   /* 1 in: 1/(1 + e^-x) */
#define DFX_OP_SILU               25u   /* 1 in: x sigmoid(x) */
#define DFX_OP_GELU               26u   /* 1 in: x Phi(x) by erf */
#define DFX_OP_GELU_TANH          27u   /* 1 in: the tanh approximation of gelu */
#define DFX_OP_RELU               28u   /* 1 in: max(x, 0), gradient 0 at 0 */
#define DFX_OP_SOFTPLUS           29u   /* 1 in: log(1 + e^x) */
#define DFX_OP_ERF                30u   /* 1 in: error function */
#define DFX_OP_FLOOR              31u   /* 1 in: round down; gradient 0 */
#define DFX_OP_CEIL               32u   /* 1 in: round up; gradient 0 */
#define DFX_OP_ROUND              33u   /* 1 in: to nearest, ties to even; gradient 0 */
#define DFX_OP_NOT                34u   /* 1 in: of bool */
#define DFX_OP_IS_FINITE          35u   /* 1 in: bool: neither infinite nor NaN */
#define DFX_OP_CAST               36u   /* 1 in; dtype: to another element type; float to int truncates and
                                         * saturates, NaN to 0; to bool is != 0 */
#define DFX_OP_STOP_GRADIENT      37u   /* 1 in: the value, with no gradient through it */
#define DFX_OP_LGAMMA             38u   /* 1 in: log |Gamma(x)| */
#define DFX_OP_POLYGAMMA          39u   /* 1 in; [order]: (order+1)-th derivative of lgamma, x > 0; order 0
                                         * is digamma */
#define DFX_OP_LOG_NDTR           40u   /* 1 in: log of the standard normal CDF, stable far into the left
                                         * tail */
#define DFX_OP_BESSEL_RATIO       41u   /* 1 in; nu: R_nu(z) = I_{nu+1}(z)/I_nu(z), z >= 0 (specs processes
                                         * 1.2) */
#define DFX_OP_LOG_IVE            42u   /* 1 in; nu: log(e^-z I_nu(z)), z >= 0 */
#define DFX_OP_ADD                50u   /* 2 in: a + b */
#define DFX_OP_SUB                51u   /* 2 in: a - b */
#define DFX_OP_MUL                52u   /* 2 in: a b */
#define DFX_OP_DIV                53u   /* 2 in: a / b; of integers truncates, by zero gives 0 */
#define DFX_OP_POW                54u   /* 2 in: a^b; gradient by b only where a > 0 */
#define DFX_OP_MIN                55u   /* 2 in: smaller; NaN if either is; ties send half the gradient to
                                         * each */
#define DFX_OP_MAX                56u   /* 2 in: larger; NaN if either is; ties send half the gradient to
                                         * each */
#define DFX_OP_REM                57u   /* 2 in: remainder with the sign of the divisor; of integers by
                                         * zero gives 0 */
#define DFX_OP_EQ                 60u   /* 2 in: bool a == b */
#define DFX_OP_NE                 61u   /* 2 in: bool a != b */
#define DFX_OP_LT                 62u   /* 2 in: bool a < b */
#define DFX_OP_LE                 63u   /* 2 in: bool a <= b */
#define DFX_OP_GT                 64u   /* 2 in: bool a > b */
#define DFX_OP_GE                 65u   /* 2 in: bool a >= b */
#define DFX_OP_AND                66u   /* 2 in: of bools */
#define DFX_OP_OR                 67u   /* 2 in: of bools */
#define DFX_OP_WHERE              70u   /* 3 in: condition (bool) ? a : b; the branch not taken gets
                                         * gradient exactly 0 */
#define DFX_OP_SUM                80u   /* 1 in; [axes] [keepdims]: over axes */
#define DFX_OP_MEAN               81u   /* 1 in; [axes] [keepdims]: over axes */
#define DFX_OP_REDUCE_MAX         82u   /* 1 in; [axes] [keepdims]: over axes; ties share the gradient
                                         * evenly */
#define DFX_OP_REDUCE_MIN         83u   /* 1 in; [axes] [keepdims]: over axes; ties share the gradient
                                         * evenly */
#define DFX_OP_PROD               84u   /* 1 in; [axes] [keepdims]: over axes; gradient right with zeros
                                         * too */
#define DFX_OP_ARGMAX             85u   /* 1 in; axis [keepdims]: i32 index of the first largest */
#define DFX_OP_ARGMIN             86u   /* 1 in; axis [keepdims]: i32 index of the first smallest */
#define DFX_OP_LOGSUMEXP          87u   /* 1 in; [axes] [keepdims]: log sum exp over axes; -inf for a row
                                         * of -inf */
#define DFX_OP_CUMSUM             88u   /* 1 in; axis [reverse] [exclusive]: running sum */
#define DFX_OP_SOFTMAX            95u   /* 1 in; axis: e^x normalised along the axis; a row of -inf gives
                                         * zeros */
#define DFX_OP_LOG_SOFTMAX        96u   /* 1 in; axis: log of softmax */
#define DFX_OP_MATMUL             100u  /* 2-3 in; [trans_a] [trans_b] [act]: a[..,m,k] b[..,k,n] (+
                                         * bias[n]), then `act`; leading axes broadcast; b and bias may be
                                         * f16 or bf16, accumulation in a's type */
#define DFX_OP_CONV               101u  /* 2-3 in; [stride] [padding] [dilation] [groups]: x[n,c,l] or
                                         * [n,c,h,w] with w[o,c/groups,k..] (+ bias[o]) */
#define DFX_OP_CONV_INPUT_GRAD    102u  /* 2 in; shape [stride] [padding] [dilation] [groups]: (g, w):
                                         * gradient of conv by its input of `shape`; also the transposed
                                         * convolution */
#define DFX_OP_CONV_WEIGHT_GRAD   103u  /* 2 in; shape [stride] [padding] [dilation] [groups]: (x, g):
                                         * gradient of conv by its weight of `shape` */
#define DFX_OP_ATTENTION          104u  /* 3-4 in; [causal] [scale]: softmax(q k^T scale + mask) v;
                                         * q[..,s,d] k[..,t,d] v[..,t,e]; mask broadcasts to [..,s,t]: bool
                                         * (true = attend) or additive float; a row that attends to nothing
                                         * gives zeros */
#define DFX_OP_LAYER_NORM         110u  /* 1-3 in; eps: over the last axis, biased variance; optional scale
                                         * and bias of that length */
#define DFX_OP_GROUP_NORM         111u  /* 1-3 in; eps groups: x[n,c,..] over each group of channels and
                                         * all positions; optional scale[c] and bias[c] */
#define DFX_OP_RMS_NORM           112u  /* 1-2 in; eps: x / sqrt(mean x^2 + eps) over the last axis;
                                         * optional scale */
#define DFX_OP_GATHER             120u  /* 2 in; axis: (x, idx): slices of x at idx along the axis; result
                                         * x[..axis] ++ idx.shape ++ x[axis+1..] */
#define DFX_OP_SCATTER_ADD        121u  /* 3 in; axis: (x, idx, u): x with u added at idx along the axis,
                                         * in index order; the transpose of gather */
#define DFX_OP_TAKE_ALONG         122u  /* 2 in; axis: (x, idx): element-wise lookup along the axis; idx
                                         * has x's shape except on the axis */
#define DFX_OP_SCATTER_ADD_ALONG  123u  /* 3 in; axis: (x, idx, u): the transpose of take_along, added to x */
#define DFX_OP_SORT               124u  /* 1 in; axis [descending]: stable; NaN last */
#define DFX_OP_ARGSORT            125u  /* 1 in; axis [descending]: i32 indices of the stable sort */
#define DFX_OP_TOP_K              126u  /* 1 in; axis k: i32 indices of the k largest, largest first, ties
                                         * by position; values by take_along */
#define DFX_OP_DYNAMIC_SLICE      127u  /* 2 in; sizes: (x, start i32[rank]): a block of `sizes`; start is
                                         * clamped so that the block fits */
#define DFX_OP_DYNAMIC_UPDATE     128u  /* 3 in: (x, u, start i32[rank]): x with the block u written at
                                         * start, clamped so that it fits */
#define DFX_OP_RESHAPE            140u  /* 1 in; shape: same elements, new shape; one dimension may be -1 */
#define DFX_OP_TRANSPOSE          141u  /* 1 in; perm: permute the axes */
#define DFX_OP_BROADCAST_TO       142u  /* 1 in; shape: repeat axes of length 1 */
#define DFX_OP_SLICE              143u  /* 1 in; start stop [step]: a strided block; negative bounds count
                                         * from the end, bounds are clamped */
#define DFX_OP_PAD                144u  /* 1 in; lo hi [value]: constant border, 0 unless `value` */
#define DFX_OP_CONCAT             145u  /* 1-64 in; axis: one after another along the axis */
#define DFX_OP_FLIP               146u  /* 1 in; axes: reverse axes */
#define DFX_OP_NORMAL             160u  /* 0 in; shape purpose [dtype]: standard normal draws */
#define DFX_OP_UNIFORM            161u  /* 0 in; shape purpose [dtype]: uniform draws in (0,1) */
#define DFX_OP_GAMMA              162u  /* 1 in; purpose: (shape parameter): Gamma(a, scale 1) draws; a = 0
                                         * gives 0 */
#define DFX_OP_POISSON            163u  /* 1 in; purpose: (mean): Poisson draws as floats */
#define DFX_OP_CATEGORICAL        164u  /* 1 in; purpose: (logits [batch,..,k]): i32 draws [batch,..], by
                                         * inverse CDF in f64; a row of -inf, or with a NaN,
                                         * gives 0 */
#define DFX_OP_BROWNIAN           165u  /* 2 in; shape purpose range_lo range_hi [dtype] [depth]:
                                         * (s0[batch], s1[batch]): W(s1) - W(s0) of one Brownian motion per
                                         * element, consistent under bisection and independent of when it
                                         * is asked; W is per (purpose, ordinal), not per step */
#define DFX_OP_GRAD               180u  /* 3-65 in: (y, cotangent, xs..): gradients of <y, cotangent> by
                                         * each x; emitted as ordinary ops */
#define DFX_OP_JVP                181u  /* 3-65 in: (y, xs.., tangents..): directional derivative of y; each
                                         * x moves along its own tangent, also where it was made from
                                         * another x */

typedef struct dfx_attr {                /* frozen */
    uint32_t    key;                     /* DFX_ATTR_*                                       */
    uint32_t    count;                   /* 0: scalar in i or f; else int64_t elements at p  */
    int64_t     i;
    double      f;
    const void *p;
    const void *reserved;
} dfx_attr;

typedef struct dfx_call {                /* one op application                               */
    uint32_t        struct_size;
    dfx_op          op;
    const dfx_node *in;
    const dfx_attr *attr;
    dfx_node       *out;                 /* results of DFX_OP_GRAD, one per x; else NULL     */
    const void     *reserved_ptr;
    uint32_t        n_in;
    uint32_t        n_attr;
    uint32_t        n_out;
    uint32_t        reserved;
} dfx_call;

/* How a weight starts when it is trained from nothing. */
#define DFX_INIT_ZEROS    0u
#define DFX_INIT_ONES     1u
#define DFX_INIT_CONSTANT 2u             /* a                                                */
#define DFX_INIT_NORMAL   3u             /* standard deviation a                             */
#define DFX_INIT_UNIFORM  4u             /* between -a and a                                 */
typedef struct dfx_init {                /* frozen */
    uint32_t kind;
    uint32_t reserved;
    double   a;
} dfx_init;

/* Purposes of random draws: the generator's address space (see DFX_ATTR_PURPOSE). */
#define DFX_PURPOSE_PRIOR    1u
#define DFX_PURPOSE_STEP     2u
#define DFX_PURPOSE_LEVEL    3u          /* noise levels of training                         */
#define DFX_PURPOSE_DATA     4u          /* noise of training                                */
#define DFX_PURPOSE_INIT     5u          /* weights                                          */
#define DFX_PURPOSE_MODEL    6u          /* dropout and the like                             */
#define DFX_PURPOSE_GUIDANCE 7u
#define DFX_PURPOSE_FINISH   8u
#define DFX_PURPOSE_SIMULATE 9u
#define DFX_PURPOSE_SCORE   10u          /* directions of a divergence                       */
#define DFX_PURPOSE_USER    64u          /* 64..255 are yours                                */

/* Errors are sticky: a bad call returns node 0, every op on node 0 returns 0, and
 * the first failure (op, shapes, scope path) is reported when the build returns. */
typedef struct dfx_graph_api {
    uint32_t struct_size;
    uint32_t reserved;
    dfx_node   (DFX_CALL *emit)(dfx_graph *g, const dfx_call *call);
    /* A parameter of the network being built; want.dtype 0 = the network's type. init may be NULL (zeros). */
    dfx_node   (DFX_CALL *weight)(dfx_graph *g, const char *name, const dfx_desc *want, const dfx_init *init);
    dfx_node   (DFX_CALL *constant)(dfx_graph *g, const dfx_desc *desc, const void *data);
    dfx_node   (DFX_CALL *scalar)(dfx_graph *g, double value);    /* rank 0; adapts to its neighbour's type */
    dfx_status (DFX_CALL *describe)(dfx_graph *g, dfx_node n, dfx_desc *out);
    int32_t    (DFX_CALL *supports)(dfx_graph *g, dfx_op op, dfx_dtype dtype);
    int64_t    (DFX_CALL *batch)(dfx_graph *g);
    dfx_dtype  (DFX_CALL *float_type)(dfx_graph *g);               /* of state and coefficients: F32 or F64 */
    void       (DFX_CALL *push)(dfx_graph *g, const char *scope);
    void       (DFX_CALL *pop)(dfx_graph *g);
    void       (DFX_CALL *fail)(dfx_graph *g, dfx_status status, const char *message);
    const void *reserved_ptr;
} dfx_graph_api;

/* ---------------------------------------------------------------- values */

#define DFX_SPACE_CONTINUOUS 0u
#define DFX_SPACE_DISCRETE   1u          /* i32 tokens                                       */

typedef struct dfx_component {           /* frozen: one part of the state                    */
    dfx_desc    desc;                    /* one sample, without the batch axis; dims < 0 free;
                                          * dtype 0 = float_type                             */
    uint32_t    space;                   /* DFX_SPACE_*                                      */
    uint32_t    classes;                 /* discrete: size of the vocabulary, mask included  */
    const char *name;
    const void *reserved;
} dfx_component;

typedef struct dfx_cond {                /* frozen: one named condition of a model           */
    dfx_desc    desc;                    /* one sample, without the batch axis; dtype 0 = float_type */
    double      null_value;              /* every element of the null condition              */
    const char *name;
    const void *reserved;
} dfx_cond;

typedef struct dfx_slot {                /* frozen: a per-sample tensor that lives across steps */
    dfx_desc    desc;                    /* one sample; dtype 0 = float_type; rank is ignored when like > 0 */
    double      init;                    /* every element before the first step              */
    uint32_t    like;                    /* c + 1: shaped and typed as component c           */
    uint32_t    reserved;
    const char *name;
    const void *reserved_ptr;
} dfx_slot;

typedef struct dfx_stats {               /* frozen: the data, per component                  */
    double x_mean, x_var;                /* of the data                                      */
    double w_mean, w_var;                /* of the data in the process's coordinate          */
} dfx_stats;

/* One evaluation of a denoiser: n_components nodes in x and sigma, n_conds in cond. */
typedef struct dfx_eval {                /* frozen, because it lives in arrays               */
    uint32_t        struct_size;         /* always sizeof(dfx_eval)                          */
    uint32_t        phase;               /* which form of the model (0; prefill, block, ...) */
    const dfx_node *x;
    const dfx_node *sigma;               /* scalar, [batch] or shaped                        */
    const dfx_node *cond;                /* NULL = the conditions of the job                 */
    const void     *reserved;
} dfx_eval;

/* --------------------------------------------------- services while building */

/* Functions of a process, for dfx_build_api.process: see dfx_process_api. */
#define DFX_PROCESS_ENCODE          1u
#define DFX_PROCESS_DECODE          2u
#define DFX_PROCESS_PERTURB         3u
#define DFX_PROCESS_PRIOR           4u
#define DFX_PROCESS_PRECOND         5u
#define DFX_PROCESS_RENOISE         6u
#define DFX_PROCESS_ANCESTRAL       7u
#define DFX_PROCESS_TO_SCORE        8u
#define DFX_PROCESS_LOG_TRANSITION  9u
#define DFX_PROCESS_LOSS_WEIGHT    10u
#define DFX_PROCESS_POSTERIOR      11u
#define DFX_PROCESS_SDE            12u

typedef struct dfx_model_io dfx_model_io;

/* What samplers, guidance and objectives may ask of the pipeline they are built into. */
typedef struct dfx_build_api {
    uint32_t struct_size;
    uint32_t reserved;
    /* Several evaluations as one batch, so that weights are read once; out: n_evals * n_components nodes.
     * May be called several times while one step is built. */
    dfx_status (DFX_CALL *denoise)(dfx_graph *g, dfx_denoiser d, const dfx_eval *evals, uint32_t n_evals, dfx_node *out);
    /* The preconditioned, unguided denoiser of a network slot ("base", "ref", "old", "ema", "h", ...). A failure is
     * sticky. The other services return theirs: a build that does without the results, which are node 0, goes on. */
    dfx_denoiser (DFX_CALL *denoiser_of)(dfx_graph *g, const char *slot);
    /* The network of a slot itself, without preconditioning: fills io->out. */
    dfx_status (DFX_CALL *network)(dfx_graph *g, const char *slot, dfx_model_io *io);
    /* A function of the process of a component; purpose addresses its draws. */
    dfx_status (DFX_CALL *process)(dfx_graph *g, uint32_t component, uint32_t function, uint32_t purpose,
                                   const dfx_node *in, uint32_t n_in, dfx_node *out, uint32_t n_out);
    uint32_t   (DFX_CALL *components)(dfx_graph *g);
    dfx_status (DFX_CALL *component)(dfx_graph *g, uint32_t i, dfx_component *out);
    dfx_status (DFX_CALL *stats)(dfx_graph *g, uint32_t component, dfx_stats *out);
    /* Conditions: the job's value and the null value, [batch, ...]. */
    uint32_t   (DFX_CALL *conds)(dfx_graph *g);
    dfx_status (DFX_CALL *cond)(dfx_graph *g, uint32_t i, dfx_node *value, dfx_node *null_value);
    /* Position of a condition by name, or -1. */
    int32_t    (DFX_CALL *cond_index)(dfx_graph *g, const char *name);
} dfx_build_api;

/* ------------------------------------------------------------------- host */

typedef struct dfx_host dfx_host;
struct dfx_host {                        /* outlives every instance created with it          */
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    void    *ctx;
    const dfx_graph_api *graph;
    const dfx_build_api *build;
    void       *(DFX_CALL *alloc)(const dfx_host *h, size_t size, size_t align);              /* [any-thread] */
    void        (DFX_CALL *free)(const dfx_host *h, void *p, size_t size, size_t align);      /* [any-thread] */
    /* level: 0 error, 1 warning, 2 information, 3 debugging */
    void        (DFX_CALL *log)(const dfx_host *h, int32_t level, const char *message);       /* [any-thread] */
    const void *(DFX_CALL *extension)(const dfx_host *h, const char *id);  /* "org.x.name/1", NULL if unknown */
    const void *reserved;
};

/* -------------------------------------------------------------- interfaces
 * Tables belong to the plugin and live forever. `self` is what create returned.
 * All functions are called while building, never while sampling. [exclusive]
 * A NULL function means the instance cannot do that; required ones are marked (r). */

#define DFX_KIND_MODEL     1u            /* network: (state, sigma, conds) -> prediction     */
#define DFX_KIND_PROCESS   2u            /* noise process: coordinate, perturbation, prior   */
#define DFX_KIND_GUIDANCE  3u            /* denoiser -> denoiser, and constraints            */
#define DFX_KIND_SAMPLER   4u            /* the step                                         */
#define DFX_KIND_GRID      5u            /* the knots of the noise level                     */
#define DFX_KIND_OBJECTIVE 6u            /* a loss                                           */

/* ---- model */

#define DFX_PREDICTS_RESIDUAL 0u         /* F in D = c_skip w + c_out F(c_in w, c_noise)     */
#define DFX_PREDICTS_DENOISED 1u         /* D of (w, ln(sigma)/4), nothing applied           */
#define DFX_PREDICTS_NOISE    2u         /* (w - D) / sigma                                  */
#define DFX_PREDICTS_VELOCITY 3u         /* flow matching: eps - x0, of ((1-t) w, t), t = sigma/(1+sigma) */
#define DFX_PREDICTS_SCORE    4u         /* (D - w) / sigma^2                                */
#define DFX_PREDICTS_LOGITS   5u         /* discrete: [batch, ..., classes]                  */
#define DFX_PREDICTS_VALUE    6u         /* anything else (h, reward, value): used through network only */
#define DFX_PREDICTS_V        7u         /* variance preserving: v = a eps - s x0 of (a w, ln(sigma)/4), a = 1/sqrt(1+sigma^2), s = a sigma */

typedef struct dfx_model_info {
    uint32_t struct_size;
    uint32_t predicts;                   /* DFX_PREDICTS_*, of the continuous components     */
    uint32_t n_components;
    uint32_t n_conds;
    uint32_t n_slots;                    /* caches                                           */
    uint32_t reserved;
    const dfx_component *components;     /* owned by the instance, as are the next two       */
    const dfx_cond      *conds;
    const dfx_slot      *slots;
    const void          *reserved_ptr;
} dfx_model_info;

struct dfx_model_io {
    uint32_t struct_size;
    uint32_t phase;                      /* from dfx_eval                                    */
    uint32_t n_components;
    uint32_t n_conds;
    uint32_t n_slots;
    uint32_t n_out;                      /* usually n_components                             */
    const dfx_node *x;                   /* [rows, ...]; rows may be a multiple of the batch */
    const dfx_node *sigma;               /* noise embedding input, [rows] per component      */
    const dfx_node *cond;
    const dfx_node *slot;                /* persistent values in ...                         */
    dfx_node       *slot_out;            /* ... and out (preset to the same nodes)           */
    dfx_node       *out;
};

typedef struct dfx_model_api {
    uint32_t struct_size;
    uint32_t reserved;
    dfx_status (DFX_CALL *info)(const void *self, dfx_model_info *out, dfx_error *err);                /* (r) */
    dfx_status (DFX_CALL *build)(const void *self, dfx_graph *g, dfx_model_io *io, dfx_error *err);    /* (r) */
} dfx_model_api;

/* ---- process */

typedef struct dfx_process_info {
    uint32_t struct_size;
    uint32_t space;                      /* DFX_SPACE_*                                      */
    uint32_t flags;                      /* DFX_PROCESS_IS_*                                 */
    uint32_t reserved;
    double   sigma_min;                  /* default range of the grid for data of these stats; */
    double   sigma_max;                  /* discrete: times in (0, 1]                        */
} dfx_process_info;
#define DFX_PROCESS_IS_POSITIVE 1u       /* data must be > 0; without ADDITIVE w >= 0 too,
                                         * and the core keeps it so: D is raised to 0 where
                                         * a sampler asks for it, the next state to 1e-9    */
#define DFX_PROCESS_IS_ADDITIVE 2u       /* ancestral is mu + sqrt(v) xi                     */
#define DFX_PROCESS_IS_HOMOGENEOUS 4u    /* only the time between two moments matters, so simulation may decode at
                                          * each moment and start the clock anew: for clocks that grow like e^t */

typedef struct dfx_process_io {
    uint32_t struct_size;
    uint32_t purpose;                    /* for DFX_ATTR_PURPOSE of every draw               */
    uint32_t n_in;
    uint32_t n_out;
    const dfx_node      *in;
    dfx_node            *out;
    const dfx_stats     *stats;
    const dfx_component *component;
} dfx_process_io;

typedef dfx_status (DFX_CALL *dfx_process_fn)(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err);

/* What data says about the settings of a process. */
#define DFX_FIT_ORDERED 1u               /* the values follow each other, one unit of time apart */

typedef struct dfx_fitted {              /* frozen, because it lives in arrays               */
    const char *key;                     /* of the config; constant                          */
    double      value;
    uint32_t    group;                   /* 0: set alone; else all of a group, or none where the user gave one of it */
    uint32_t    reserved;
} dfx_fitted;

typedef struct dfx_fit {
    uint32_t      struct_size;
    uint32_t      flags;                 /* DFX_FIT_*                                        */
    uint64_t      n_values;
    const double *values;                /* finite                                           */
    dfx_fitted   *out;
    uint32_t      n_out;                 /* in: room; out: how many                          */
    uint32_t      reserved;
} dfx_fit;

typedef struct dfx_process_api {
    uint32_t struct_size;
    uint32_t reserved;
    dfx_status (DFX_CALL *info)(const void *self, const dfx_stats *stats, dfx_process_info *out, dfx_error *err); /* (r) */
    /* Host arithmetic: noise levels at natural times, for exact simulation. */
    dfx_status (DFX_CALL *clock)(const void *self, const double *times, uint32_t n, double *sigmas, dfx_error *err);
    /* in -> out; sigma, v and the outputs of precond are shaped.                continuous            */
    dfx_process_fn encode;               /* (x) -> (w)                                    (r)           */
    dfx_process_fn decode;               /* (w, sigma) -> (x)                             (r)           */
    dfx_process_fn perturb;              /* (w0, sigma) -> (w, target): exact             (r)           */
    dfx_process_fn prior;                /* (sigma) -> (w); shape from io->component      (r)           */
    dfx_process_fn precond;              /* (sigma) -> (c_skip, c_out, c_in, c_noise, loss weight) (r)  */
    dfx_process_fn renoise;              /* (w, sigma, sigma_hat > sigma) -> (w): exact                 */
    dfx_process_fn ancestral;            /* (mu, v) -> (w): one draw about mu with variance v           */
    dfx_process_fn to_score;             /* (w, D, sigma) -> (d/dw log density of w)                    */
    dfx_process_fn log_transition;       /* (w, w0, sigma) -> (log density, per element)                */
    /* discrete: tokens i32; t, s in [0, 1] are shaped                                                  */
    dfx_process_fn loss_weight;          /* (t) -> (weight of the cross entropy)                        */
    dfx_process_fn posterior;            /* (z, logits, t, s) -> (logits of the token at s)             */
    /* A discrete process uses perturb as (x0, t) -> (z, 1 where corrupted), prior as (t) -> (z) and    */
    /* to_score as (z, logits, t) -> (log p_t(y)/p_t(z) of each class y, the other tokens as they are). */
    /* continuous, in the data itself and natural time: dX = drift dt + diffusion dW, for Euler paths   */
    dfx_process_fn sde;                  /* (x, t) -> (drift, diffusion): like x, or scalar; x >= 0 if positive */
    /* Host arithmetic: settings that a trainer takes from the data where the user left them open. */
    dfx_status (DFX_CALL *fit)(const void *self, dfx_fit *io, dfx_error *err);
} dfx_process_api;

/* ---- guidance */

#define DFX_STAGE_CONDITION 10u          /* combines conditions (classifier-free)            */
#define DFX_STAGE_RESCALE   20u          /* rescale, threshold                               */
#define DFX_STAGE_SCORE     30u          /* adds to the score (classifier, Doob, DPS)        */
#define DFX_STAGE_STATE     40u          /* acts on the state (projection, replacement)      */
#define DFX_STAGE_PARTICLE  50u          /* resampling                                       */

typedef struct dfx_guidance_info {
    uint32_t struct_size;
    uint32_t stage;                      /* lower stages wrap first                          */
    uint32_t n_slots;
    uint32_t n_networks;
    uint32_t group;                      /* particles that interact, 1 = none                */
    uint32_t redraws;                    /* how often the last rows run again for samples that finish finds
                                          * outside of feasible; at most 1023, 0 = never; not with groups */
    double   exact_for;                  /* stochasticity it is exact for: 0 ODE, 1 SDE, -1 any */
    const dfx_slot    *slots;
    const char *const *networks;         /* network slots it needs ("h")                     */
    double   redraw_share;               /* which share of the rows that is, counted from the last; the whole run from
                                          * a new prior if 1, under a sampler without noise, and for the second half
                                          * of the redraws */
} dfx_guidance_info;

typedef struct dfx_wrap_io {
    uint32_t struct_size;
    dfx_denoiser inner;
    uint32_t n_evals;
    uint32_t n_components;
    const dfx_eval *evals;
    dfx_node       *out;                 /* n_evals * n_components                           */
    const dfx_node *slot;
    dfx_node       *slot_out;            /* preset to slot                                   */
    uint32_t        variant;             /* what variant said of the rows of this step; else 0 */
    uint32_t        reserved;
} dfx_wrap_io;

/* Used by start, project, permute and finish; out arrays are preset so that a hook may leave them.
 * log_weight is added to the sample's running log weight. After permute the core moves everything each particle
 * owns - state, slots (as slot_out leaves them), caches, running weight - from the parents, then adds. */
typedef struct dfx_guide_io {
    uint32_t struct_size;
    dfx_denoiser inner;
    uint32_t n_components;
    uint32_t n_slots;
    const dfx_node *x;                   /* state (w); finish: decoded sample                */
    const dfx_node *sigma;               /* shaped                                           */
    dfx_node       *out;                 /* new state                                        */
    const dfx_node *slot;
    dfx_node       *slot_out;
    dfx_node       *index;               /* permute: i32[batch], each row's parent within its group */
    dfx_node       *feasible;            /* finish: bool[batch]                              */
    dfx_node       *log_weight;          /* start, permute, finish: float[batch]             */
} dfx_guide_io;

typedef dfx_status (DFX_CALL *dfx_guide_fn)(const void *self, dfx_graph *g, dfx_guide_io *io, dfx_error *err);

typedef struct dfx_guidance_api {
    uint32_t struct_size;
    uint32_t reserved;
    dfx_status (DFX_CALL *info)(const void *self, dfx_guidance_info *out, dfx_error *err);             /* (r) */
    dfx_status (DFX_CALL *wrap)(const void *self, dfx_graph *g, dfx_wrap_io *io, dfx_error *err);
    dfx_guide_fn start;                  /* tilts the initial law, after the prior; where a run sets out from data
                                          * of the job, prior draws these, noised            */
    dfx_guide_fn project;                /* after each step                                  */
    dfx_guide_fn permute;                /* after project, before the next step              */
    dfx_guide_fn finish;                 /* once, on decoded samples                         */
    /* Host arithmetic: the form of wrap, below 64, for a row that asks for D at levels from lowest[c] to highest[c] of
     * each component; 0 where it is not asked (samplers with control) must be right at every level. Each form in use
     * is a graph of its own, so one that skips an evaluation saves it. NULL = always 0. */
    dfx_status (DFX_CALL *variant)(const void *self, const double *lowest, const double *highest,
                                   uint32_t n_components, uint32_t *out, dfx_error *err);
} dfx_guidance_api;

/* ---- sampler */

#define DFX_CONTROL_ADVANCE 0            /* this sample goes on to its next row              */
#define DFX_CONTROL_STAY    1            /* it repeats its row                               */
#define DFX_CONTROL_DONE    2            /* it has arrived; its state is frozen              */

typedef struct dfx_sampler_info {
    uint32_t struct_size;
    uint32_t n_coeff;                    /* columns of a row; see DFX_SAMPLER_PER_COMPONENT  */
    uint32_t n_variants;                 /* forms of the step, at least 1                    */
    uint32_t n_slots;
    uint32_t flags;                      /* DFX_SAMPLER_*                                    */
    uint32_t reserved;
    double   stochasticity;              /* 0 ODE ... 1 reverse SDE                          */
    const dfx_slot *slots;
    const void     *reserved_ptr;
} dfx_sampler_info;
#define DFX_SAMPLER_CONTROL 1u           /* step sets io->control; then coefficients are per sample, [batch],
                                          * from that sample's own row, and all rows have variant 0 */
#define DFX_SAMPLER_PER_COMPONENT 2u     /* a row has n_coeff columns for component 0, then for component 1, ...;
                                          * dfx_plan and dfx_step_io carry the whole number. Slots
                                          * likewise: n_slots for component 0, then for component 1, ...; a slot
                                          * like component 0 is like each in turn */
#define DFX_SAMPLER_ADDITIVE 4u          /* adds Gaussian noise itself: refused where a process is not additive */

/* Host arithmetic in f64. Called once with rows == NULL to set n_rows, then to fill. knots are component-major:
 * knots[c * (n_steps + 1) + k], from the noisiest level (k = 0) down to the last, which may be 0. */
typedef struct dfx_plan {
    uint32_t struct_size;
    uint32_t n_steps;
    uint32_t n_components;
    uint32_t n_coeff;
    uint32_t n_rows;                     /* out on the first call; at most 1 048 576         */
    uint32_t reserved;
    const double *knots;
    double       *rows;                  /* [n_rows, n_coeff]                                */
    uint32_t     *variants;              /* [n_rows]                                         */
    double       *levels;                /* [n_rows, n_components]: noise level after each row; preset: row k
                                          * ends at knot k + 1, rows after the last knot stay there */
    double       *highest;               /* [n_rows, n_components]: highest level the row asks for D at; preset: the
                                          * level before it                                  */
    double       *kernels;               /* [n_rows, n_components, 3]: a, c, v where the step is w' = a w + c D(w, sigma)
                                          * + sqrt(v) z with one standard normal z per element and sigma the level before
                                          * it; preset NaN: it is no such step               */
} dfx_plan;

typedef struct dfx_step_io {
    uint32_t struct_size;
    uint32_t variant;
    uint32_t n_components;
    uint32_t n_coeff;
    uint32_t n_slots;
    uint32_t reserved;
    const dfx_node *x;                   /* state now                                        */
    const dfx_node *coeff;               /* one node per column: scalar, or [batch] with DFX_SAMPLER_CONTROL */
    const dfx_node *slot;
    dfx_node       *slot_out;            /* preset to slot                                   */
    dfx_node       *next;                /* state after the step                             */
    dfx_node       *control;             /* i32[batch], DFX_CONTROL_*; see the flag          */
    dfx_node       *denoised;            /* newest D, for previews; n_components, may stay 0 */
    const void     *reserved_ptr;
} dfx_step_io;

typedef struct dfx_sampler_api {
    uint32_t struct_size;
    uint32_t reserved;
    dfx_status (DFX_CALL *info)(const void *self, dfx_sampler_info *out, dfx_error *err);              /* (r) */
    dfx_status (DFX_CALL *plan)(const void *self, dfx_plan *plan, dfx_error *err);                     /* (r) */
    dfx_status (DFX_CALL *step)(const void *self, dfx_graph *g, dfx_step_io *io, dfx_error *err);      /* (r) */
} dfx_sampler_api;

/* ---- grid */

/* What a pilot run measured: samples of the whole pipeline, by Euler's steps on the grid's own knots. With
 * slope = (w - D) / sigma, bend[k] is the mean over samples of |slope[k + 1] - slope[k]| / (sigma[k] - sigma[k + 1]),
 * the norm over the elements of the component: the second derivative of the path between two levels. */
typedef struct dfx_pilot {
    uint32_t struct_size;
    uint32_t n;
    const double *sigma;                 /* n + 1 levels above 0, descending                 */
    const double *bend;                  /* n                                                */
} dfx_pilot;

typedef struct dfx_grid_api {
    uint32_t struct_size;
    uint32_t pilot_steps;                /* > 0: refine wants a pilot of so many steps, on the knots of knots, and */
    uint32_t pilot_samples;              /* of so many samples, unless the host says otherwise */
    uint32_t reserved;
    /* n + 1 strictly descending knots from sigma_max; the last is 0 or sigma_min. Host arithmetic. */
    dfx_status (DFX_CALL *knots)(const void *self, uint32_t n, double sigma_min, double sigma_max,
                                 double *out, dfx_error *err);                                         /* (r) */
    dfx_status (DFX_CALL *refine)(const void *self, uint32_t n, double sigma_min, double sigma_max,
                                  const dfx_pilot *pilot, double *out, dfx_error *err);
} dfx_grid_api;

/* ---- objective */

#define DFX_RECORD_STATES    1u          /* [rows + 1, batch, ...] per component             */
#define DFX_RECORD_SIGMAS    2u          /* [rows + 1] per component                         */
#define DFX_RECORD_CARRY     4u          /* [rows + 1, batch, ...] per component, in the float type: what sweep
                                          * left at each k                                   */
#define DFX_RECORD_REWARD    8u          /* [batch, n_rewards]                               */
#define DFX_RECORD_REWARD_GRAD 16u       /* [batch, ...] per component: gradient of the reward by the final sample */
#define DFX_RECORD_KERNELS   32u         /* [rows, 3] per component: a, c, v of dfx_plan.kernels; a sampler without them,
                                          * or a guidance around its network, is refused     */

typedef struct dfx_objective_info {
    uint32_t struct_size;
    uint32_t records;                    /* DFX_RECORD_*; 0 = trains on data. DFX_RECORD_REWARD alone, without the slots
                                          * old, ema and ref and without advantage, is for trainers too: reward of
                                          * their examples is the table "reward" of the data, and valid is 1 */
    uint32_t n_networks;
    uint32_t n_metrics;
    uint32_t sweep_backwards;            /* 1: k runs from the last record to the first      */
    uint32_t n_rewards;
    const char *const *networks;         /* slots it needs besides "base"                    */
    const char *const *metrics;
} dfx_objective_info;

typedef struct dfx_loss_io {
    uint32_t struct_size;
    uint32_t n_components;
    uint32_t n_metrics;
    uint32_t reserved;
    const dfx_node *x0;                  /* data [batch, ...], not encoded; or the final samples */
    const dfx_node *states;              /* per component, as DFX_RECORD_STATES              */
    const dfx_node *carry;               /* per component, as DFX_RECORD_CARRY               */
    const dfx_node *reward_grad;         /* per component                                    */
    const dfx_node *sigmas;              /* per component, as DFX_RECORD_SIGMAS              */
    dfx_node       *metrics;             /* out: scalars                                     */
    dfx_node        reward;              /* as DFX_RECORD_REWARD, 0 in rows that are not valid */
    dfx_node        loss;                /* out: scalar                                      */
    const dfx_node *kernels;             /* per component, as DFX_RECORD_KERNELS             */
    dfx_node        valid;               /* [batch] with DFX_RECORD_REWARD: 1, or 0 where the host had no reward for the
                                          * sample; such a row must not count                */
    dfx_node        advantage;           /* [batch]: what advantage made of the whole rollout; 0 without it */
    uint32_t        group;               /* samples per condition; a batch holds whole groups, one after another */
    uint32_t        reserved2;
} dfx_loss_io;

/* Once per rollout, over all of its samples at once, before any update: what the losses of its batches share. No network
 * is asked here. Rows i * group to (i + 1) * group - 1 are the samples of one condition. */
typedef struct dfx_advantage_io {
    uint32_t struct_size;
    uint32_t group;
    uint32_t n_rewards;
    uint32_t reserved;
    dfx_node reward;                     /* [samples, n_rewards], 0 where not valid          */
    dfx_node valid;                      /* [samples], 1 or 0                                */
    dfx_node advantage;                  /* out: float [samples]                             */
    uint32_t reserved2;
} dfx_advantage_io;

/* One record of a stored trajectory. The record a sweep sets out from keeps its first carry, without a call: 0, or if
 * recorded the gradient of the reward by the state there; sweep makes the carry of each further record from the one before. */
typedef struct dfx_sweep_io {
    uint32_t struct_size;
    uint32_t n_components;
    const dfx_node *x;                   /* state at k                                       */
    const dfx_node *x_next;              /* state at the record visited just before          */
    const dfx_node *carry;               /* what the record visited just before was left with */
    dfx_node       *carry_out;
    const dfx_node *sigma;               /* scalars per component at k                       */
    const dfx_node *sigma_next;          /* and at the record visited just before            */
    const dfx_node *kernel;              /* [3] per component with DFX_RECORD_KERNELS: a, c, v of the step between the two */
} dfx_sweep_io;

typedef struct dfx_objective_api {
    uint32_t struct_size;
    uint32_t reserved;
    dfx_status (DFX_CALL *info)(const void *self, dfx_objective_info *out, dfx_error *err);            /* (r) */
    dfx_status (DFX_CALL *loss)(const void *self, dfx_graph *g, dfx_loss_io *io, dfx_error *err);      /* (r) */
    dfx_status (DFX_CALL *sweep)(const void *self, dfx_graph *g, dfx_sweep_io *io, dfx_error *err);
    dfx_status (DFX_CALL *advantage)(const void *self, dfx_graph *g, dfx_advantage_io *io, dfx_error *err);
} dfx_objective_api;

/* ---------------------------------------------------------------- registry */

typedef struct dfx_factory dfx_factory;
struct dfx_factory {
    uint32_t    struct_size;
    uint32_t    kind;                    /* DFX_KIND_*; unknown kinds are skipped            */
    const void *api;                     /* dfx_model_api and so on, by kind                 */
    const char *id;                      /* "org.example.dit", stable forever                */
    const char *summary;                 /* one line                                         */
    const char *config_schema;           /* JSON schema, or NULL                             */
    /* config_json is "{}" when the host gave none; *out is never NULL on success. Unknown keys are an error unless they start with "x-". */
    dfx_status (DFX_CALL *create)(const dfx_factory *self, const dfx_host *host,
                                  const char *config_json, void **out, dfx_error *err);
    void       (DFX_CALL *destroy)(void *instance);
};

typedef struct dfx_plugin {
    uint32_t magic;
    uint16_t abi_major;
    uint16_t abi_minor;                  /* header this was built with                       */
    uint32_t struct_size;
    uint32_t required_minor;             /* oldest host minor that will do                   */
    uint32_t layout;                     /* DFX_PLUGIN_LAYOUT                                */
    uint32_t n_factories;
    const dfx_factory *const *factories;
    const char *id;                      /* "org.example"                                    */
    const char *version;                 /* semver of the plugin                             */
    const char *license;                 /* SPDX                                             */
} dfx_plugin;

DFX_STATIC_ASSERT(plugin_prefix, offsetof(dfx_plugin, factories) == 24);
DFX_STATIC_ASSERT(host_prefix, offsetof(dfx_host, ctx) == 8);

#if defined(_WIN32)
#  define DFX_EXPORT __declspec(dllexport)
#elif defined(__GNUC__) || defined(__clang__)
#  define DFX_EXPORT __attribute__((visibility("default")))
#else
#  define DFX_EXPORT
#endif

/* DFX_PLUGIN(mylib) = { DFX_PLUGIN_HEADER, 2, my_factories, "org.example", "1.0.0", "MIT" };
 * Built with -DDFX_STATIC_PLUGIN the symbol is diffx_plugin_v0_mylib, for linking in. */
#if defined(DFX_STATIC_PLUGIN)
#  define DFX_PLUGIN(name) extern const dfx_plugin diffx_plugin_v0_##name; \
                           const dfx_plugin diffx_plugin_v0_##name
#else
#  define DFX_PLUGIN(name) DFX_EXPORT extern const dfx_plugin diffx_plugin_v0; \
                           const dfx_plugin diffx_plugin_v0
#endif
#define DFX_PLUGIN_HEADER DFX_PLUGIN_MAGIC, DFX_PLUGIN_ABI_MAJOR, DFX_PLUGIN_ABI_MINOR, \
                          (uint32_t)sizeof(dfx_plugin), 0, DFX_PLUGIN_LAYOUT

/* ----------------------------------------------------------------- helpers
 * Source sugar, no part of the ABI: define DFX_HELPERS before including. `e` is
 * host->graph. C evaluates arguments in any order: give results that draw or
 * declare names of their own before you combine them. */
#ifdef DFX_HELPERS
#if defined(__GNUC__) || defined(__clang__)
#  define DFX_HELPER static __attribute__((unused))
#else
#  define DFX_HELPER static
#endif

DFX_HELPER dfx_node dfx_emit(const dfx_graph_api *e, dfx_graph *g, dfx_op op, const dfx_node *in, uint32_t n_in,
                             const dfx_attr *attr, uint32_t n_attr) {
    dfx_call c;
    c.struct_size = (uint32_t)sizeof(c);
    c.op = op;
    c.in = in;
    c.attr = attr;
    c.out = NULL;
    c.reserved_ptr = NULL;
    c.n_in = n_in;
    c.n_attr = n_attr;
    c.n_out = 0;
    c.reserved = 0;
    return e->emit(g, &c);
}
DFX_HELPER dfx_node dfx_emit1(const dfx_graph_api *e, dfx_graph *g, dfx_op op, dfx_node a) {
    return dfx_emit(e, g, op, &a, 1, NULL, 0);
}
DFX_HELPER dfx_node dfx_emit2(const dfx_graph_api *e, dfx_graph *g, dfx_op op, dfx_node a, dfx_node b) {
    dfx_node in[2];
    in[0] = a;
    in[1] = b;
    return dfx_emit(e, g, op, in, 2, NULL, 0);
}

DFX_HELPER dfx_attr dfx_attr_int(uint32_t key, int64_t i) {
    dfx_attr a;
    a.key = key;
    a.count = 0;
    a.i = i;
    a.f = 0.0;
    a.p = NULL;
    a.reserved = NULL;
    return a;
}
DFX_HELPER dfx_attr dfx_attr_float(uint32_t key, double f) {
    dfx_attr a = dfx_attr_int(key, 0);
    a.f = f;
    return a;
}
DFX_HELPER dfx_attr dfx_attr_ints(uint32_t key, const int64_t *p, uint32_t count) {
    dfx_attr a = dfx_attr_int(key, 0);
    a.p = p;
    a.count = count;
    return a;
}

#define DFX_UNARY(name, op) \
    DFX_HELPER dfx_node dfx_##name(const dfx_graph_api *e, dfx_graph *g, dfx_node a) { return dfx_emit1(e, g, op, a); }
#define DFX_BINARY(name, op) \
    DFX_HELPER dfx_node dfx_##name(const dfx_graph_api *e, dfx_graph *g, dfx_node a, dfx_node b) { \
        return dfx_emit2(e, g, op, a, b); \
    }
DFX_UNARY(neg, DFX_OP_NEG)
DFX_UNARY(square, DFX_OP_SQUARE)
DFX_UNARY(sqrt, DFX_OP_SQRT)
DFX_UNARY(rsqrt, DFX_OP_RSQRT)
DFX_UNARY(exp, DFX_OP_EXP)
DFX_UNARY(log, DFX_OP_LOG)
DFX_UNARY(tanh, DFX_OP_TANH)
DFX_UNARY(sigmoid, DFX_OP_SIGMOID)
DFX_UNARY(silu, DFX_OP_SILU)
DFX_UNARY(gelu, DFX_OP_GELU)
DFX_BINARY(add, DFX_OP_ADD)
DFX_BINARY(sub, DFX_OP_SUB)
DFX_BINARY(mul, DFX_OP_MUL)
DFX_BINARY(div, DFX_OP_DIV)
DFX_BINARY(min, DFX_OP_MIN)
DFX_BINARY(max, DFX_OP_MAX)
DFX_BINARY(matmul, DFX_OP_MATMUL)
#undef DFX_UNARY
#undef DFX_BINARY

/* Standard normals of the shape [batch, dims of one sample]. */
DFX_HELPER dfx_node dfx_normal(const dfx_graph_api *e, dfx_graph *g, const dfx_desc *sample, uint32_t purpose) {
    int64_t shape[DFX_MAX_RANK + 1];
    dfx_attr attr[2];
    uint32_t i;
    shape[0] = e->batch(g);
    for (i = 0; i < sample->rank && i < DFX_MAX_RANK; i++) shape[i + 1] = sample->dims[i];
    attr[0] = dfx_attr_ints(DFX_ATTR_SHAPE, shape, i + 1);
    attr[1] = dfx_attr_int(DFX_ATTR_PURPOSE, (int64_t)purpose);
    return dfx_emit(e, g, DFX_OP_NORMAL, NULL, 0, attr, 2);
}
/* Standard normals of the shape of a node, whose first axis is the batch. */
DFX_HELPER dfx_node dfx_normal_like(const dfx_graph_api *e, dfx_graph *g, dfx_node like, uint32_t purpose) {
    dfx_desc d;
    dfx_attr attr[2];
    if (e->describe(g, like, &d) != DFX_OK) return 0;
    attr[0] = dfx_attr_ints(DFX_ATTR_SHAPE, d.dims, d.rank);
    attr[1] = dfx_attr_int(DFX_ATTR_PURPOSE, (int64_t)purpose);
    return dfx_emit(e, g, DFX_OP_NORMAL, NULL, 0, attr, 2);
}

/* Fills an error with a message, cut to fit; returns the status. */
DFX_HELPER dfx_status dfx_fail(dfx_error *err, dfx_status status, const char *message) {
    uint32_t n = 0;
    if (err == NULL || !DFX_HAS(err, dfx_error, message)) return status;
    for (; message[n] != 0 && n + 1 < (uint32_t)sizeof(err->message); n++) err->message[n] = message[n];
    err->message[n] = 0;
    err->message_len = n;
    err->status = status;
    return status;
}
#endif /* DFX_HELPERS */

#ifdef __cplusplus
}
#endif
#endif /* DIFFX_PLUGIN_H */
