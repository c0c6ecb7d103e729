/* Samples the carried model and prints a checksum of the bytes: the same in every language.
 * cc -I include examples/hello/hello.c -L target/release -ldiffx -o hello */
#include "diffx.h"
#include <stdio.h>

int main(void) {
    dfx_engine *engine = NULL; dfx_model *model = NULL; dfx_pipeline *pipeline = NULL;
    dfx_job *job = NULL; dfx_tensor *x = NULL;
    dfx_error err = DFX_ERROR_INIT;
    dfx_job_options options = DFX_JOB_OPTIONS_INIT;
    const void *data; size_t bytes, i;
    uint64_t h = ((uint64_t)0xcbf29ce4u << 32) | 0x84222325u;

    options.seed = 1; options.n_samples = 16;
    if (dfx_engine_create(NULL, &engine, &err) || dfx_model_open(engine, "vix", NULL, &model, &err) ||
        dfx_pipeline_create(model, NULL, &pipeline, &err) || dfx_job_start(pipeline, &options, &job, &err) ||
        dfx_job_wait(job, DFX_FOREVER, &err) || dfx_job_result(job, NULL, &x, &err) ||
        dfx_tensor_map(x, &data, &bytes, &err)) {
        fprintf(stderr, "%s: %s\n", dfx_status_name(err.status), err.message);
        return 1;
    }
    for (i = 0; i < bytes; i++)
        h = (h ^ ((const unsigned char *)data)[i]) * (((uint64_t)0x100 << 32) | 0x1b3u);
    printf("%08lx%08lx\n", (unsigned long)(h >> 32), (unsigned long)(h & 0xffffffffu));
    dfx_tensor_release(x);
    dfx_job_release(job);
    dfx_pipeline_release(pipeline);
    dfx_model_release(model);
    dfx_engine_release(engine);
    return 0;
}
