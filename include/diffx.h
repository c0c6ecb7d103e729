/*
 * diffx.h - embed a diffusion engine. API 0.1. C89 and C++98 clean.
 *
 * Open a model, bind it to a noise process, guidance and a sampler by name, take
 * samples. One file, one library, no global state.
 *
 *     dfx_engine *e = NULL; dfx_model *m = NULL; dfx_pipeline *p = NULL;
 *     dfx_job *j = NULL; dfx_tensor *x = NULL;
 *     dfx_error err = DFX_ERROR_INIT;
 *     dfx_job_options opt = DFX_JOB_OPTIONS_INIT;
 *     opt.seed = 1; opt.n_samples = 1000;
 *     if (dfx_engine_create(NULL, &e, &err) || dfx_model_open(e, "vix", NULL, &m, &err) ||
 *         dfx_pipeline_create(m, NULL, &p, &err) || dfx_job_start(p, &opt, &j, &err) ||
 *         dfx_job_wait(j, DFX_FOREVER, &err) || dfx_job_result(j, "x", &x, &err))
 *         puts(err.message);
 *
 * Objects    opaque, freed by their *_release (NULL is fine), in any order: each
 *            keeps what it needs.
 * The end    once every object of an engine is released, tensors and DLPack exports
 *            too, nothing of it runs: no thread, no callback, no function of its
 *            allocator. The release of its last object that is no tensor stops its
 *            jobs, each at its next node, and waits for that. (A tensor given to a
 *            job of another engine is that job's as well.) One case cannot wait: a
 *            callback that does this release on a thread of ours, a free_fn or a
 *            log with DFX_ENGINE_LOG_ANYWHERE; that thread then ends soon after.
 * Errors     a dfx_status returned, details in a caller-owned dfx_error (or NULL);
 *            out-parameters are written only on success.
 * Threads    const T* may be used from many threads at once; T* needs one caller
 *            at a time; different objects never interfere. Exceptions are marked.
 * Callbacks  run inside dfx_engine_pump, dfx_job_poll or dfx_job_wait, on the
 *            thread that calls them - never on a thread of ours - unless an option
 *            says otherwise. They may release any object, the one the call is about
 *            too: it goes when the call returns. Functions of an allocator may not
 *            call diffx at all. None may be left by longjmp, by ending its thread or
 *            by an exception, which ends the process; in C++17 their types are
 *            noexcept.
 * Options    zero means default. Start from the *_INIT macro, always. NULL options
 *            are all defaults.
 * Text       UTF-8. In: NUL-terminated, borrowed for the call. Out: owned by the
 *            object you asked, valid while you hold it.
 * Same bits  a sample depends on the pipeline, the seed and its id, not on the
 *            batch, the number of threads or the range of ids it was drawn with.
 */
#ifndef DIFFX_H
#define DIFFX_H

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

#define DFX_ERROR_INIT { (uint32_t)sizeof(dfx_error), 0, 0, 0, { 0 } }

#if defined(DFX_STATIC)
#  define DFX_API
#elif defined(_WIN32)
#  define DFX_API __declspec(dllimport)
#elif defined(__GNUC__) || defined(__clang__)
#  define DFX_API __attribute__((visibility("default")))
#else
#  define DFX_API
#endif

/* Of a callback: it does not throw. C++17 has that in its type, and refuses a function that may. */
#if defined(__cplusplus) && __cplusplus >= 201703L
#  define DFX_NOEXCEPT noexcept
#else
#  define DFX_NOEXCEPT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ----------------------------------------------------------------- version */

#define DFX_API_MAJOR 0
#define DFX_API_MINOR 1

DFX_API uint32_t    dfx_api_version(void);                 /* major << 16 | minor                 */
DFX_API const char *dfx_version_string(void);              /* "0.1.0"                             */
DFX_API int32_t     dfx_has_feature(const char *name);     /* "cpu", "cuda", "train": 1 or 0      */
DFX_API const void *dfx_extension(const char *id);         /* draft APIs by id; NULL if unknown   */
DFX_API const char *dfx_status_name(dfx_status s);         /* "DFX_E_IO"; "DFX_E_?" if unknown    */

/* ------------------------------------------------------------------ engine */

typedef struct dfx_engine   dfx_engine;
typedef struct dfx_model    dfx_model;
typedef struct dfx_pipeline dfx_pipeline;
typedef struct dfx_job      dfx_job;
typedef struct dfx_tensor   dfx_tensor;
typedef struct dfx_trainer  dfx_trainer;
typedef struct dfx_tuner    dfx_tuner;

typedef struct dfx_allocator {
    uint32_t struct_size;
    uint32_t reserved;
    void    *user;
    void   *(DFX_CALL *alloc)(void *user, size_t size, size_t align) DFX_NOEXCEPT;          /* [any-thread] */
    void    (DFX_CALL *free)(void *user, void *p, size_t size, size_t align) DFX_NOEXCEPT;  /* [any-thread] */
    void    *reserved_ptr;
} dfx_allocator;

/* level: 0 error, 1 warning, 2 information, 3 debugging */
typedef void (DFX_CALL *dfx_log_fn)(void *user, int32_t level, const char *message) DFX_NOEXCEPT;

#define DFX_ENGINE_NO_THREADS   1u       /* never spawn; the host calls dfx_engine_pump      */
#define DFX_ENGINE_LOAD_PLUGINS 2u       /* allow dfx_plugin_load; off by default            */
#define DFX_ENGINE_ENV_PLUGINS  4u       /* also load the files of DIFFX_PLUGIN_PATH         */
#define DFX_ENGINE_LOG_ANYWHERE 8u       /* log may be called on any thread, at once         */

typedef struct dfx_engine_options {
    uint32_t    struct_size;
    uint32_t    flags;                   /* DFX_ENGINE_*                                     */
    uint64_t    arena_bytes;             /* cap on host memory for tensors; 0 = no cap       */
    uint64_t    device_bytes;            /* cap on device memory; 0 = no cap; none on the CPU */
    uint32_t    n_threads;               /* 0 = as many as the machine has                   */
    uint32_t    reserved;
    const char *device;                  /* NULL = best; "cpu", "cuda:0"                     */
    const dfx_allocator *allocator;      /* for tensors and sessions; copied; NULL = ours    */
    dfx_log_fn  log;
    void       *log_user;
    void       *cuda_stream;             /* borrow this stream instead of creating one       */
    void       *reserved_ptr;
} dfx_engine_options;
#define DFX_ENGINE_OPTIONS_INIT { (uint32_t)sizeof(dfx_engine_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

DFX_API dfx_status dfx_engine_create(const dfx_engine_options *opt, dfx_engine **out, dfx_error *err);
DFX_API void       dfx_engine_release(dfx_engine *e);

/* Advances every job of this engine for about budget_us on this thread, delivers log messages, and
 * returns how many jobs are unfinished, or a negative status. Call it once per frame. It leaves between nodes of a
 * graph and, on an engine without threads, inside those of much arithmetic, after some 0.2 ms of it: the worst overrun
 * is one such piece, or the longest node that only moves, sorts or sums numbers. Whatever the budget, one job moves on by
 * a piece. */
DFX_API int32_t    dfx_engine_pump(const dfx_engine *e, uint32_t budget_us);

/* Bytes taken for tensors, weights and sessions: now, and at most so far. Either pointer may be NULL. */
DFX_API dfx_status dfx_engine_memory(const dfx_engine *e, uint64_t *used, uint64_t *peak, dfx_error *err);

/* ----------------------------------------------------------------- plugins
 * Loading a plugin runs its code: trust it as you trust your own. Plugins are never unloaded. */

struct dfx_plugin;                       /* diffx_plugin.h                                   */

/* A plugin linked into the program. The descriptor lives until the process ends. */
DFX_API dfx_status dfx_plugin_register(dfx_engine *e, const struct dfx_plugin *p, dfx_error *err);

/* A plugin in a file: an absolute path; sha256 in hexadecimal, or NULL. */
DFX_API dfx_status dfx_plugin_load(dfx_engine *e, const char *path, const char *sha256, dfx_error *err);

/* What can be named: kind, id, summary and config schema of each factory. */
DFX_API uint32_t   dfx_factory_count(const dfx_engine *e);
DFX_API dfx_status dfx_factory_json(const dfx_engine *e, uint32_t i, const char **json, dfx_error *err);

/* ------------------------------------------------------- models, pipelines */

/* A file, a folder (docs/models.md), or the name of a carried model ("vix"). config_json: NULL, or for models of
 * other programs "variant" (as in model.fp16.safetensors) and "model" (settings in the place of those of its config). */
DFX_API dfx_status dfx_model_open(dfx_engine *e, const char *path, const char *config_json,
                                  dfx_model **out, dfx_error *err);
DFX_API void       dfx_model_release(dfx_model *m);

/* What the file says about itself: components, conditions, defaults, data, provenance, tensors. */
DFX_API dfx_status dfx_model_json(const dfx_model *m, const char **json, dfx_error *err);

/* config_json, every key optional, the defaults in the model file:
 *   { "process": S or [S per component], "sampler": S, "grid": G, "guidance": [S], "steps": 32,
 *     "sigma_min": N, "sigma_max": N, "dtype": "f32" or "f64", "batch": rows per run,
 *     "networks": { "h": { "model": "path or carried name" } }, "pilot": what dfx_pipeline_pilot gave }
 * where S is "id", "id:{...settings...}" or { "id": "...", "config": {...} }, and N a number: for all components,
 * or a list with one per component (so is G one S or a list). The id of a process a model was trained under stays. */
DFX_API dfx_status dfx_pipeline_create(const dfx_model *m, const char *config_json,
                                       dfx_pipeline **out, dfx_error *err);
DFX_API void       dfx_pipeline_release(dfx_pipeline *p);

/* Writes the model with the process, sampler, grid, guidance, steps and levels of this pipeline for its defaults, and with
 * what its pilot run measured. */
DFX_API dfx_status dfx_pipeline_save(const dfx_pipeline *p, const char *path, dfx_error *err);

/* -------------------------------------------------------------------- jobs */

#define DFX_JOB_QUEUED    0u
#define DFX_JOB_RUNNING   1u
#define DFX_JOB_DONE      2u
#define DFX_JOB_FAILED    3u
#define DFX_JOB_CANCELLED 4u

typedef struct dfx_progress {
    uint32_t struct_size;
    uint32_t state;                      /* DFX_JOB_*                                        */
    uint64_t step;                       /* rows run, over all batches ...                   */
    uint64_t n_steps;                    /* ... and how many there will be                   */
    uint64_t elapsed_ns;
} dfx_progress;
#define DFX_PROGRESS_INIT { (uint32_t)sizeof(dfx_progress), 0, 0, 0, 0 }

/* Called by dfx_job_poll and dfx_job_wait. Return nonzero to cancel. May call dfx_job_cancel, dfx_job_preview
 * (also _at) and dfx_job_release, nothing else of this job. */
typedef int32_t (DFX_CALL *dfx_progress_fn)(void *user, dfx_job *job, const dfx_progress *p) DFX_NOEXCEPT;

typedef struct dfx_job_options {
    uint32_t    struct_size;
    uint32_t    flags;                   /* 0                                                */
    uint64_t    seed;
    uint64_t    first_sample;            /* ids are first_sample ... first_sample + n_samples - 1 */
    uint64_t    n_samples;               /* 0 = 1                                            */
    uint32_t    n_steps;                 /* 0 = the pipeline's choice                        */
    uint32_t    preview_every;           /* steps between previews; 0 = none                 */
    uint32_t    n_inputs;
    uint32_t    reserved;
    const char *const       *input_names; /* conditions of the model                         */
    const dfx_tensor *const *inputs;     /* one value, or one per sample along axis 0; kept until the job is over */
    dfx_progress_fn progress;
    void       *user;
} dfx_job_options;
#define DFX_JOB_OPTIONS_INIT { (uint32_t)sizeof(dfx_job_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Bytes that a job with these options will take, before anything runs: its session, its results, and one batch of each
 * preview. dfx_job_start takes exactly so many (none for the session if an earlier job of the same size left one), or
 * fails with DFX_E_NO_MEMORY; running, saving and resuming take no more. Weights are taken when a pipeline is created,
 * inputs are the host's (a resumed job reads them from its file), and dfx_job_preview makes a copy when it is asked.
 * Beside them a process needs room for graphs, plans and lists: some 24 MB; a block of 1 MB or more is refused unless
 * the system would have 4 MB left. */
DFX_API dfx_status dfx_pipeline_plan(const dfx_pipeline *p, const dfx_job_options *opt,
                                     uint64_t *bytes, dfx_error *err);

/* The coarse run that a grid which adapts ("art") wants before the first job; without it dfx_job_start fails with
 * DFX_E_STATE. Runs here and now, by the samples of these options (seed, ids, inputs; 0 samples or steps: as many as the
 * grid asks for), and stays with the pipeline for jobs of any number of steps. *json, which lives as long as the
 * pipeline, is what "pilot" takes in a pipeline config; dfx_pipeline_save keeps it in a model file. It
 * holds for these processes, this guidance and this range of levels. */
DFX_API dfx_status dfx_pipeline_pilot(const dfx_pipeline *p, const dfx_job_options *opt,
                                      const char **json, dfx_error *err);

DFX_API dfx_status dfx_job_start(const dfx_pipeline *p, const dfx_job_options *opt,
                                 dfx_job **out, dfx_error *err);

/* Goes on with a saved job: same pipeline settings, same bits. opt: only progress and user are read; may be NULL. */
DFX_API dfx_status dfx_job_resume(const dfx_pipeline *p, const char *path, const dfx_job_options *opt,
                                  dfx_job **out, dfx_error *err);

/* How far it is. Never blocks and never fails because the job did; see state. */
DFX_API dfx_status dfx_job_poll(dfx_job *j, dfx_progress *out, dfx_error *err);

/* Waits for the end. DFX_OK when done, the job's own status when it failed or was cancelled, DFX_E_STATE when the time
 * was up. On an engine without threads the job is advanced here. */
#define DFX_FOREVER (~(uint64_t)0)
DFX_API dfx_status dfx_job_wait(dfx_job *j, uint64_t timeout_ns, dfx_error *err);

/* Asks a job to stop; it ends CANCELLED, or DONE if that came first. [any-thread] */
DFX_API void       dfx_job_cancel(const dfx_job *j);

/* Newest estimate of one batch of a component, decoded. DFX_E_STATE while there is none. [any-thread] */
DFX_API dfx_status dfx_job_preview(const dfx_job *j, const char *name, dfx_tensor **out, dfx_error *err);

typedef struct dfx_preview {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t first_sample;               /* row i is sample first_sample + i ...             */
    uint64_t n_samples;                  /* ... for i below this; rows behind fill a batch up */
    uint64_t step;                       /* rows run when it was taken, as in dfx_progress   */
} dfx_preview;
#define DFX_PREVIEW_INIT { (uint32_t)sizeof(dfx_preview), 0, 0, 0, 0 }

/* The same, and what it shows, of one moment. [any-thread] */
DFX_API dfx_status dfx_job_preview_at(const dfx_job *j, const char *name, dfx_preview *what, dfx_tensor **out,
                                      dfx_error *err);

/* Writes the job to a file, whole or not at all, so that dfx_job_resume goes on from here. [any-thread] */
DFX_API dfx_status dfx_job_save(const dfx_job *j, const char *path, dfx_error *err);

/* A result of a finished job: a component by name ("x") [n_samples, ...]; "feasible" bool [n_samples], false where a
 * guidance found its constraint violated; "log_weight" [n_samples]; where a guidance redraws such samples "draws" i32
 * [n_samples]: how often the sample, or its last steps, were drawn. NULL = the first component. */
DFX_API dfx_status dfx_job_result(const dfx_job *j, const char *name, dfx_tensor **out, dfx_error *err);

/* Cancels it if it is not over, and does not wait for that: what a job under way holds comes back when the node it is at
 * ends, at the latest with the release of the engine's last object. */
DFX_API void       dfx_job_release(dfx_job *j);

/* ----------------------------------------------------------------- tensors
 * Contiguous, row-major, immutable once made. Reference-counted. */

struct DLManagedTensorVersioned;         /* dlpack.h, not included here                      */
typedef void (DFX_CALL *dfx_free_fn)(void *user, void *data) DFX_NOEXCEPT;

/* A copy of data; zeros if NULL. */
DFX_API dfx_status dfx_tensor_create(const dfx_engine *e, const dfx_desc *d, const void *data,
                                     dfx_tensor **out, dfx_error *err);

/* Uses your memory: unchanged and alive until free_fn, which is called once, when the tensor is released and the jobs
 * it was given to are over, on any thread. It may call diffx, but not wait for a job. free_fn may be NULL. On failure
 * the memory stays yours and free_fn is not called. */
DFX_API dfx_status dfx_tensor_wrap(const dfx_engine *e, const dfx_desc *d, void *data, dfx_free_fn free_fn,
                                   void *user, dfx_tensor **out, dfx_error *err);

/* DLPack 1.x in host memory. The source is taken over on success only; its deleter may run on any thread. */
DFX_API dfx_status dfx_tensor_from_dlpack(const dfx_engine *e, struct DLManagedTensorVersioned *src,
                                          void *stream, dfx_tensor **out, dfx_error *err);
DFX_API dfx_status dfx_tensor_to_dlpack(const dfx_tensor *t, void *stream,
                                        struct DLManagedTensorVersioned **out, dfx_error *err);

/* The elements, to read, while you hold the tensor. */
DFX_API dfx_status dfx_tensor_map(const dfx_tensor *t, const void **data, size_t *bytes, dfx_error *err);
DFX_API dfx_status dfx_tensor_desc(const dfx_tensor *t, dfx_desc *out, dfx_error *err);
DFX_API void       dfx_tensor_retain(const dfx_tensor *t);           /* [any-thread]         */
DFX_API void       dfx_tensor_release(const dfx_tensor *t);          /* [any-thread]         */

/* -------------------------------------------------------------- simulation */

#define DFX_SIMULATE_PER_SAMPLE 1u       /* axis 0 of x0 is the sample                       */
#define DFX_SIMULATE_EULER      2u       /* Euler steps instead of exact transitions         */

typedef struct dfx_simulate_options {
    uint32_t    struct_size;
    uint32_t    flags;                   /* DFX_SIMULATE_*                                   */
    uint64_t    seed;
    uint64_t    first_sample;
    uint64_t    n_samples;               /* 0 = 1                                            */
    uint32_t    n_times;
    uint32_t    substeps;                /* Euler steps up to each time, <= 100000; 0 = 1    */
    const char *process;                 /* a setting: "cir:{\"kappa\":1}"                   */
    const double     *times;             /* ascending, from 0 on                             */
    const dfx_tensor *x0;                /* f32 or f64: where paths start at time 0          */
    const uint32_t   *keep;              /* which times come out, ascending; NULL = all      */
    uint32_t    n_keep;
    uint32_t    reserved;
} dfx_simulate_options;
#define DFX_SIMULATE_OPTIONS_INIT { (uint32_t)sizeof(dfx_simulate_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Paths of a process, without a model: [n_samples, kept times, dims of one x0], in the type of x0. Exact transitions
 * are drawn in f64 whatever the times; Euler steps (full truncation where the data are positive) are done in the type
 * of x0. A path depends on its id, the times and the substeps, not on n_samples, threads or what is kept. */
DFX_API dfx_status dfx_simulate(const dfx_engine *e, const dfx_simulate_options *opt, dfx_tensor **out, dfx_error *err);

/* -------------------------------------------------------------- evaluation */

typedef struct dfx_eval_options {
    uint32_t    struct_size;
    uint32_t    flags;                   /* 0                                                */
    uint32_t    n_inputs;
    uint32_t    n_outputs;
    const char *slot;                    /* a network ("base", "h"), or NULL for the denoiser with its guidances */
    const char *const       *input_names;
    const dfx_tensor *const *inputs;
    const char *const       *output_names;
} dfx_eval_options;
#define DFX_EVAL_OPTIONS_INIT { (uint32_t)sizeof(dfx_eval_options), 0, 0, 0, 0, 0, 0, 0 }

/* One forward. Inputs: every component by name [rows, ...]; "sigma" or "sigma.NAME" [rows], the level (of a network: the
 * embedding of it); conditions (null if absent); "cotangent.NAME" of an output (ones if absent). Outputs: components by
 * name, "grad.INPUT", "grad.weight.NAME". `out` has room for n_outputs tensors; all are written or none. */
DFX_API dfx_status dfx_pipeline_eval(const dfx_pipeline *p, const dfx_eval_options *opt, dfx_tensor **out, dfx_error *err);

/* -------------------------------------------------------------- likelihood */

typedef struct dfx_score_options {
    uint32_t    struct_size;
    uint32_t    flags;                   /* 0                                                */
    uint32_t    n_inputs;
    uint32_t    n_steps;                 /* of the probability flow, four evaluations each; 0 = 64 */
    uint32_t    n_probes;                /* random directions of an estimated divergence; 0 = the exact one */
    uint32_t    reserved;
    uint64_t    seed;                    /* of the directions                                */
    uint64_t    first_sample;
    const char *const       *input_names;
    const dfx_tensor *const *inputs;
} dfx_score_options;
#define DFX_SCORE_OPTIONS_INIT { (uint32_t)sizeof(dfx_score_options), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* log p(x) of data by the probability flow between the levels of the pipeline, in nats, f64 [n]. Inputs: the component
 * by name [n, ...] and conditions [n, ...] (null if absent), in the pipeline's type. Bits per dimension are
 * -nats / (dimensions of a sample * ln 2). One component, and a process whose encode acts on each element by itself;
 * the exact divergence serves up to 1024 dimensions. */
DFX_API dfx_status dfx_pipeline_score(const dfx_pipeline *p, const dfx_score_options *opt, dfx_tensor **out, dfx_error *err);

/* ---------------------------------------------------------------- training */

typedef struct dfx_training {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t step;                       /* steps done ...                                   */
    uint64_t n_steps;                    /* ... of so many                                   */
    double   loss;                       /* of the last step; NaN where none was made yet    */
    double   norm;                       /* of its gradient, before clipping                 */
    double   rate;                       /* learning rate of the last step                   */
} dfx_training;
#define DFX_TRAINING_INIT { (uint32_t)sizeof(dfx_training), 0, 0, 0, 0.0, 0.0, 0.0 }

/* Data in memory: components of the state ("x"), conditions and labels by name, row i of each for example i. Floats, or
 * whole numbers for tokens and labels. A table "held_out.NAME" is not trained on. Kept by the trainer. */
typedef struct dfx_trainer_options {
    uint32_t    struct_size;
    uint32_t    flags;                   /* 0                                                */
    uint32_t    n_tables;                /* 0: config_json says where the data is            */
    uint32_t    reserved;
    const char *const       *table_names;
    const dfx_tensor *const *tables;
} dfx_trainer_options;
#define DFX_TRAINER_OPTIONS_INIT { (uint32_t)sizeof(dfx_trainer_options), 0, 0, 0, 0, 0 }

/* config_json: a recipe as the command takes it (docs): data, model, process, objective, steps, batch, seed. opt may be
 * NULL. */
DFX_API dfx_status dfx_trainer_create(dfx_engine *e, const char *config_json, const dfx_trainer_options *opt,
                                      dfx_trainer **out, dfx_error *err);
DFX_API void       dfx_trainer_release(dfx_trainer *t);

/* Bytes that such a trainer will hold: weights, moments, the step, and data that is not the host's. Reads the data. */
DFX_API dfx_status dfx_trainer_plan(dfx_engine *e, const char *config_json, const dfx_trainer_options *opt,
                                    uint64_t *bytes, dfx_error *err);

/* Up to n_steps more steps (0 = 1); at the end none are left and step is n_steps. out may be NULL. */
DFX_API dfx_status dfx_trainer_step(dfx_trainer *t, uint32_t n_steps, dfx_training *out, dfx_error *err);

/* The loss on held-out data. */
DFX_API dfx_status dfx_trainer_measure(dfx_trainer *t, dfx_training *out, dfx_error *err);

/* Metrics of the objective: how many, what they are called, and their values at the last step by name. */
DFX_API uint32_t   dfx_trainer_metric_count(const dfx_trainer *t);
DFX_API dfx_status dfx_trainer_metric_name(const dfx_trainer *t, uint32_t i, const char **name, dfx_error *err);
DFX_API dfx_status dfx_trainer_metric(dfx_trainer *t, const char *name, double *out, dfx_error *err);

/* A checkpoint holds everything training needs to go on with the same bits; written whole or not at all. */
DFX_API dfx_status dfx_trainer_checkpoint(dfx_trainer *t, const char *path, dfx_error *err);
DFX_API dfx_status dfx_trainer_resume(dfx_trainer *t, const char *path, dfx_error *err);

/* The model as it is now (averaged weights), for dfx_model_open. */
DFX_API dfx_status dfx_trainer_save(dfx_trainer *t, const char *path, dfx_error *err);

/* ----------------------------------------------------------- tuning by rewards
 * A round: dfx_tuner_rollout draws samples, dfx_tuner_result hands them out, the host judges them in its own time and on
 * its own threads, dfx_tuner_reward takes its word, dfx_tuner_update trains on them. Nothing of the host is called.
 *
 *     for (r = 0; r < rounds; r++) {
 *         if (dfx_tuner_rollout(t, NULL, &err) || dfx_tuner_result(t, "x", &x, &err)) break;
 *         ... dfx_tensor_map, one reward per sample, dfx_tensor_create ...
 *         word.values = rewards;
 *         if (dfx_tuner_reward(t, &word, &err) || dfx_tuner_update(t, 0, &said, &err)) break;
 *     }
 *
 * Round r draws the samples r * samples, r * samples + 1, ... of its seed: the same weights, seed and ids give the same
 * bits, whatever batch draws them. Samples of one group follow each other and share their conditions. */

/* config_json, every key but objective optional:
 *   { "objective": S, "rollout": { a pipeline config: sampler, steps, ... }, "rounds": 100, "samples": 64 per round,
 *     "group": 1 sample per condition, "batch": samples whose gradients are taken at once (all), "accumulate": 1 of
 *     these batches per update, "sweeps": 1 over the samples of a round,
 *     "actor": whose weights draw ("base", "old", "ema", "ref"), "old": {"rate", "most"}: after round r the slot old
 *     becomes d old + (1 - d) base, d = min(rate r, most) (0), "lora": {"rank", "scale", "targets"} (all weights train),
 *     "seed": 0, "rate" and the other keys of an optimiser, "metrics": as in a recipe }
 * Slots an objective may name: "base" trains, "ref" is the model as it was, "old" and "ema" follow base. The model must
 * hold weights. What strength of KL, which clip and so on: settings of the objective. */
DFX_API dfx_status dfx_tuner_create(const dfx_model *m, const char *config_json, dfx_tuner **out, dfx_error *err);
DFX_API void       dfx_tuner_release(dfx_tuner *t);

/* Bytes that such a tuner will hold: weights, moments, the steps, and one rollout with what is recorded of it. */
DFX_API dfx_status dfx_tuner_plan(const dfx_model *m, const char *config_json, uint64_t *bytes, dfx_error *err);

/* Where it stands and what it wants: { "samples", "group", "batch", "rounds", "updates": of all rounds, "round", "update":
 * done, "left": updates of this round, "rewards": numbers per sample, "gradient": whether the gradient of the reward is
 * wanted, "dtype": of samples, conditions and gradients, "metrics": [names] }. *json holds until this is called again
 * after the tuner went on. */
DFX_API dfx_status dfx_tuner_json(const dfx_tuner *t, const char **json, dfx_error *err);

typedef struct dfx_rollout_options {
    uint32_t    struct_size;
    uint32_t    flags;                   /* 0                                                */
    uint32_t    n_inputs;
    uint32_t    reserved;
    const char *const       *input_names; /* conditions of the model                         */
    const dfx_tensor *const *inputs;     /* one value, or one per group, or one per sample along axis 0; kept until the
                                          * round is over                                    */
} dfx_rollout_options;
#define DFX_ROLLOUT_OPTIONS_INIT { (uint32_t)sizeof(dfx_rollout_options), 0, 0, 0, 0, 0 }

/* Draws the samples of the next round; before its first update it may be drawn again, with other conditions. DFX_E_STATE
 * while some of a round's updates are made and others not, and when all rounds are done. */
DFX_API dfx_status dfx_tuner_rollout(dfx_tuner *t, const dfx_rollout_options *opt, dfx_error *err);

/* A part of the rollout: a component by name ("x") [samples, ...] in the units of the data; "feasible", "log_weight"
 * [samples]; "states.x" [steps + 1, samples, ...], the states in the process's coordinate, where the objective records
 * them. NULL = the first component. It stays as it is when the tuner goes on. */
DFX_API dfx_status dfx_tuner_result(const dfx_tuner *t, const char *name, dfx_tensor **out, dfx_error *err);

typedef struct dfx_reward {
    uint32_t    struct_size;
    uint32_t    flags;                   /* 0                                                */
    const dfx_tensor *values;            /* f32 or f64 [samples], or [samples, rewards]      */
    const dfx_tensor *valid;             /* bool or u8 [samples]: 0 where there is no reward; NULL = all have one */
    uint32_t    n_grads;
    uint32_t    reserved;
    const char *const       *grad_names; /* components                                       */
    const dfx_tensor *const *grads;      /* gradient of the first reward by the samples, shaped as they are */
} dfx_reward;
#define DFX_REWARD_INIT { (uint32_t)sizeof(dfx_reward), 0, 0, 0, 0, 0, 0, 0 }

/* The host's word on the samples of this round, as large as it likes: larger is better. A row that is not valid counts
 * nowhere; one that is must be finite. Refused as a whole, and may be given again. */
DFX_API dfx_status dfx_tuner_reward(dfx_tuner *t, const dfx_reward *reward, dfx_error *err);

/* n_updates more updates, at most to the end of this round (0 = to its end), which ends the rollout. out may be NULL; its
 * step counts updates. */
DFX_API dfx_status dfx_tuner_update(dfx_tuner *t, uint32_t n_updates, dfx_training *out, dfx_error *err);

/* Metrics: "reward" and "valid" of the round (mean, share of rows), then those of the objective; values at the last
 * update by name. */
DFX_API uint32_t   dfx_tuner_metric_count(const dfx_tuner *t);
DFX_API dfx_status dfx_tuner_metric_name(const dfx_tuner *t, uint32_t i, const char **name, dfx_error *err);
DFX_API dfx_status dfx_tuner_metric(dfx_tuner *t, const char *name, double *out, dfx_error *err);

/* Between rounds: everything needed to go on with the same bits, for the same rewards. Written whole or not at all. A
 * rollout that was not trained on is not in it, and is drawn again. */
DFX_API dfx_status dfx_tuner_checkpoint(dfx_tuner *t, const char *path, dfx_error *err);
DFX_API dfx_status dfx_tuner_resume(dfx_tuner *t, const char *path, dfx_error *err);

/* The model as it is now (averaged weights, adapters merged into them), for dfx_model_open. */
DFX_API dfx_status dfx_tuner_save(dfx_tuner *t, const char *path, dfx_error *err);

#ifdef __cplusplus
}
#endif
#endif /* DIFFX_H */
