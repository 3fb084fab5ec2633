"""What users of wasmtime, docker and node type works here, or is answered with what to write."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from vfswasi.cli import main
from vfswasi.cli.arguments.environment import environment
from vfswasi.cli.arguments.preopens import preopens
from vfswasi.mounts.options import Mount

from ..guest_programs import compile_guest
from .running import refused, vfswasi

EMPTY = '(module (memory (export "memory") 1) (func (export "_start")))'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "empty.wat").write_text(EMPTY)
    (tmp_path / "x.csv").write_text("a,b\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "f").write_bytes(b"12345")
    (tmp_path / "out").mkdir()
    return tmp_path


# Without `run`


def test_a_program_runs_without_the_word_run(place: Path) -> None:
    hello = compile_guest("hello")
    done = vfswasi(hello, "run", "--help", cwd=place, status=3)
    assert done.stdout == f"arg 0: [{hello.name}]\narg 1: [run]\narg 2: [--help]\n"


def test_options_may_stand_before_a_program_without_run(place: Path) -> None:
    done = vfswasi("--env", "A=b", "-e", "C=d=e", compile_guest("hello"), cwd=place, status=1)
    assert "env: [A=b]\nenv: [C=d=e]\n" in done.stdout


def test_a_file_without_a_suffix_is_a_program_too(place: Path) -> None:
    (place / "prog").write_text(EMPTY)
    vfswasi("prog", cwd=place)
    (place / "run").write_text("no program")
    vfswasi("run", "prog", cwd=place)  # a command comes first, and ./run is the file
    assert "not a WebAssembly module" in refused("./run", cwd=place)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["rnu", "x.wasm"], "did you mean run?"),
        (["inspct", "x.wasm"], "did you mean inspect?"),
        (["serve", "x.wasm"], "no network"),
        (["validate", "x.wasm"], "vfswasi inspect"),
        (["frobnicate"], "there is no command 'frobnicate', nor a file of that name"),
    ],
)
def test_an_unknown_command_is_answered(words: list[str], answer: str, place: Path) -> None:
    line = refused(*words, cwd=place)
    assert answer in line
    assert line.endswith("(see vfswasi --help)")


def test_a_program_that_is_not_there_is_a_file_that_is_not_there(place: Path) -> None:
    assert refused("missing.wasm", "x", cwd=place) == "vfswasi: missing.wasm: No such file or directory"


def test_what_stands_behind_the_program_is_its_own(place: Path) -> None:
    done = vfswasi("run", "--", compile_guest("hello"), "--", "--nonsense", "-W", cwd=place, status=4)
    assert done.stdout.splitlines()[1:] == ["arg 1: [--]", "arg 2: [--nonsense]", "arg 3: [-W]"]


# Options that nobody knows


@pytest.mark.parametrize(
    ("words", "answer", "page"),
    [
        (["--dri=.", "empty.wat"], "did you mean --dir?", "run"),
        (["run", "--mou", "/d=mem:", "empty.wat"], "did you mean --mount?", "run"),
        (["run", "--time", "5", "empty.wat"], "did you mean --timeout?", "run"),
        (["--verison"], "did you mean --version?", "run"),
        (["run", "--limit", "memory=64M", "empty.wat"], "did you mean memory_bytes?", None),
        (["run", "--limit", "inode=64", "empty.wat"], "did you mean inodes?", None),
        (["run", "--mount", "/d=mem:,rww", "empty.wat"], "did you mean rw?", None),
        (["inspect", "--jsn", "empty.wat"], "did you mean --json?", "inspect"),
        (["mounts", "--dept=1", "in"], "did you mean --depth?", "mounts"),
        (["mounts", "--dep", "1", "in"], "did you mean --depth?", "mounts"),
        (["inspect", "--js", "empty.wat"], "did you mean --json?", "inspect"),
        (["run", "--tmp=x", "empty.wat"], "--tmp takes no value", "run"),
        (["run", "-xyz", "empty.wat"], "there is no option -x", "run"),
        (["run", "--timeout"], "expected one argument", "run"),
        (["run", "--\x1b[31m", "empty.wat"], r"--\x1b[31m", "run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_unknown_option_is_answered_with_the_nearest_and_the_right_page(
    words: list[str], answer: str, page: str | None, place: Path
) -> None:
    line = refused(*words, cwd=place)
    assert answer in line
    if page is not None:
        assert line.endswith(f"(see vfswasi {page} --help)")


FOREIGN = {
    "-W max-memory-size=67108864": "--limit memory_bytes=67108864",
    "-Wtimeout=5s": "--timeout 5s",
    "-W fuel=1000": "--limit fuel=1000",
    "--wasm=max-wasm-stack=1048576": "--limit stack_bytes=1048576",
    "--wasm max-memories=2": "--limit memories=2",
    "-W gc=y": "--feature gc",
    "-W fuel=7,timeout=1s": "--limit fuel=7; -W timeout: write --timeout 1s",
    "-W threads=y": "leave it out",
    "-W something-new=y": "leave it out",
    "-S inherit-env": "--env NAME",
    "-S preview2": "leave it out",
    "--wasi inherit-network=y": "no network",
    "-D debug-info": "leave it out",
    "-O opt-level=2": "leave it out",
    "--fuel 100": "--limit fuel=100",
    "--mapdir /g::h": "--mount GUEST=HOST",
    "--rm": "leave it out",
    "-it": "leave it out",
    "-w /data": "--cwd /data",
    "--workdir=/data": "--cwd /data",
    "--net=host": "no network",
    "--network host": "no network",
    "-p 80:80": "no network",
    "-m 64m": "--limit memory_bytes=64m",
    "--memory=64m": "--limit memory_bytes=64m",
    "--tmpfs /run": "--mount /run=mem:",
    "--read-only": "read-only",
    "--user 1000": "leave it out",
    "--entrypoint main": "--invoke",
    "--max-old-space-size=64": "--limit memory_bytes=64M",
    "--experimental-wasi-unstable-preview1": "leave it out",
    "--stack-size=8388608": "--limit stack_bytes=8388608",
    "-mount=.:/": "--mount GUEST=SOURCE",
    "--allow-read": "--mount",
}


@pytest.mark.parametrize("text", FOREIGN)
def test_options_of_other_runtimes_are_answered_with_what_to_write(
    text: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for words in (["run", *text.split(), "empty.wat"], [*text.split(), "empty.wat"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 125
        line = capsys.readouterr().err
        assert FOREIGN[text] in line
        assert line.count("\n") == 1
        assert line.endswith("(see vfswasi run --help)\n")


DOCKERS = {
    "type=bind,source=./corpus,target=/data": ("/data=./corpus,rw", "form of --mount; "),
    "type=bind,source=./corpus,target=/data,readonly": ("/data=./corpus", "form of --mount; "),
    "type=bind,src=./corpus,dst=/data,ro=true": ("/data=./corpus", "form of --mount; "),
    "src=./corpus,destination=/data,type=bind,readonly=false": ("/data=./corpus,rw", "form of --mount; "),
    "readonly,type=bind,source=s3://me:hunter2@b/x,target=/data": ("/data=s3://***@b/x", "form of --mount; "),
    "type=bind,target=/data": ("/data=HOST,rw", "form of --mount; "),
    "type=tmpfs,target=/scratch": ("/scratch=mem:", "form of --mount; "),
    "type=volume,source=v,target=/data": ("/data=HOST,rw", "there are no volumes here"),
    "source=v,target=/data": ("/data=HOST,rw", "there are no volumes here"),
}


@pytest.mark.parametrize("text", DOCKERS)
def test_dockers_form_of_a_mount_is_answered_with_what_to_write(
    text: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    written, why = DOCKERS[text]
    assert main(["run", "--mount", text, "empty.wat"]) == 125
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert why in line
    assert line.endswith(f"write --mount {written}\n")
    assert "hunter2" not in line


def test_what_is_no_form_of_dockers_is_a_mount_as_ever(place: Path) -> None:
    (place / "type").mkdir()
    for text in ("type=type", "source=type,rw", "/d=type,rw"):
        vfswasi("--mount", text, "empty.wat", cwd=place)


def test_what_is_to_be_written_works(place: Path) -> None:
    """The answers name options that there are."""
    vfswasi("--limit", "memory_bytes=64m", "--timeout", "5s", "--limit", "fuel=1000", "--mount", "/run=mem:",
            "--feature", "gc", "--limit", "stack_bytes=1048576", "empty.wat", cwd=place)  # fmt: skip


@pytest.mark.parametrize("option", ["--name=hunter2!", "-m=hunter2!", "--wasm-timeout=hunter2!", "-W", "-Wa=hunter2!"])
def test_answers_repeat_no_value_that_could_be_a_secret(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", option])
    assert "hunter2" not in capsys.readouterr().err


# Directories


def test_dir_is_wasmtimes_but_read_only(place: Path) -> None:
    seqread, seqwrite = compile_guest("seqread"), compile_guest("seqwrite")
    assert vfswasi("--dir", ".", seqread, "in/f", "5", cwd=place).stdout.startswith("5 ")
    assert vfswasi("--dir", "in", seqread, "in/f", "5", cwd=place).stdout.startswith("5 ")
    assert vfswasi("--dir=in::/data", seqread, "/data/f", "5", cwd=place).stdout.startswith("5 ")
    assert "Read-only" in vfswasi("--dir", ".", seqwrite, "new", "5", cwd=place, status=1).stderr
    vfswasi("--dir", "out::/o,rw", seqwrite, "/o/new", "5", cwd=place)
    assert (place / "out" / "new").stat().st_size == 5


def test_v_is_dockers_but_read_only(place: Path) -> None:
    seqread, seqwrite = compile_guest("seqread"), compile_guest("seqwrite")
    assert vfswasi("-v", "./in:/data", seqread, "/data/f", "5", cwd=place).stdout.startswith("5 ")
    assert vfswasi("-v./in:/data:ro", seqread, "/data/f", "5", cwd=place).stdout.startswith("5 ")
    assert "Read-only" in vfswasi("-v", f"{place}/out:/o", seqwrite, "/o/new", "5", cwd=place, status=1).stderr
    vfswasi("--volume", f"{place}/out:/o:rw", seqwrite, "/o/new", "7", cwd=place)
    assert (place / "out" / "new").stat().st_size == 7


def test_dir_and_v_and_mount_keep_their_order() -> None:
    given = [("-v", "a:/1:rw"), ("--dir", "b::2,overlap"), ("--mount", "/3=c"), ("--dir", "./d/../e")]
    found = preopens(given, tmp=True, dev=False)
    assert list(found.items()) == [
        ("/1", Mount("a", rw=True)),
        ("2", Mount(Path("b"), overlap=True)),
        ("/3", Mount("c")),
        ("e", Mount(Path("d/../e"))),
        ("/tmp", "mem:"),
    ]


@pytest.mark.parametrize(
    ("option", "text", "answer"),
    [
        ("-v", "/data", "HOST:GUEST"),
        ("-v", "a:", "HOST:GUEST"),
        ("-v", ":/a", "HOST:GUEST"),
        ("-v", "a:b", "HOST:GUEST"),
        ("-v", "a:/b:z", "no mode 'z'"),
        ("-v", "a:/b:ro,z", "no mode 'ro,z'"),
        ("-v", "a:/b/../c", "write '/c'"),
        ("-v", "s3://key:secret@bucket:/d", "password"),
        ("--dir", "", "HOST[::GUEST]"),
        ("--dir", "a::", "HOST[::GUEST]"),
        ("--dir", "::/a", "HOST[::GUEST]"),
        ("--dir", "a::/b/./c", "write '/b/c'"),
        ("--dir", "a,nonsense", "no option 'nonsense'"),
        ("--dir", "https://host/x::/d", "write --mount /data=https://host/x"),
        ("--mount", "/a/../b=mem:", "write '/b'"),
        ("--mount", "/a//b=mem:", "write '/a/b'"),
        ("--mount", "//a=mem:", "write '/a'"),
        ("--mount", "/..=mem:", "write '/'"),
        ("--mount", "a/./b=mem:", "write 'a/b'"),
    ],
)
def test_mistakes_in_what_is_mounted(option: str, text: str, answer: str, place: Path) -> None:
    line = refused("run", f"{option}{text}" if option == "-v" else f"{option}={text}", "empty.wat", cwd=place)
    assert answer in line
    assert "secret" not in line


@pytest.mark.parametrize("name", ["/", ".", "..", "../data", "./data", "data", "/data/", "/a.b/..c", "../../x"])
def test_guest_directories_that_a_program_can_name_are_taken(name: str) -> None:
    import vfswasi

    assert vfswasi.run(EMPTY.encode(), preopens={name: {}}).returncode == 0


def test_twice_is_told_whatever_the_options_were(place: Path) -> None:
    assert "given twice" in refused("-v", "./in:/d", "--mount", "/d/=out", "empty.wat", cwd=place)
    assert "given twice" in refused("--dir", "in::/tmp", "--tmp", "empty.wat", cwd=place)


def test_an_archive_is_mounted_by_dir_and_v_as_by_mount(place: Path) -> None:
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        archive.writestr("f", b"123")
    for option in ("--dir=a.zip::/d", "-va.zip:/d", "--mount=/d=a.zip"):
        assert vfswasi(option, compile_guest("liststat"), "/d", cwd=place).stdout == "1 entries, 3 bytes\n"


# The environment


def test_a_variable_is_inherited_by_its_name(place: Path) -> None:
    done = vfswasi("-e", "WANTED", "--env=B=2", compile_guest("hello"), cwd=place, status=1, WANTED="x=y", OTHER="no")
    assert [line for line in done.stdout.splitlines() if "env" in line] == ["env: [WANTED=x=y]", "env: [B=2]"]


def test_a_variable_that_is_not_there_is_told(place: Path) -> None:
    line = refused("-e", "NOT_THERE_AT_ALL", "empty.wat", cwd=place)
    assert line == (
        "vfswasi: --env NOT_THERE_AT_ALL: there is no NOT_THERE_AT_ALL in your environment; write --env NAME=VALUE"
    )


def test_a_file_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    monkeypatch.delenv("ABSENT", raising=False)
    path = tmp_path / ".env"
    path.write_bytes(
        b"\xef\xbb\xbfA=1\r\n\n# comment\nB = two words \nC='quoted # $A'\nD=\"\"\nexport E=e\nINHERITED\nABSENT\n"
        b"F=it's\nG=a#b\nH=\"\nA=3\n"
    )
    assert environment([str(path)], ["B=over"]) == {
        "A": "3", "B": "over", "C": "quoted # $A", "D": "", "E": "e", "INHERITED": "yes", "F": "it's", "G": "a#b",
        "H": '"',
    }  # fmt: skip


@pytest.mark.parametrize("line", ["=1", "A B=hunter2", "A='hunter2", '"A"=hunter2'])
def test_a_line_that_is_none_is_told_without_its_value(line: str, place: Path) -> None:
    (place / ".env").write_text(f"OK=1\n{line}\n")
    told = refused("--env-file", ".env", "empty.wat", cwd=place)
    assert ".env" in told
    assert "line 2" in told
    assert "hunter2" not in told


def test_a_file_of_variables_that_is_not_there(place: Path) -> None:
    assert "nowhere: No such file" in refused("--env-file", "nowhere", "empty.wat", cwd=place)


# Streams


def test_output_goes_to_files(place: Path) -> None:
    (place / "o").write_text("old and longer than what comes")
    (place / "i").write_text("in")
    vfswasi("--stdin", "i", "--stdout=o", "--stderr", "e", compile_guest("hello"), cwd=place, status=1)
    assert (place / "o").read_text().endswith("]\nin")
    assert (place / "e").read_text() == "done\n"


def test_both_outputs_to_one_file_are_one(place: Path) -> None:
    vfswasi("--stdout=o", "--stderr=./o", compile_guest("hello"), cwd=place, status=1)
    assert (place / "o").read_text().endswith("]\ndone\n")


def test_a_program_that_cannot_be_run_empties_no_file(place: Path) -> None:
    (place / "o").write_text("kept")
    refused("--stdout=o", "missing.wasm", cwd=place)
    refused("--stdout=o", "--mount", "/d=nowhere", "empty.wat", cwd=place)
    assert (place / "o").read_text() == "kept"


def test_a_file_for_output_that_cannot_be_is_told(place: Path) -> None:
    assert "in: Is a directory" in refused("--stdout", "in", "empty.wat", cwd=place)


# The module


def test_a_module_comes_from_standard_input(place: Path) -> None:
    wasm = compile_guest("hello").read_bytes()
    done = vfswasi("-", "a", cwd=place, stdin=wasm, status=2)
    assert done.stdout == "arg 0: [module.wasm]\narg 1: [a]\n"  # and nothing is left to read
    (place / "i").write_text("in")
    assert vfswasi("run", "--stdin=i", "-", cwd=place, stdin=wasm, status=1).stdout.endswith("]\nin")
    assert "command" in vfswasi("inspect", "-", cwd=place, stdin=wasm).stdout


def test_no_module_on_standard_input_is_told(place: Path) -> None:
    assert "empty" in refused("-", cwd=place)


@pytest.mark.parametrize("url", ["https://host.invalid/x.wasm", "zip://x.wasm::a.zip", "s3://b/x.wasm?v=1"])
def test_urls_come_to_the_library_as_they_are(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vfswasi.cli import inspect, run

    got: list[object] = []

    class Stop(ValueError):
        pass

    def taken(module: object, **_: object) -> None:
        got.append(module)
        raise Stop("seen")

    monkeypatch.setattr(run, "Sandbox", taken)
    monkeypatch.setattr(inspect, "read_module", taken)
    assert main(["run", url]) == 125
    assert main([url, "a"]) == 125
    assert main(["inspect", url]) == 125
    assert got == [url, url, url]


# Times


@pytest.mark.parametrize("text", ["300ms", "0.3", "0.3s", "0.005m"])
def test_times_have_units(text: str, place: Path) -> None:
    (place / "loop.wat").write_text('(module (memory (export "memory") 1) (func (export "_start") (loop br 0)))')
    done = vfswasi("--timeout", text, "loop.wat", cwd=place, status=124)
    assert "still running after 0.3 seconds" in done.stderr
    done = vfswasi("--limit", f"wall_seconds={text}", "loop.wat", cwd=place, status=124)
    assert "still running after 0.3 seconds" in done.stderr


def test_there_need_be_no_time(place: Path) -> None:
    vfswasi("--timeout", "none", "empty.wat", cwd=place)


@pytest.mark.parametrize("text", ["5x", "soon", "-1", "nan", "5 s", "s", "5s5", ""])
def test_a_time_that_is_none_is_told(text: str, place: Path) -> None:
    assert "500ms, 5s, 2m or 1h30m" in refused("run", f"--timeout={text}", "empty.wat", cwd=place)


def test_a_program_starts_in_a_directory(place: Path) -> None:
    """`--cwd` is the `cwd=` of a run."""
    done = vfswasi("-v", "./in:/data", "--cwd", "/data", compile_guest("hello"), cwd=place, status=1)
    assert "/data" in done.stdout
