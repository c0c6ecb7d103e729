# Interest-rate scenarios: a year of monthly rates whose law is known, learned by a small diffusion model from examples alone.
#
#     julia --project=bindings/julia/Diffx bindings/julia/Diffx/examples/cir_scenarios.jl [PATHS [STEPS]]
#
# The rates follow CIR from 3 %: dX = kappa (theta - X) dt + sigma √X dW. diffx draws them exactly (a column is a path), trains
# a network on them under a noise process that is positive itself, and the model's own years are laid beside the true ones.
using Diffx
using Printf

const MONTHS = 12
const PROCESS = setting("cir"; kappa = 0.5, theta = 0.04, sigma = 0.12)

years(n, seed) = simulate(PROCESS; times = (1:MONTHS) ./ 12, x0 = 0.03, n = n, seed = seed)

examples(n, seed) = Float32.(100 .* years(n, seed))        # in per cent, a column for each year

function learned(data; steps, progress)
    t = Trainer(; tables = (x = data,), model = setting("mlp"; width = 64, depth = 2), process = "cir", steps = steps,
        batch = 256, rate = 0.003, seed = 1)
    train!(t; progress = progress)
    path = joinpath(mktempdir(), "rates.safetensors")
    save(t, path)
    return path
end

quantiles(v, ps) = (s = sort(v); [s[clamp(round(Int, p * length(s)), 1, length(s))] for p in ps])

# Rows of (what, quantile, true, learned).
function compare(data, drawn)
    ps = (0.05, 0.5, 0.95)
    parts = Pair{String,Function}["month $m" => x -> x[m, :] for m in (3, 6, 12)]
    push!(parts, "highest of the year" => x -> vec(maximum(x; dims = 1)))
    push!(parts, "lowest of the year" => x -> vec(minimum(x; dims = 1)))
    push!(parts, "change in the last month" => x -> x[12, :] .- x[11, :])
    return [(name, p, a, b) for (name, part) in parts for (p, a, b) in zip(ps, quantiles(part(data), ps), quantiles(part(drawn), ps))]
end

const EVENT = "last(x) >= 7"

# P(event | a noisy year), learned from examples; they cost nothing here, and the event is in few of them.
function chance(data; steps, progress)
    t = Trainer(; tables = (x = data,), model = setting("mlp"; width = 64, depth = 2, predicts = "value", out = 1), process = "cir",
        objective = setting("cdg"; event = EVENT), steps = steps, batch = 256, rate = 0.003, seed = 2)
    train!(t; progress = progress)
    path = joinpath(mktempdir(), "chance.safetensors")
    save(t, path)
    return path
end

# The model's years given the event, by Doob's h-transform, and its probability: the mean weight.
function rare(model, h, n)
    p = Pipeline(model; sampler = "ancestral", steps = 64, guidance = ["doob" => (event = EVENT, h = "network")],
        networks = (h = (model = h,),))
    j = wait(start(p; n = n, seed = 4))
    feasible = findall(Array(result(j, "feasible")))
    return result(j)[:, feasible], sum(exp, result(j, "log_weight")) / n
end

function show_table(rows)
    @printf("%-26s %8s %10s %10s\n", "per cent", "quantile", "CIR", "learned")
    for (name, p, a, b) in rows
        @printf("%-26s %7.0f%% %10.3f %10.3f\n", name, 100p, a, b)
    end
end

function main(paths = 20_000, steps = 1500; progress = true)
    data = examples(paths, 1)
    model = learned(data; steps = steps, progress = progress)
    drawn = Array(sample(model; n = 5000, seed = 2, steps = 32))
    fresh = examples(5000, 3)                               # true years that were not trained on
    rows = compare(fresh, drawn)
    show_table(rows)

    many = examples(400_000, 5)
    picked = many[:, many[12, :] .>= 7]
    h = chance(examples(5paths, 6); steps = 2steps, progress = progress)
    given, probability = rare(model, h, 2000)
    share = size(picked, 2) / size(many, 2)
    @printf("\nyears that end at 7 %% or above: %.2f %% of them, by the model %.2f %%\n", 100share, 100probability)
    rare_rows = compare(picked, given)
    show_table(rare_rows)
    return (rows = rows, rare = rare_rows, share = share, probability = probability)
end

abspath(PROGRAM_FILE) == @__FILE__() && main(parse.(Int, ARGS)...)
