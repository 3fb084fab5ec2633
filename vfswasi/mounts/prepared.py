"""One mount, opened and ready to be given to runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FsError, MountError, errno_of
from ..fs_backends.base import Backend, Caps
from ..fs_backends.memory.backend import MemoryBackend
from ..printing import redacted, shown
from .lent import StoreInPlace
from .options import Mount, for_reading

if TYPE_CHECKING:
    from ..fs_backends.layers.picked import OneFile
    from .finding.source_types import Source
    from .layered import Layered


class Prepared(NamedTuple):
    """One mount, ready to be given to runs."""

    name: str
    readonly: bool
    backend: Backend | None  # None: `tree` is made anew for each run
    tree: Mapping[str, Any] | None  # with `layered`: what its base was made of
    owned: bool
    overlap: bool
    what: str  # for people, without secrets
    file: OneFile | None = None  # in place of `backend`: one file, whose whole name is `name`
    layered: Layered | None = None  # `backend` is its base
    in_place: StoreInPlace | None = None  # of what runs change where it is
    times: str | None = None  # `Mount.times`

    @property
    def changes_nothing(self) -> bool:
        """Whether what is mounted stays as it is, whatever the guest does."""
        return self.readonly or (self.layered is not None and self.layered.apply is None)

    @property
    def directory(self) -> str:
        """What the guest gets as a preopen."""
        return self.name if self.file is None else (self.name.rpartition("/")[0] or "/")

    @property
    def store(self) -> Backend | None:
        """What it was opened for; None: a tree."""
        return self.backend if self.file is None else self.file.backend


def _over(name: str, mount: Mount, base: Backend, text: str, *, owned: bool, made_anew: bool) -> Prepared:
    """A mount with an overlay. Raises MountError, and closes what is owned then."""
    from .layered import MADE_ANEW, Layered, check_writable  # few programs have one

    try:
        if mount.apply is not None and made_anew:
            raise MountError(MADE_ANEW)
        if Caps.DEVICES in base.caps:
            raise MountError("devices have nothing that could be changed and kept; mount them without overlay")
        if mount.apply is not None:
            check_writable(mount, base, text)
        layered = Layered(mount, base, text, owned=owned, made_anew=made_anew)
        layered.overlay().close()  # what it begins with fits, or that shows now
    except MountError as error:
        if owned:
            base.close()
        raise MountError(f"mount {name!r}: {error}") from error
    except BaseException:
        if owned:
            base.close()
        raise
    return Prepared(
        name, False, base, None, owned, mount.overlap, f"{text}, overlay", layered=layered, times=mount.times
    )


def what(mount: Mount) -> str:
    """A source as its own text, without what is secret."""
    text = redacted(mount.source) if isinstance(mount.source, str) else shown(mount.source)
    return f"{text}, root={redacted(mount.root)}" if mount.root else text


def prepare(name: str, source: Source) -> Prepared:
    # What is known of stores is imported when there is one to mount.
    from dataclasses import replace

    from ..fs_backends.remote.translate import scrubbed
    from .finding.single import PlainFileError, check_place, is_named_so, open_file
    from .finding.sources import open_mount, tree_of

    mount = source if isinstance(source, Mount) else Mount(source)
    given = mount.source
    try:
        tree = tree_of(mount)
    except MountError as error:
        raise MountError(f"mount {name!r}: {error}") from error
    if tree is not None:
        made = MemoryBackend.with_room(tree, 0)  # a mistake in the literal shows now, not at the first run
        if mount.overlay is not False:
            return _over(name, mount, made, "a tree in memory", owned=True, made_anew=True)._replace(tree=tree)
        return Prepared(
            name,
            mount.rw is False,
            None,
            tree,
            False,
            mount.overlap,
            "a tree in memory, new for each run",
            times=mount.times,
        )
    file = backend = None
    try:
        try:
            backend = None if mount.file else open_mount(for_reading(mount))
        except PlainFileError as plain:
            if mount.root or not is_named_so(name, plain.path):
                raise
            mount = replace(mount, source=Path(plain.path))
        if backend is None:
            check_place(name)
            file = open_file(mount, open_mount)
            backend = file.backend
    except MountError as error:
        raise MountError(f"mount {name!r}: {error}") from scrubbed(error)
    except FsError as error:  # a limit of what mounting may use up
        raise MountError(f"mount {name!r}: {shown(given)}: {error.detail or errno_of(error).name}") from scrubbed(error)
    if mount.overlay is not False:
        if file is not None:
            file.backend.close()
            raise MountError(f"mount {name!r}: an overlay is of a directory; mount the file's directory")
        return _over(name, mount, backend, what(mount), owned=backend is not given, made_anew=False)
    writable = Caps.WRITE in backend.caps
    if mount.rw and not writable:
        if backend is not given:
            backend.close()
        raise MountError(f"mount {name!r}: {shown(given)} can only be read; mount it without rw")
    rw = mount.rw if mount.rw is not None else isinstance(given, MemoryBackend)
    text, owned = what(mount), file is not None or backend is not given
    in_place = StoreInPlace(mount, backend, text, owned, None if file is None else file.key) if rw else None
    if file is not None:
        return Prepared(name, not rw, None, None, True, mount.overlap, text, file, in_place=in_place, times=mount.times)
    return Prepared(name, not rw, backend, None, owned, mount.overlap, text, in_place=in_place, times=mount.times)
