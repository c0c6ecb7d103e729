# Training: a recipe, tables from memory, steps.

"""
    Trainer(recipe; engine, tables...)
    Trainer(; engine, tables = (x = data,), model = "mlp", process = "cir", steps = 1000, ...)

What trains a model. A recipe is JSON text, a named tuple or a dictionary, with the keys of docs/json.md. Tables are arrays
whose last axis counts examples: components of the state (`x`), conditions and labels by name, `held_out.x` as a pair
`Symbol("held_out.x") => data`. Without tables the recipe's `data` says where the data is.
"""
mutable struct Trainer <: Handle
    ptr::Ptr{Cvoid}
end

function with_tables(f, tables, engine)
    given = named(tables, nothing, engine)
    GC.@preserve given begin
        options = Ref(filled(CTrainerOptions;
            n_tables = length(given.names), table_names = pointer(given.name_pointers),
            tables = pointer(given.tensor_pointers)))
        return f(options)
    end
end

function Trainer(recipe::Union{AbstractString,NamedTuple,AbstractDict}; engine::Engine = own_engine(), tables...)
    with_tables(values(tables), engine) do o
        out = Ref(C_NULL)
        @ok dfx_trainer_create(engine::Ptr{Cvoid}, json(recipe)::Cstring, o::Ptr{CTrainerOptions}, out::Handles)
        return adopt(Trainer(out[]))
    end
end
Trainer(; engine::Engine = own_engine(), tables = NamedTuple(), recipe...) =
    Trainer(json((; recipe...)); engine = engine, tables...)

function Base.close(t::Trainer)
    ptr = take!!(t)
    ptr == C_NULL || @dfx dfx_trainer_release(ptr::Ptr{Cvoid})::Cvoid
    return nothing
end

state(c::CTraining) = (step = Int(c.step), n_steps = Int(c.n_steps), loss = c.loss, norm = c.norm, rate = c.rate)

"""
    step!(trainer, n = 1)

Up to `n` more steps: `(step, n_steps, loss, norm, rate)`. At the end none are left.
"""
function step!(t::Trainer, n::Integer = 1)
    out = Ref(filled(CTraining))
    @ok dfx_trainer_step(t::Ptr{Cvoid}, n::UInt32, out::Ptr{CTraining})
    return state(out[])
end

const LONGEST_CALL = 0.05                   # seconds in C at a time

"""
    train!(trainer; progress = nothing)

Trains to the end of the recipe. `progress` is a function of what `step!` gives, called between steps every few
hundredths of a second; when it returns `false` training stops there. With `progress = true` a line is kept up to date.
"""
function train!(t::Trainer; progress = nothing)
    report, n = reporter(progress), 1
    while true
        began = time()
        at = step!(t, n)
        report(at) === false && return at
        at.step >= at.n_steps && return at
        took = time() - began
        n = took > LONGEST_CALL ? max(1, n ÷ 2) : took < LONGEST_CALL / 4 ? min(2n, 1 << 20) : n
        yield()
    end
end

"The loss on held-out data, in the same form as `step!`."
function measure(t::Trainer)
    out = Ref(filled(CTraining))
    @ok dfx_trainer_measure(t::Ptr{Cvoid}, out::Ptr{CTraining})
    return state(out[])
end

"The metrics of the objective at the last step, by name."
function metrics(t::Trainer)
    n = Int(@dfx dfx_trainer_metric_count(t::Ptr{Cvoid})::UInt32)
    return Dict(map(0:n-1) do i
        text, value = Ref(Ptr{UInt8}(C_NULL)), Ref(0.0)
        @ok dfx_trainer_metric_name(t::Ptr{Cvoid}, i::UInt32, text::Ptr{Ptr{UInt8}})
        key = GC.@preserve t unsafe_string(text[])
        @ok dfx_trainer_metric(t::Ptr{Cvoid}, key::Cstring, value::Ptr{Float64})
        key => value[]
    end)
end

"Writes everything training needs to go on with the same bits."
checkpoint(t::Trainer, path::AbstractString) = @ok dfx_trainer_checkpoint(t::Ptr{Cvoid}, path::Cstring)

"Goes on from what `checkpoint` wrote."
resume!(t::Trainer, path::AbstractString) = @ok dfx_trainer_resume(t::Ptr{Cvoid}, path::Cstring)

"Writes the model as it is now, for `Model`."
save(t::Trainer, path::AbstractString) = @ok dfx_trainer_save(t::Ptr{Cvoid}, path::Cstring)
