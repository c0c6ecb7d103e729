"""The mirrors in ``diffx._abi`` against the header, by a C compiler and by its prototypes."""

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from ctypes import POINTER, c_char_p, c_double, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

import diffx
from diffx import _abi, _errors

HEADER = os.path.join(os.path.dirname(__file__), "..", "..", "..", "include", "diffx.h")


def header() -> str:
    with open(HEADER, encoding="utf-8") as f:
        return f.read()


def bare() -> str:
    """The header without comments and preprocessor lines."""
    text = re.sub(r"/\*.*?\*/", "", header(), flags=re.S)
    return re.sub(r"^[ \t]*#.*(\\\n.*)*$", "", text, flags=re.M)


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.lower().split("_"))


@unittest.skipUnless(os.path.isfile(HEADER), "skipped: the header is not beside this package")
class Layout(unittest.TestCase):
    def test_every_struct_has_the_layout_of_c(self) -> None:
        cc = os.environ.get("CC", "cc")
        if not shutil.which(cc):
            self.skipTest(f"skipped: no C compiler {cc}")
        lines = []
        for name, mirror in _abi.STRUCTS.items():
            lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
            for field, _ in mirror._fields_:
                lines.append(
                    f'printf("{name}.{field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));'
                )
        constants = [n for n in dir(_abi) if n.isupper() and isinstance(getattr(_abi, n), int)]
        for name in constants:
            lines.append(f'printf("DFX_{name} %lld\\n", (long long)DFX_{name});')
        source = '#include "diffx.h"\n#include <stdio.h>\nint main(void) {\n' + "\n".join(lines) + "\nreturn 0; }\n"
        with tempfile.TemporaryDirectory() as folder:
            file, program = os.path.join(folder, "layout.c"), os.path.join(folder, "layout")
            with open(file, "w", encoding="utf-8") as f:
                f.write(source)
            subprocess.run([cc, "-I", os.path.dirname(HEADER), file, "-o", program], check=True)
            said = subprocess.run([program], check=True, stdout=subprocess.PIPE).stdout.decode()
        expected = []
        for name, mirror in _abi.STRUCTS.items():
            expected.append(f"{name} {ctypes.sizeof(mirror)}")
            for field, _ in mirror._fields_:
                at = getattr(mirror, field)
                expected.append(f"{name}.{field} {at.offset} {at.size}")
        expected += [f"DFX_{n} {getattr(_abi, n)}" for n in constants]
        self.assertEqual(said.split("\n")[:-1], expected)

    def test_every_struct_and_field_of_the_header_is_mirrored(self) -> None:
        found = {}
        for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", bare(), flags=re.S):
            fields = []
            for part in body.split(";"):
                callback = re.search(r"\(DFX_CALL \*(\w+)\)", part)
                last = callback.group(1) if callback else re.sub(r"\[\w+\]", "", part).split()[-1:]
                fields += [last] if callback else [w.lstrip("*") for w in last]
            found[name] = fields
        self.assertGreater(len(found), 8)
        self.assertEqual(found, {n: [f for f, _ in m._fields_] for n, m in _abi.STRUCTS.items()})

    def test_every_constant_is_mirrored(self) -> None:
        names = re.findall(r"^#define DFX_([A-Z0-9_]+) +\(?-?\d", header(), flags=re.M)
        self.assertGreater(len(names), 30)
        self.assertEqual([n for n in names if not hasattr(_abi, n)], [])

    def test_every_status_has_its_exception(self) -> None:
        codes = dict(re.findall(r"^#define DFX_E_([A-Z_]+) +\((-\d+)\)", header(), flags=re.M))
        self.assertEqual({int(v): camel(k) for k, v in codes.items()}, {s: c.__name__ for s, c in _errors.BY_STATUS.items()})
        for status, kind in _errors.BY_STATUS.items():
            e = _errors.from_status(status, "why", 3)
            self.assertIs(type(e), kind)
            self.assertIs(getattr(diffx, kind.__name__), kind)
            self.assertEqual((e.status, e.source, str(e)), (status, 3, "why"))
        self.assertIs(type(_errors.from_status(-99, "new")), diffx.Error)

    def test_every_prototype_is_bound_with_its_types(self) -> None:
        found = {}
        for result, name, arguments in re.findall(r"DFX_API ([\w \*]+?)\s*(\w+)\((.*?)\);", bare(), flags=re.S):
            arguments = [] if arguments.strip() == "void" else [a.strip() for a in arguments.split(",")]
            found[name] = (c_type(result, True), [c_type(a) for a in arguments])
        self.assertGreater(len(found), 40)
        for name in found:
            self.assertIn(name, _abi.FUNCTIONS)
            self.assertEqual(found[name], _abi.FUNCTIONS[name], name)
        self.assertEqual(sorted(found), sorted(_abi.FUNCTIONS))


SCALARS = {
    "void": None,
    "dfx_status": c_int32,
    "int32_t": c_int32,
    "uint32_t": c_uint32,
    "uint64_t": c_uint64,
    "size_t": c_size_t,
    "double": c_double,
    "dfx_free_fn": _abi.free_fn,
}


def c_type(text: str, result: bool = False):  # type: ignore[no-untyped-def]
    """What ctypes says for ``const char *name``."""
    words = re.sub(r"\bconst\b|\bstruct\b", " ", text)
    stars = words.count("*")
    base, *rest = words.replace("*", " ").split()
    assert result or len(rest) == 1, text
    if stars == 0:
        return SCALARS[base]
    if base == "char":
        return c_char_p if stars == 1 else POINTER(c_char_p)
    if stars == 2:
        return POINTER(c_void_p)
    if base in _abi.STRUCTS:
        return POINTER(_abi.STRUCTS[base])
    if base in SCALARS and base != "void":
        return POINTER(SCALARS[base])
    return c_void_p


if __name__ == "__main__":
    unittest.main()
