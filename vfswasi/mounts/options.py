"""`Mount`: a source with options, in Python and as the command line spells them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from ..fs_backends.base import Backend
from ..limits import COUNTS, LIMIT_NAMES, OPTIONAL, SECONDS, Limits
from ..printing import did_you_mean, has_password, redacted, shown
from ..records import record
from .amounts import parse_seconds, parse_size

if TYPE_CHECKING:
    from ..fs_backends.layers.overlay.entries import Layer
    from ..fs_backends.remote.cache import ReadCache


@record(frozen=True)
class Mount:
    """A source with options.

    rw: whether the guest may change it; None means the source's default (memory trees: yes, all else: no).
    overlap: allow that another mount shows the same directory, or one inside it, with other permissions.
    root: the directory inside the source that is mounted: names with `/` between them, without `.` and `..`. In an
    object of fsspec or PyFilesystem2, as it spells its paths.
    file: the source is one file, an archive too, and the guest's name is its place: at `/data/x.csv` it is in a
    directory `/data` that has nothing else. A file of this machine that is no archive is mounted so without it.
    trust: mount a store that vfswasi does not recognise, or a part of a server that follows links. You say then that no
    link in it leads out of what is mounted, and that it is no directory of this machine (see docs/trust.md).
    overlay: the guest may change what it sees, and the source stays as it is: what it changed is in `Result.changes`,
    and gone with it. Every run begins with the source as it is, or with `Changes` that are given here. apply: "success"
    applies what a run changed to the source when it ended with status 0, all of it or nothing.

    times: "keep" shows the files' own times to deterministic runs too, which else see one instant.

    For stores that are far away:

    anon: without credentials. endpoint: URL of the S3 server. storage_options: what fsspec's file system is made with
    beside that, credentials for instance. timeout: seconds for one request. cache: a `ReadCache`, or bytes of memory
    for one of this mount's own, 0 for none; None is the one that all mounts share. disk: bytes of disk behind a cache
    of its own. block: bytes that are fetched at least. readahead: bytes that are fetched ahead of a guest that reads
    in order. listing: seconds that a listing is believed. rename_directories: allow to rename directories where that
    means to copy and delete every file in them. reference: allow `reference://`, whose index may name any other place.
    redirects: allow a web server to send files from any other place that it names, without headers of ours.

    Raises TypeError and ValueError that name the option.
    """

    source: Any
    rw: bool | None = None
    overlap: bool = False
    root: str = ""
    anon: bool | None = None
    endpoint: str | None = None
    storage_options: Mapping[str, Any] | None = None
    timeout: float = 30.0
    cache: ReadCache | int | None = None
    disk: int = 0
    block: int = 32 << 10
    readahead: int = 24 << 20
    listing: float = 30.0
    rename_directories: bool = False
    reference: bool = False
    trust: bool = False
    redirects: bool = False
    file: bool = False
    overlay: bool | Layer = False
    apply: Literal["success"] | None = None
    times: Literal["keep"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.source, Mount):
            raise TypeError("Mount(...) takes a source, not another Mount")
        for name in ("rw", "overlap", "anon", "rename_directories", "reference", "trust", "redirects", "file"):
            value = getattr(self, name)
            if not isinstance(value, bool) and not (value is None and name in ("rw", "anon")):
                raise TypeError(f"Mount({name}=...) must be True or False, not {shown(value)}")
        for name in ("disk", "block", "readahead"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Mount({name}=...) must be a number of bytes, not {shown(value)}")
            if value < (512 if name == "block" else 0):
                raise ValueError(f"Mount({name}=...) is too small: {value}")
        if self.block > 64 << 20:
            raise ValueError(f"Mount(block=...) is at most 64 MiB, not {self.block}")
        for name in ("timeout", "listing"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"Mount({name}=...) must be seconds as a number, not {shown(value)}")
            if not math.isfinite(value) or value < 0 or (name == "timeout" and value == 0):
                raise ValueError(f"Mount({name}=...) is no number of seconds: {value}")
        if isinstance(self.cache, bool) or (isinstance(self.cache, int) and self.cache < 0):
            raise ValueError(f"Mount(cache=...) must be a ReadCache or a number of bytes, not {shown(self.cache)}")
        if not isinstance(self.root, str):
            raise TypeError(f"Mount(root=...) must be a str, not {type(self.root).__name__}")
        if self.times not in (None, "keep"):
            raise ValueError(f'Mount(times=...) must be "keep" or None, not {shown(self.times)}')
        self._check_overlay()

    def _check_overlay(self) -> None:
        overlay = self.overlay
        if not isinstance(overlay, bool) and not isinstance(getattr(overlay, "entries", None), tuple):
            raise TypeError(f"Mount(overlay=...) must be True, False or Changes, not {shown(overlay)}")
        if self.apply not in (None, "success"):
            raise ValueError(f'Mount(apply=...) must be "success" or None, not {shown(self.apply)}')
        if overlay is False:
            if self.apply is not None:
                raise ValueError(
                    'Mount(apply="success") needs overlay=True: it says when changes are made to the source'
                )
            return
        if self.rw is False:
            raise ValueError(
                "Mount(rw=False, overlay=...): with an overlay the guest can write, and the source stays as it is"
            )
        if self.file:
            raise ValueError("Mount(file=True, overlay=...): an overlay is of a directory; mount the file's directory")

    def __repr__(self) -> str:
        """Without what could be secret."""
        ours = isinstance(self.source, Backend) and type(self.source).__module__.startswith("vfswasi.")
        texts = [repr(self.source) if ours else shown(self.source)]
        from dataclasses import fields

        for option in fields(self)[1:]:
            value = getattr(self, option.name)
            if value != option.default and option.name != "storage_options":
                texts.append(f"{option.name}={shown(value) if isinstance(value, str) else repr(value)}")
        return f"Mount({', '.join(texts)})"


def for_reading(mount: Mount) -> Mount:
    """The same without an overlay; what lies under one is only read."""
    if mount.overlay is False:
        return mount
    from dataclasses import replace

    return replace(mount, rw=None, overlay=False, apply=None)


def guest_name(name: object) -> str:
    """The guest's name of a preopen, without trailing slashes. Raises TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"a guest directory must be a str, not {type(name).__name__}")
    if not name or "\0" in name:
        raise ValueError(f"a guest directory must be a non-empty path without NUL, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a guest directory must be valid Unicode, not {name!r}") from None
    name = name.rstrip("/") or "/"
    parts = name.removeprefix("/").split("/")
    if not name.startswith("/"):
        while parts and parts[0] in (".", ".."):  # what a program may begin a relative path with
            del parts[0]
    if name != "/" and not _NO_NAMES.isdisjoint(parts):
        import posixpath

        plain = posixpath.normpath(name).replace("//", "/")
        raise ValueError(f"a guest directory has no '.', '..' or '//' in it: write {plain!r}, not {name!r}")
    return name


_NO_NAMES: Final = frozenset({"", ".", ".."})


# Option of the command line -> (argument of Mount, its value or what makes it of the text behind `=`).
_OPTIONS: Final[dict[str, tuple[str, bool | Callable[[str], Any]]]] = {
    "rw": ("rw", True),
    "ro": ("rw", False),
    "overlap": ("overlap", True),
    "anon": ("anon", True),
    "endpoint": ("endpoint", str),
    "timeout": ("timeout", parse_seconds),
    "cache": ("cache", parse_size),
    "disk": ("disk", parse_size),
    "block": ("block", parse_size),
    "readahead": ("readahead", parse_size),
    "listing": ("listing", parse_seconds),
    "rename-directories": ("rename_directories", True),
    "reference": ("reference", True),
    "trust": ("trust", True),
    "redirects": ("redirects", True),
    "file": ("file", True),
    "overlay": ("overlay", True),
    "apply": ("apply", str),
    "times": ("times", str),
}
OPTIONS: Final = tuple(name if isinstance(how, bool) else f"{name}=" for name, (_, how) in _OPTIONS.items())

_HIDDEN: Final = "***"


def parse_source(text: str) -> Mount:
    """`SOURCE[,option...]` of the command line; a comma in the source is written twice.

    Raises ValueError with one line that says what is wrong.
    """
    source, *options = text.replace(",,", "\0").split(",")
    source = source.replace("\0", ",")
    check_without_password(source)
    given: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.replace("\0", ",").partition("=")
        known = _OPTIONS.get(name)
        if known is None or isinstance(known[1], bool) == bool(equals):
            shown = name + "=" * bool(equals)  # a value may be a secret
            told = shown.replace("\0", ",") if redacted(text) == text else _HIDDEN  # or the rest of a password
            raise ValueError(
                f"there is no option {told!r}{did_you_mean(name, _OPTIONS)}; the options are {', '.join(OPTIONS)} "
                "(a comma in the source is written twice)"
            )
        argument, how = known
        try:
            given[argument] = how if isinstance(how, bool) else how(value)
        except ValueError as error:
            raise ValueError(f"option {name}: {error}") from None
    return Mount(source, **given)


def check_without_password(source: str) -> None:
    """Raises ValueError for what everybody on the machine could see."""
    if has_password(source):
        raise ValueError(
            "a source with a password in it can be seen by everybody on this machine; give credentials in the "
            "environment or the configuration files of the storage's own library"
        )


def parse_mount(text: str) -> tuple[str, Mount]:
    """`GUEST=SOURCE[,option...]` of the command line. Raises ValueError with one line that says what is wrong."""
    guest, equals, rest = text.partition("=")
    if _is_dockers(text):
        raise ValueError(_as_docker(text))
    if not equals or not guest or not rest or "://" in guest:
        raise ValueError(f"{shown(text)} is not GUEST=SOURCE[,option...], such as /data=./corpus or /out=./results,rw")
    try:
        return guest_name(guest), parse_source(rest)
    except ValueError as error:
        raise ValueError(f"mount {guest!r}: {error}") from None


# Keys of docker's --mount, which come in any order.
_TARGETS: Final = ("target", "destination", "dst")
_SOURCES: Final = ("source", "src")
_READ_ONLY: Final = ("readonly", "ro")


def _is_dockers(text: str) -> bool:
    keys = [part.partition("=")[0] for part in text.split(",")]
    return keys[0] in ("type", *_TARGETS, *_SOURCES, *_READ_ONLY) and not set(_TARGETS).isdisjoint(keys)


def _as_docker(text: str) -> str:
    """What to write in place of `type=bind,source=...,target=...`."""
    given = {key: value for key, _, value in (part.partition("=") for part in text.split(","))}
    guest = redacted(next(filter(None, map(given.get, _TARGETS)), "/data"))
    host = redacted(next(filter(None, map(given.get, _SOURCES)), "HOST"))
    can_write = all(given.get(key, "false") in ("false", "0") for key in _READ_ONLY)
    kind = given.get("type", "volume")  # as docker takes it
    if kind == "tmpfs":
        return f"this is docker's form of --mount; write --mount {guest}=mem:"
    if kind == "overlay":  # of podman
        return f"this is docker's form of --mount; write --mount {guest}={host},overlay"
    if kind != "bind":
        host = "HOST"
    why = "" if kind == "bind" else ", and there are no volumes here"
    return f"this is docker's form of --mount{why}; write --mount {guest}={host}{',rw' * can_write}"


def parse_limits(texts: Iterable[str]) -> Limits:
    """`Limits` from `NAME=VALUE`, such as `memory_bytes=64M`, `inodes=1000`, `wall_seconds=none`. Raises ValueError."""
    values: dict[str, float | int | None] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--limit {text!r} is not NAME=VALUE")
        if name not in LIMIT_NAMES:
            hint = did_you_mean(name, LIMIT_NAMES) or f"; there are {', '.join(LIMIT_NAMES)}"
            raise ValueError(f"--limit {name}: there is no such limit{hint}")
        try:
            if value.lower() == "none":
                if name not in OPTIONAL:
                    raise ValueError(f"it needs a number; {', '.join(OPTIONAL[:-1])} and {OPTIONAL[-1]} may be none")
                values[name] = None
            elif name in SECONDS:
                values[name] = parse_seconds(value)
            else:
                if name in COUNTS and not value.replace("_", "").isdecimal():
                    raise ValueError(f"{value!r} is not a whole number, such as 1000")
                values[name] = int(value.replace("_", "")) if name in COUNTS else parse_size(value)
        except ValueError as error:
            raise ValueError(f"--limit {text}: {error}") from None
    try:
        return Limits(**values)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(str(error)) from None
