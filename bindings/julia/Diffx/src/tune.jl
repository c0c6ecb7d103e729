# Tuning by rewards: diffx draws, Julia judges, diffx updates. The reward is an ordinary function, called between two calls.

"""
    Tuner(model; objective, rollout, rounds, samples, group, ..., engine)
    Tuner(model, json)

What tunes a model by rewards; the keywords are the keys of a tuning config (docs/json.md). `model` is a `Model` or a name.
"""
mutable struct Tuner <: Handle
    ptr::Ptr{Cvoid}
    engine::Engine
    float::DataType                         # of samples, conditions and gradients
end

function Tuner(m::Model, config::AbstractString)
    out = Ref(C_NULL)
    @ok dfx_tuner_create(m::Ptr{Cvoid}, config::Cstring, out::Handles)
    t = adopt(Tuner(out[], m.engine, Float32))
    occursin(r"\"dtype\"\s*:\s*\"f64\"", info(t)) && (t.float = Float64)
    return t
end
Tuner(m::Model; config...) = Tuner(m, json((; config...)))

function Tuner(path::AbstractString; engine::Engine = own_engine(), config...)
    m = Model(path; engine = engine)
    try
        return Tuner(m, json((; config...)))
    finally
        close(m)                            # a tuner keeps what it needs
    end
end

function Base.close(t::Tuner)
    ptr = take!!(t)
    ptr == C_NULL || @dfx dfx_tuner_release(ptr::Ptr{Cvoid})::Cvoid
    return nothing
end

"Where a tuner stands and what it wants, as JSON: samples, group, rounds, round, updates, left, rewards, gradient, dtype, metrics."
function info(t::Tuner)
    out = Ref(Ptr{UInt8}(C_NULL))
    @ok dfx_tuner_json(t::Ptr{Cvoid}, out::Ptr{Ptr{UInt8}})
    return GC.@preserve t unsafe_string(out[])
end

# A number of that JSON, which diffx writes without nesting.
function standing(t::Tuner, key)
    found = match(Regex("\"$key\"\\s*:\\s*(\\d+)"), info(t))
    found === nothing && throw(DiffxError(E_NOT_FOUND, "a tuner says nothing of $key", 0))
    return parse(Int, found[1])
end

"Draws the samples of the next round. Conditions by name: one value, one per group or one per sample along the last axis."
function rollout!(t::Tuner; conditions...)
    given = named(values(conditions), t.float, t.engine)
    GC.@preserve given begin
        options = Ref(filled(CRolloutOptions;
            n_inputs = length(given.names), input_names = pointer(given.name_pointers),
            inputs = pointer(given.tensor_pointers)))
        @ok dfx_tuner_rollout(t::Ptr{Cvoid}, options::Ptr{CRolloutOptions})
    end
end

"A part of the rollout by name (`\"x\"`, `\"log_weight\"`, `\"states.x\"`); without a name the first component."
result(t::Tuner, name::AbstractString) = fetch_tensor(t) do out
    @ok dfx_tuner_result(t::Ptr{Cvoid}, name::Cstring, out::Handles)
end
result(t::Tuner) = fetch_tensor(t) do out
    @ok dfx_tuner_result(t::Ptr{Cvoid}, C_NULL::Ptr{Cvoid}, out::Handles)
end

"""
    reward!(tuner, rewards; gradients = (;))

The word on the samples of this round, larger is better: a number for each, or a matrix whose columns are the samples. A
`missing` says that there is none. `gradients` are those of the first reward by the samples, by component: `(x = g,)`.
"""
function reward!(t::Tuner, rewards::AbstractArray; gradients = NamedTuple())
    rows = ndims(rewards) == 1 ? reshape(rewards, 1, :) : rewards
    known = [!any(ismissing, view(rows, :, i)) for i in axes(rows, 2)]
    numbers = Float64[ismissing(r) ? 0.0 : r for r in rewards]
    tensors = Any[Tensor(numbers; engine = t.engine), Tensor(known; engine = t.engine)]
    given = named(gradients, t.float, t.engine)
    GC.@preserve tensors given begin
        word = Ref(filled(CReward;
            values = handle(tensors[1]), valid = handle(tensors[2]), n_grads = length(given.names),
            grad_names = pointer(given.name_pointers), grads = pointer(given.tensor_pointers)))
        @ok dfx_tuner_reward(t::Ptr{Cvoid}, word::Ptr{CReward})
    end
end

"`n` more updates, at most to the end of this round (0: to its end): `(step, n_steps, loss, norm, rate)`; a step is an update."
function update!(t::Tuner, n::Integer = 0)
    out = Ref(filled(CTraining))
    @ok dfx_tuner_update(t::Ptr{Cvoid}, n::UInt32, out::Ptr{CTraining})
    return state(out[])
end

"""
    tune!(reward, tuner; progress = nothing, conditions = nothing)

Plays all rounds that are left. `reward` gets the samples of a round as an array whose last axis counts them and gives a number
for each (`missing`: none), or a pair `rewards => gradient` where the objective wants the gradient:

    tune!(t; progress = true) do x
        vec(sum(x; dims = 1))
    end

`conditions` is a function of the round that gives the conditions of its samples by name. `progress` gets
`(round, n_rounds, reward, step, n_steps, loss, norm, rate)` after each round; when it returns `false` tuning stops there.
"""
function tune!(reward, t::Tuner; progress = nothing, conditions = nothing)
    report = reporter(progress)
    rounds = standing(t, "rounds")
    at = nothing
    while (round = standing(t, "round")) < rounds
        rollout!(t; (conditions === nothing ? NamedTuple() : conditions(round + 1))...)
        x = result(t)
        word = reward(x)
        word isa Pair ? reward!(t, word.first; gradients = (x = word.second,)) : reward!(t, word)
        local training
        while true                          # one at a time, so that an interrupt or another task gets its turn
            training = update!(t, 1)
            standing(t, "round") > round && break
            yield()
        end
        at = merge((round = round + 1, n_rounds = rounds, reward = metric(t, "reward")), training)
        report(at) === false && return at
        yield()
    end
    return at
end

"A metric of the last update: \"reward\" and \"valid\" of the round, and those of the objective."
function metric(t::Tuner, key::AbstractString)
    value = Ref(0.0)
    @ok dfx_tuner_metric(t::Ptr{Cvoid}, key::Cstring, value::Ptr{Float64})
    return value[]
end

function metrics(t::Tuner)
    n = Int(@dfx dfx_tuner_metric_count(t::Ptr{Cvoid})::UInt32)
    return Dict(map(0:n-1) do i
        text = Ref(Ptr{UInt8}(C_NULL))
        @ok dfx_tuner_metric_name(t::Ptr{Cvoid}, i::UInt32, text::Ptr{Ptr{UInt8}})
        key = GC.@preserve t unsafe_string(text[])
        key => metric(t, key)
    end)
end

"Between rounds: writes everything tuning needs to go on with the same bits, for the same rewards."
checkpoint(t::Tuner, path::AbstractString) = @ok dfx_tuner_checkpoint(t::Ptr{Cvoid}, path::Cstring)

"Goes on from what `checkpoint` wrote."
resume!(t::Tuner, path::AbstractString) = @ok dfx_tuner_resume(t::Ptr{Cvoid}, path::Cstring)

"Writes the model as it is now, for `Model`."
save(t::Tuner, path::AbstractString) = @ok dfx_tuner_save(t::Ptr{Cvoid}, path::Cstring)
