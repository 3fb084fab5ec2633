"""Shell completion: what a real bash offers, and that other shells get something that is theirs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vfswasi.cli import main
from vfswasi.cli.command import COMMANDS
from vfswasi.cli.completion import SHELLS

from .running import refused, vfswasi

bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def offered(script: str, place: Path, *words: str) -> set[str]:
    """For the last word, in the directory `place`."""
    quoted = " ".join(f"'{word}'" for word in ("vfswasi", *words))
    ask = (
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _shtab_vfswasi 2>/dev/null; "
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{ask}"], cwd=place, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    return vfswasi("completion", "bash", cwd=tmp_path_factory.mktemp("completion")).stdout


@bash
def test_commands_options_values_and_files_are_offered(script: str, tmp_path: Path) -> None:
    (tmp_path / "prog.wasm").touch()
    assert offered(script, tmp_path, "") >= set(COMMANDS)
    assert offered(script, tmp_path, "ins") == {"inspect"}
    assert offered(script, tmp_path, "run", "--env") == {"--env", "--env-file"}
    assert offered(script, tmp_path, "run", "--feature", "g") == {"gc"}
    assert offered(script, tmp_path, "run", "pro") == {"prog.wasm"}
    assert offered(script, tmp_path, "inspect", "pro") == {"prog.wasm"}
    assert offered(script, tmp_path, "mounts", "--dep") == {"--depth"}
    assert offered(script, tmp_path, "completion", "f") == {"fish"}


@bash
def test_where_no_command_fits_bash_offers_files(script: str) -> None:
    assert "complete -o bashdefault -o default -F _shtab_vfswasi vfswasi" in script


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_every_command(shell: str, tmp_path: Path) -> None:
    text = vfswasi("completion", shell, cwd=tmp_path).stdout
    for name in COMMANDS:
        assert name in text
    if shutil.which(shell):
        check = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, timeout=60, check=False)
        assert (check.returncode, check.stderr) == (0, "")


def test_without_shtab_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 125
    assert capsys.readouterr().err == 'vfswasi: this needs the package shtab: pip install "vfswasi[completion]"\n'


def test_another_shell_is_told_which_there_are(tmp_path: Path) -> None:
    assert "'bash'" in refused("completion", "ksh", cwd=tmp_path)
