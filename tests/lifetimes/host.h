/* What the hosts of these tests share: checks, and an allocator that knows when it is gone. */
#ifndef HOST_H
#define HOST_H

#include "diffx.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MUST(call)                                                                        \
    do {                                                                                  \
        dfx_error err = DFX_ERROR_INIT;                                                   \
        dfx_status status_ = (call);                                                      \
        if (status_ != DFX_OK) {                                                          \
            fprintf(stderr, "%s:%d: %s: %d %s\n", __FILE__, __LINE__, #call, status_, err.message); \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

#define REQUIRE(what)                                                                     \
    do {                                                                                  \
        if (!(what)) {                                                                    \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #what);            \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

/* Counts what is out, and what is asked for after the host said that it is gone. */
typedef struct arena {
    int live, calls, late;
    volatile int gone;
} arena;

static void *DFX_CALL arena_alloc(void *user, size_t size, size_t align) DFX_NOEXCEPT
{
    arena *a = (arena *)user;
    void *p = NULL;
    __sync_fetch_and_add(&a->calls, 1);
    __sync_fetch_and_add(a->gone ? &a->late : &a->live, 1);
    return posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size) ? NULL : p;
}

static void DFX_CALL arena_free(void *user, void *p, size_t size, size_t align) DFX_NOEXCEPT
{
    arena *a = (arena *)user;
    (void)size;
    (void)align;
    if (a->gone) __sync_fetch_and_add(&a->late, 1);
    __sync_fetch_and_sub(&a->live, 1);
    free(p);
}

static __attribute__((unused)) dfx_engine *engine(arena *a, uint32_t flags, uint32_t threads)
{
    dfx_allocator allocator;
    dfx_engine_options o = DFX_ENGINE_OPTIONS_INIT;
    dfx_engine *e = NULL;
    memset(&allocator, 0, sizeof allocator);
    allocator.struct_size = sizeof allocator;
    allocator.user = a;
    allocator.alloc = arena_alloc;
    allocator.free = arena_free;
    o.flags = flags;
    o.n_threads = threads;
    if (a) o.allocator = &allocator;
    MUST(dfx_engine_create(&o, &e, &err));
    return e;
}

/* A job of `n` samples that is not over soon. */
static __attribute__((unused)) dfx_job *start(const dfx_pipeline *p, uint64_t n)
{
    dfx_job_options o = DFX_JOB_OPTIONS_INIT;
    dfx_job *j = NULL;
    o.n_samples = n;
    MUST(dfx_job_start(p, &o, &j, &err));
    return j;
}

static __attribute__((unused)) void pause_ms(long ms)
{
    struct timespec t;
    t.tv_sec = ms / 1000;
    t.tv_nsec = ms % 1000 * 1000000;
    nanosleep(&t, NULL);
}

/* Waits until a job runs. */
static __attribute__((unused)) void until_it_runs(dfx_job *j)
{
    dfx_progress at = DFX_PROGRESS_INIT;
    do {
        pause_ms(1);
        MUST(dfx_job_poll(j, &at, &err));
        REQUIRE(at.state <= DFX_JOB_RUNNING);
    } while (at.state != DFX_JOB_RUNNING || at.step == 0);
}

/* The history the carried model is conditioned on. */
#define HISTORY 32
static __attribute__((unused)) dfx_tensor *history(const dfx_engine *e, float *data, dfx_free_fn f, void *user)
{
    dfx_desc d;
    dfx_tensor *t = NULL;
    int i;
    memset(&d, 0, sizeof d);
    d.dtype = DFX_F32;
    d.rank = 2;
    d.dims[0] = HISTORY;
    d.dims[1] = 1;
    for (i = 0; i < HISTORY; i++) data[i] = 15.0f + (float)(i % 7);
    MUST(dfx_tensor_wrap(e, &d, data, f, user, &t, &err));
    return t;
}

static __attribute__((unused)) dfx_job *start_with(const dfx_pipeline *p, const dfx_tensor *t, uint64_t n)
{
    static const char *const names[] = {"history"};
    dfx_job_options o = DFX_JOB_OPTIONS_INIT;
    dfx_job *j = NULL;
    o.n_samples = n;
    o.n_inputs = 1;
    o.input_names = names;
    o.inputs = &t;
    MUST(dfx_job_start(p, &o, &j, &err));
    return j;
}

#endif
