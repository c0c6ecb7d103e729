"""``include/diffx.h`` as ctypes sees it: constants, structs and one table of functions.

Nothing here decides anything. A test compiles the header and compares every size, offset, constant and prototype with
this file, so an edit of the header that is forgotten here is found at once.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Dict, List, Tuple, Type

API_MAJOR = 0
API_MINOR = 1

OK = 0
E_INVALID = -1
E_STATE = -2
E_NOT_FOUND = -3
E_NO_MEMORY = -4
E_IO = -5
E_FORMAT = -6
E_UNSUPPORTED = -7
E_VERSION = -8
E_CANCELLED = -9
E_DENIED = -10
E_DEVICE = -11
E_PLUGIN = -12
E_INTERNAL = -13

F32 = 1
F16 = 2
BF16 = 3
I32 = 4
I64 = 5
U8 = 6
F64 = 7
BOOL = 8

MAX_RANK = 8

ENGINE_NO_THREADS = 1
ENGINE_LOAD_PLUGINS = 2
ENGINE_ENV_PLUGINS = 4
ENGINE_LOG_ANYWHERE = 8

JOB_QUEUED = 0
JOB_RUNNING = 1
JOB_DONE = 2
JOB_FAILED = 3
JOB_CANCELLED = 4

SIMULATE_PER_SAMPLE = 1
SIMULATE_EULER = 2

# Callbacks. None of ours is ever given to the library as something to call on its threads: see ``_lend``.
log_fn = CFUNCTYPE(None, c_void_p, c_int32, c_char_p)
progress_fn = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_void_p)
free_fn = CFUNCTYPE(None, c_void_p, c_void_p)
alloc_fn = CFUNCTYPE(c_void_p, c_void_p, c_size_t, c_size_t)
dealloc_fn = CFUNCTYPE(None, c_void_p, c_void_p, c_size_t, c_size_t)


class Error(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("status", c_int32),
        ("source", c_uint32),
        ("message_len", c_uint32),
        ("message", c_char * 496),
    ]


class Desc(ctypes.Structure):
    _fields_ = [("dtype", c_uint32), ("rank", c_uint32), ("dims", c_int64 * MAX_RANK)]


class Allocator(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("user", c_void_p),
        ("alloc", alloc_fn),
        ("free", dealloc_fn),
        ("reserved_ptr", c_void_p),
    ]


class EngineOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("arena_bytes", c_uint64),
        ("device_bytes", c_uint64),
        ("n_threads", c_uint32),
        ("reserved", c_uint32),
        ("device", c_char_p),
        ("allocator", POINTER(Allocator)),
        ("log", log_fn),
        ("log_user", c_void_p),
        ("cuda_stream", c_void_p),
        ("reserved_ptr", c_void_p),
    ]


class Progress(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("state", c_uint32),
        ("step", c_uint64),
        ("n_steps", c_uint64),
        ("elapsed_ns", c_uint64),
    ]


class Preview(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("first_sample", c_uint64),
        ("n_samples", c_uint64),
        ("step", c_uint64),
    ]


class JobOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("seed", c_uint64),
        ("first_sample", c_uint64),
        ("n_samples", c_uint64),
        ("n_steps", c_uint32),
        ("preview_every", c_uint32),
        ("n_inputs", c_uint32),
        ("reserved", c_uint32),
        ("input_names", POINTER(c_char_p)),
        ("inputs", POINTER(c_void_p)),
        ("progress", progress_fn),
        ("user", c_void_p),
    ]


class SimulateOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("seed", c_uint64),
        ("first_sample", c_uint64),
        ("n_samples", c_uint64),
        ("n_times", c_uint32),
        ("substeps", c_uint32),
        ("process", c_char_p),
        ("times", POINTER(c_double)),
        ("x0", c_void_p),
        ("keep", POINTER(c_uint32)),
        ("n_keep", c_uint32),
        ("reserved", c_uint32),
    ]


class EvalOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("n_inputs", c_uint32),
        ("n_outputs", c_uint32),
        ("slot", c_char_p),
        ("input_names", POINTER(c_char_p)),
        ("inputs", POINTER(c_void_p)),
        ("output_names", POINTER(c_char_p)),
    ]


class ScoreOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("n_inputs", c_uint32),
        ("n_steps", c_uint32),
        ("n_probes", c_uint32),
        ("reserved", c_uint32),
        ("seed", c_uint64),
        ("first_sample", c_uint64),
        ("input_names", POINTER(c_char_p)),
        ("inputs", POINTER(c_void_p)),
    ]


class Training(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("step", c_uint64),
        ("n_steps", c_uint64),
        ("loss", c_double),
        ("norm", c_double),
        ("rate", c_double),
    ]


class TrainerOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("n_tables", c_uint32),
        ("reserved", c_uint32),
        ("table_names", POINTER(c_char_p)),
        ("tables", POINTER(c_void_p)),
    ]


class RolloutOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("n_inputs", c_uint32),
        ("reserved", c_uint32),
        ("input_names", POINTER(c_char_p)),
        ("inputs", POINTER(c_void_p)),
    ]


class Reward(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("values", c_void_p),
        ("valid", c_void_p),
        ("n_grads", c_uint32),
        ("reserved", c_uint32),
        ("grad_names", POINTER(c_char_p)),
        ("grads", POINTER(c_void_p)),
    ]


# Name in the header -> mirror.
STRUCTS: Dict[str, Type[ctypes.Structure]] = {
    "dfx_error": Error,
    "dfx_desc": Desc,
    "dfx_allocator": Allocator,
    "dfx_engine_options": EngineOptions,
    "dfx_progress": Progress,
    "dfx_job_options": JobOptions,
    "dfx_preview": Preview,
    "dfx_simulate_options": SimulateOptions,
    "dfx_eval_options": EvalOptions,
    "dfx_score_options": ScoreOptions,
    "dfx_training": Training,
    "dfx_trainer_options": TrainerOptions,
    "dfx_rollout_options": RolloutOptions,
    "dfx_reward": Reward,
}

_h = c_void_p  # a handle, or anything opaque
_out = POINTER(c_void_p)
_str_out = POINTER(c_char_p)
_err = POINTER(Error)

# Name -> (result, arguments). Functions that return a status are found by their last argument, a dfx_error.
FUNCTIONS: Dict[str, Tuple[Any, List[Any]]] = {
    "dfx_api_version": (c_uint32, []),
    "dfx_version_string": (c_char_p, []),
    "dfx_has_feature": (c_int32, [c_char_p]),
    "dfx_extension": (c_void_p, [c_char_p]),
    "dfx_status_name": (c_char_p, [c_int32]),
    "dfx_engine_create": (c_int32, [POINTER(EngineOptions), _out, _err]),
    "dfx_engine_release": (None, [_h]),
    "dfx_engine_pump": (c_int32, [_h, c_uint32]),
    "dfx_engine_memory": (c_int32, [_h, POINTER(c_uint64), POINTER(c_uint64), _err]),
    "dfx_plugin_register": (c_int32, [_h, c_void_p, _err]),
    "dfx_plugin_load": (c_int32, [_h, c_char_p, c_char_p, _err]),
    "dfx_factory_count": (c_uint32, [_h]),
    "dfx_factory_json": (c_int32, [_h, c_uint32, _str_out, _err]),
    "dfx_model_open": (c_int32, [_h, c_char_p, c_char_p, _out, _err]),
    "dfx_model_release": (None, [_h]),
    "dfx_model_json": (c_int32, [_h, _str_out, _err]),
    "dfx_pipeline_create": (c_int32, [_h, c_char_p, _out, _err]),
    "dfx_pipeline_release": (None, [_h]),
    "dfx_pipeline_save": (c_int32, [_h, c_char_p, _err]),
    "dfx_pipeline_plan": (c_int32, [_h, POINTER(JobOptions), POINTER(c_uint64), _err]),
    "dfx_pipeline_pilot": (c_int32, [_h, POINTER(JobOptions), _str_out, _err]),
    "dfx_job_start": (c_int32, [_h, POINTER(JobOptions), _out, _err]),
    "dfx_job_resume": (c_int32, [_h, c_char_p, POINTER(JobOptions), _out, _err]),
    "dfx_job_poll": (c_int32, [_h, POINTER(Progress), _err]),
    "dfx_job_wait": (c_int32, [_h, c_uint64, _err]),
    "dfx_job_cancel": (None, [_h]),
    "dfx_job_preview": (c_int32, [_h, c_char_p, _out, _err]),
    "dfx_job_preview_at": (c_int32, [_h, c_char_p, POINTER(Preview), _out, _err]),
    "dfx_job_save": (c_int32, [_h, c_char_p, _err]),
    "dfx_job_result": (c_int32, [_h, c_char_p, _out, _err]),
    "dfx_job_release": (None, [_h]),
    "dfx_tensor_create": (c_int32, [_h, POINTER(Desc), c_void_p, _out, _err]),
    "dfx_tensor_wrap": (c_int32, [_h, POINTER(Desc), c_void_p, free_fn, c_void_p, _out, _err]),
    "dfx_tensor_from_dlpack": (c_int32, [_h, c_void_p, c_void_p, _out, _err]),
    "dfx_tensor_to_dlpack": (c_int32, [_h, c_void_p, _out, _err]),
    "dfx_tensor_map": (c_int32, [_h, _out, POINTER(c_size_t), _err]),
    "dfx_tensor_desc": (c_int32, [_h, POINTER(Desc), _err]),
    "dfx_tensor_retain": (None, [_h]),
    "dfx_tensor_release": (None, [_h]),
    "dfx_simulate": (c_int32, [_h, POINTER(SimulateOptions), _out, _err]),
    "dfx_pipeline_eval": (c_int32, [_h, POINTER(EvalOptions), _out, _err]),
    "dfx_pipeline_score": (c_int32, [_h, POINTER(ScoreOptions), _out, _err]),
    "dfx_trainer_create": (c_int32, [_h, c_char_p, POINTER(TrainerOptions), _out, _err]),
    "dfx_trainer_release": (None, [_h]),
    "dfx_trainer_plan": (c_int32, [_h, c_char_p, POINTER(TrainerOptions), POINTER(c_uint64), _err]),
    "dfx_trainer_step": (c_int32, [_h, c_uint32, POINTER(Training), _err]),
    "dfx_trainer_measure": (c_int32, [_h, POINTER(Training), _err]),
    "dfx_trainer_metric_count": (c_uint32, [_h]),
    "dfx_trainer_metric_name": (c_int32, [_h, c_uint32, _str_out, _err]),
    "dfx_trainer_metric": (c_int32, [_h, c_char_p, POINTER(c_double), _err]),
    "dfx_trainer_checkpoint": (c_int32, [_h, c_char_p, _err]),
    "dfx_trainer_resume": (c_int32, [_h, c_char_p, _err]),
    "dfx_trainer_save": (c_int32, [_h, c_char_p, _err]),
    "dfx_tuner_create": (c_int32, [_h, c_char_p, _out, _err]),
    "dfx_tuner_release": (None, [_h]),
    "dfx_tuner_plan": (c_int32, [_h, c_char_p, POINTER(c_uint64), _err]),
    "dfx_tuner_json": (c_int32, [_h, _str_out, _err]),
    "dfx_tuner_rollout": (c_int32, [_h, POINTER(RolloutOptions), _err]),
    "dfx_tuner_result": (c_int32, [_h, c_char_p, _out, _err]),
    "dfx_tuner_reward": (c_int32, [_h, POINTER(Reward), _err]),
    "dfx_tuner_update": (c_int32, [_h, c_uint32, POINTER(Training), _err]),
    "dfx_tuner_metric_count": (c_uint32, [_h]),
    "dfx_tuner_metric_name": (c_int32, [_h, c_uint32, _str_out, _err]),
    "dfx_tuner_metric": (c_int32, [_h, c_char_p, POINTER(c_double), _err]),
    "dfx_tuner_checkpoint": (c_int32, [_h, c_char_p, _err]),
    "dfx_tuner_resume": (c_int32, [_h, c_char_p, _err]),
    "dfx_tuner_save": (c_int32, [_h, c_char_p, _err]),
}
