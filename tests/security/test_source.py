"""What the source must not hold, read from its syntax: a promise about all of it, whoever writes the next file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODULES = {
    "pickle": "bytes that are read must never be a program",
    "marshal": "bytes that are read must never be a program",
    "shelve": "it is pickle",
    "dill": "it is pickle",
    "commands": "it is a shell",
    "pty": "it runs programs on a terminal, past `apps/exec.py`",
    "xml": "its parsers expand entities",
    "yaml": "its loader makes objects",
    "telnetlib": "it has no encryption",
    "ftplib": "it has no encryption",
}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"}
CALLS |= {"asyncio.create_subprocess_shell", "ssl._create_unverified_context", "ssl.wrap_socket"}
NAMES = {"CERT_NONE", "CERT_OPTIONAL", "check_hostname", "verify_mode"}

ALLOWED = {
    ("agentwatch/apps/exec.py", "pty"): "the recorder gives an agent a terminal",
}
"""By file and what it uses: why it may."""


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is one, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) and dotted(node.value) else ""


def findings(path: Path, place: str) -> Iterator[str]:
    """A line for each use of what is forbidden."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        used: list[str] = []
        match node:
            case ast.Import(names=names):
                used = [alias.name.split(".")[0] for alias in names if alias.name.split(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module), level=0):
                used = [module.split(".")[0]] if module.split(".")[0] in MODULES else []
            case ast.Call(func=func, keywords=keywords):
                used = [dotted(func)] if dotted(func) in CALLS else []
                for one in keywords:
                    is_off = isinstance(one.value, ast.Constant) and one.value.value is False
                    is_on = not (isinstance(one.value, ast.Constant) and one.value.value is False)
                    if (one.arg == "shell" and is_on) or (one.arg == "verify" and is_off):
                        used.append(f"{one.arg}=")
            case ast.Attribute(attr=attr) if attr in NAMES:
                used = [attr]
        yield from (f"{place}:{getattr(node, 'lineno', 0)}: {name}" for name in used if (place, name) not in ALLOWED)


def test_no_file_of_the_package_has_a_shell_a_pickle_an_eval_or_a_blind_eye_for_certificates():
    """None at all; what is allowed is allowed in one file, for a reason."""
    found = [line for path in sorted((ROOT / "agentwatch").rglob("*.py")) for line in findings(path, str(path.relative_to(ROOT)))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import xml.etree.ElementTree",
        "eval('1')",
        "import os\nos.system('x')",
        "import subprocess\nsubprocess.run('x', shell=True)",
        "import subprocess\nsubprocess.run('x', shell=flag)",
        "import asyncio\nasyncio.create_subprocess_shell('x')",
        "import httpx\nhttpx.get('x', verify=False)",
        "context.check_hostname = False",
        "context.verify_mode = ssl.CERT_NONE",
    ],
)
def test_the_look_sees_each_of_them(tmp_path, source):
    """A check that cannot fail would be none."""
    path = tmp_path / "x.py"
    path.write_text(source)
    assert list(findings(path, "x.py"))


@pytest.mark.parametrize(
    "source", ["import subprocess\nsubprocess.run(['x'], shell=False)", "re.compile('x')", "import ssl\nssl.create_default_context()", "self.exec('x')"]
)
def test_what_is_harmless_is_let_through(tmp_path, source):
    """A regular expression is compiled, and that is no code."""
    path = tmp_path / "x.py"
    path.write_text(source)
    assert list(findings(path, "x.py")) == []


def test_secrets_are_recognised_in_one_place():
    """`[REDACTED:` is written by `core/text.py` alone: two rules of what is a secret would be two holes."""
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "agentwatch").rglob("*.py"))
        if any(isinstance(node, ast.JoinedStr) and "[REDACTED:" in ast.unparse(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    ]
    assert found == ["agentwatch/core/text.py"]


def test_every_parser_of_what_others_write_is_fuzzed():
    """Lines, formats and documents by the registry; alerts, taps, callbacks and rule files by name."""
    targets = {path.stem for path in (ROOT / "fuzz").glob("*.py")} - {"target"}
    made = (ROOT / "Makefile").read_text().partition("for target in ")[2].partition(";")[0].split()
    assert targets == set(made)
    for name, needle in {"lines": "read_turn", "formats": "FORMATS", "wholes": "CONTAINERS", "outside": "received", "rules": "read_file"}.items():
        assert needle in (ROOT / "fuzz" / f"{name}.py").read_text(), name
