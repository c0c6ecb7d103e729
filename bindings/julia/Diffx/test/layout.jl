# Every mirrored struct, field by field, against what a C compiler makes of diffx.h.

include_folder() = get(ENV, "DIFFX_INCLUDE", normpath(joinpath(@__DIR__, "../../../../include")))

function c_program()
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include \"diffx.h\"", "int main(void) {"]
    for (c, type) in Diffx.LAYOUT
        push!(lines, "printf(\"$c %lu\\n\", (unsigned long)sizeof($c));")
        for field in fieldnames(type)
            size = "sizeof((($c *)0)->$field)"
            push!(lines, "printf(\"$c.$field %lu %lu\\n\", (unsigned long)offsetof($c, $field), (unsigned long)$size);")
        end
    end
    return join([lines; "return 0; }"], "\n") * "\n"
end

function julia_layout()
    lines = String[]
    for (c, type) in Diffx.LAYOUT
        push!(lines, "$c $(sizeof(type))")
        for (i, field) in enumerate(fieldnames(type))
            push!(lines, "$c.$field $(fieldoffset(type, i)) $(sizeof(fieldtype(type, i)))")
        end
    end
    return lines
end

@testset "layout" begin
    compiler = get(ENV, "CC", "cc")
    if Sys.which(compiler) === nothing || !isfile(joinpath(include_folder(), "diffx.h"))
        println("skipped: layout of Julia's structs: no compiler $compiler or no diffx.h in $(include_folder())")
    else
        source, program = file("layout.c"), file("layout")
        write(source, c_program())
        run(`$compiler -std=c99 -I$(include_folder()) $source -o $program`)
        ours = julia_layout()
        @test readlines(`$program`) == ours
        @test length(ours) > 80
        # every struct of the header that a call takes is mirrored, or named here as not used
        header = read(joinpath(include_folder(), "diffx.h"), String)
        structs = Set(m[1] for m in eachmatch(r"^\} (dfx_\w+);"m, header))
        @test setdiff(structs, Set(first.(collect(Diffx.LAYOUT)))) == Set(["dfx_allocator"])
    end
end

@testset "text and numbers" begin
    @test Diffx.json((a = 1, b = [1.5, 2], c = "x\"\\\n", d = nothing, e = true)) ==
          "{\"a\":1,\"b\":[1.5,2.0],\"c\":\"x\\\"\\\\\\u000a\",\"d\":null,\"e\":true}"
    @test Diffx.json(Dict("k" => (:s, 2))) == "{\"k\":[\"s\",2]}"
    @test Diffx.json("{}") == "{}"
    @test_throws ArgumentError Diffx.json((a = Inf,))
    @test setting("cir"; kappa = 1.0) == "cir:{\"kappa\":1.0}"
    @test setting("cir") == "cir"
    @test Diffx.version() isa String
    @test any(occursin("org.diffx.cir", text) for text in factories())
end
