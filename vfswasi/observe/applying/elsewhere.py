"""Changes applied to what is no directory of this machine: stores far away, in memory, of other libraries.

Nothing can be made there as a whole. What is new comes first, each file as a whole where the store can do that, and
only as long as what it replaces is what was looked at; what is removed goes last. Names that are in each other's way go
through a directory of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ...errors import ApplyError, Errno, FsError
from ...fs_backends.base import Backend, Caps, FileType, Handle, Key
from ...fs_backends.waiting import check_time, unbounded
from .comparing import opened, pieces
from .conflicts import Checked, check_again
from .contents import InStore, Spool, Spooled, write
from .plan import STAGING, Item, Plan, any_above, key_of
from .progress import Steps
from .versions import commits_as_a_whole, forget, is_remote


def apply(plan: Plan, target: Backend, checked: Checked, steps: Steps) -> None:
    """Raises ConflictError: it is being changed at this very moment, and nothing was written; ApplyError."""
    spool = Spool()
    try:
        work = _Work(plan, target, checked, steps, spool)
        _spool(work)
        check_again(target, checked)
        try:
            work.do()
        except Exception as error:  # of the store, or of whoever is told how far it is
            work.put_back()
            raise _told(work, error) from error
        except BaseException:
            work.put_back()
            raise
    finally:
        spool.close()
    steps.end()


def _spool(work: _Work) -> None:
    """Raises ApplyError: contents cannot be read."""
    try:
        work.contents = {item.number: work.spool.copy(content) for item, content in work.plan.each_content()}
    except FsError as error:
        raise _told(work, error) from error


def _told(work: _Work, error: Exception) -> ApplyError:
    items = work.plan.items
    why = str(error) if isinstance(error, FsError) else f"{type(error).__name__}: {error}"
    left = [item.path for item in items if item.number not in work.done]
    if not work.changed:
        return ApplyError(f"the changes were not applied, nothing was changed: {why}", left=left)
    done = [item.path for item in items if item.number in work.done]
    aside = f"; what was moved aside is in {work.aside[0]!r}" if work.has_aside else ""
    return ApplyError(f"the changes are made in part, {len(done):,} of {len(items):,}: {why}{aside}", done, left)


class _Work:
    """aside: the directory for what is in the way. done: changes, by number. changed: anything was written. direct:
    numbers of what can be renamed at once. last: numbers of what can be removed last. contents: by numbers of changes.
    has_aside: the directory is there."""

    def __init__(self, plan: Plan, target: Backend, checked: Checked, steps: Steps, spool: Spool) -> None:
        self.plan = plan
        self.target = target
        self.checked = checked
        self.steps = steps
        self.aside: Key = (STAGING + plan.ident(),)
        self.done: set[int] = set()
        self.changed = False
        self.spool = spool
        self.contents: dict[int, Spooled] = {}
        self.has_aside = False
        self._set_aside: dict[int, Item] = {}
        self._touched: set[int] = set()  # files, by their numbers in the store, of which we have changed the version
        gone = plan.gone.values()
        moving = [*(key for key, item in plan.gone.items() if item.entry.kind == "renamed"), *plan.arriving]
        self._ways = {key[:depth] for key in moving for depth in range(1, len(key))}
        self.direct = {item.number for item in gone if item.entry.kind == "renamed" and self._can_go_at_once(item)}
        self.last = {item.number for item in gone if item.entry.kind == "removed" and self._can_wait(item)}

    def do(self) -> None:
        removed_last = []
        for item in self.plan.leaving():
            if item.number in self.last:
                removed_last.append(item)
            elif item.number not in self.direct:
                self._leave(item)
        coming = self.plan.coming()
        # Another name of a file comes after the file; nothing can be below it.
        for item in [*(item for item in coming if not item.is_name), *(item for item in coming if item.is_name)]:
            check_time("changes")
            self._come(item)
            self.steps.step()
        self._set_times()
        for item in removed_last:
            self._remove(item)
        self.clear_aside()

    # What is in whose way

    def _can_go_at_once(self, item: Item) -> bool:
        """Nothing else moves on its way, comes or goes below it, or is where it goes."""
        plan, base, key = self.plan, item.base, item.key
        assert base is not None
        if plan.before(key, itself=False) != key or (key in plan.gone and key not in plan.replaced):
            return False
        return not (self._is_in_motion(base) or base in self._ways or base in plan.arriving)

    def _can_wait(self, item: Item) -> bool:
        """Nothing comes to its place, and nothing above it moves."""
        assert item.base is not None
        return not self._is_in_motion(item.base) and item.base not in self.plan.arriving

    def _is_in_motion(self, base: Key) -> bool:
        return any_above(base, self.plan.gone) or any_above(base, self.plan.arriving)

    # The steps

    def _leave(self, item: Item) -> None:
        check_time("changes")
        if item.entry.kind == "removed":
            self._remove(item)
        else:
            assert item.base is not None
            self._check_version(item.base)
            place = self._beside(f"o{item.number}")
            self._set_aside[item.number] = item
            self._move(item.base, place)

    def _beside(self, name: str) -> Key:
        if not self.has_aside:
            self.target.mkdir(self.aside)
            self.has_aside = self.changed = True
        return (*self.aside, name)

    def clear_aside(self) -> bool:
        """Remove the directory for what is in the way; True: there is still something in it."""
        if not self.has_aside:
            return False
        try:
            _unless_gone(self.target.rmdir, self.aside)
        except FsError:
            return True
        self.has_aside = False
        return False

    def put_back(self) -> None:
        """After an error: what waits aside gets its old name again, where nothing has come to that."""
        with unbounded():
            for item in reversed(self._set_aside.values()):
                assert item.base is not None
                with contextlib.suppress(FsError):
                    if not _is_there(self.target, item.base):
                        self._move((*self.aside, f"o{item.number}"), item.base)
            self.clear_aside()

    def _come(self, item: Item) -> None:
        replaced = self.plan.gone[item.key] if item.key in self.plan.replaced else None
        if item.entry.kind == "renamed":
            assert item.base is not None
            if item.number in self.direct:
                self._check_version(item.base)
            if replaced is not None:
                self._check_version(item.key)
            source = item.base if item.number in self.direct else (*self.aside, f"o{item.number}")
            self._move(source, item.key)
            self._set_aside.pop(item.number, None)
        elif item.is_name:
            if replaced is not None:
                self._remove(replaced)
            self._link(item)
        elif item.entry.kind == "modified" or replaced is not None:
            self._replace(item)
        else:
            self._add(item)
        self.changed = True
        self.done.add(item.number)
        if replaced is not None:
            self.done.add(replaced.number)

    def _add(self, item: Item) -> None:
        target, entry, key = self.target, item.entry, item.key
        if entry.filetype is FileType.DIRECTORY:
            target.mkdir(key)
        elif entry.filetype is FileType.SYMBOLIC_LINK:
            assert entry.target is not None
            target.symlink(entry.target, key)
        else:
            self._create(key, lambda handle: self._write(item, handle))

    def _create(self, key: Key, fill: Callable[[Handle], None]) -> None:
        """A new file; none, where it cannot be filled."""
        handle = self.target.create(key)
        try:
            fill(handle)
        except BaseException:
            handle.discard()
            with contextlib.suppress(FsError):
                self.target.remove(key)
            raise
        handle.close()

    def _write(self, item: Item, handle: Handle) -> None:
        """Into an empty file. A store that publishes what is written has it then."""
        content = self.contents[item.number]
        write(content, handle, self.steps.step)
        handle.sync(False)

    def _replace(self, item: Item) -> None:
        """New contents for a file that is there, as a whole if the store can."""
        target, key = self.target, item.key
        as_a_whole = commits_as_a_whole(target)
        if not as_a_whole and Caps.ATOMIC_RENAME in target.caps and target.stat(key).nlink == 1:
            new = self._beside(f"n{item.number}")
            self._create(new, lambda handle: self._write(item, handle))
            try:
                self._check_opened(key, item.base if item.entry.kind == "modified" else key)
                target.rename(new, key)
            except BaseException:
                with contextlib.suppress(FsError):
                    target.remove(new)
                raise
            return
        handle = target.open(key, True)
        try:
            self._check_opened(key, item.base if item.entry.kind == "modified" else key)
            if as_a_whole:
                handle.truncate(0)
                self._write(item, handle)
            else:
                self._replace_in_place(item, handle)
        except BaseException:
            handle.discard()
            raise
        handle.close()

    def _replace_in_place(self, item: Item, handle: Handle) -> None:
        """What it had is written back, if what it is to have cannot be written."""
        old = self.spool.copy(InStore(handle))
        before, self.changed = self.changed, True
        self._touch(item.key)
        try:
            handle.truncate(0)
            self._write(item, handle)
        except BaseException:
            with unbounded():
                handle.truncate(0)
                write(old, handle, lambda _: None)
                handle.sync(False)
            self.changed = before
            raise
        finally:
            old.release()

    def _link(self, item: Item) -> None:
        source = self.plan.has_contents(item)
        self._touch(source)
        if Caps.HARDLINKS in self.target.caps:
            self.target.link(source, item.key)
        else:
            self._copy(source, item.key)

    def _move(self, old: Key, new: Key) -> None:
        """What a store cannot rename it copies, in the server where it can."""
        target = self.target
        if new in self.plan.replaced:
            one, other = target.stat(old), target.stat(new)
            if one.ident is not None and one.ident == other.ident:
                target.remove(old)  # two names of one file
                return
        try:
            target.rename(old, new)
        except FsError as error:
            if error.errno not in (Errno.NOTSUP, Errno.XDEV):
                raise
            self._move_by_hand(old, new)
        self.changed = True

    def _move_by_hand(self, old: Key, new: Key) -> None:
        target = self.target
        if target.stat(old).filetype is not FileType.DIRECTORY:
            if new in self.plan.replaced:
                target.remove(new)
            self._copy(old, new)
            target.remove(old)
            return
        target.mkdir(new)
        self.changed = True
        for entry in list(target.list(old)):
            check_time("changes")
            self._move((*old, entry.name), (*new, entry.name))
        _unless_gone(target.rmdir, old)

    def _copy(self, old: Key, new: Key) -> None:
        target = self.target
        if target.stat(old).filetype is FileType.SYMBOLIC_LINK:
            target.symlink(target.readlink(old), new)
            return

        def fill(handle: Handle) -> None:
            with opened(target, old) as source:
                offset = 0
                for piece in pieces(source):
                    handle.write_from(offset, piece)
                    offset += len(piece)
            handle.sync(False)

        self._create(new, fill)

    def _set_times(self) -> None:
        for item in self.plan.timed() if Caps.SET_TIMES in self.target.caps else ():
            check_time("changes")
            self._touch(item.key)
            try:
                self.target.set_times(item.key, item.entry.atim_ns, item.entry.mtim_ns)
                self.changed = True
            except FsError as error:
                if error.errno is not Errno.NOTSUP:
                    raise
        self.done.update(item.number for item in self.plan.items if item.entry.kind == "attributes")

    def _remove(self, item: Item) -> None:
        """Nothing but what was looked at: a directory with something new in it stays, and is an error."""
        base, was, gone = item.base, item.entry.was, self.plan.gone
        assert base is not None
        assert was is not None
        found = [(base, was.filetype)]
        for path, other in was.below.items():
            key = (*base, *key_of(path))
            if not any(key[:depth] in gone for depth in range(len(base) + 1, len(key) + 1)):
                found.append((key, other.filetype))
        for key, filetype in sorted(found, key=lambda found: len(found[0]), reverse=True):
            check_time("changes")
            if filetype is FileType.DIRECTORY:
                _unless_gone(self.target.rmdir, key)
            else:
                self._check_version(key)
                self._touch(key)
                self.target.remove(key)
            self.changed = True
        self.done.add(item.number)

    # Of a store that knows versions: what is replaced, moved or removed is what was looked at

    def _check_version(self, key: Key) -> None:
        """Raises STALE."""
        if self.checked.versions.get(key) is not None:
            forget(self.target, key)
            self._check_opened(key, key)

    def _check_opened(self, key: Key, base: Key | None) -> None:
        """Raises STALE."""
        version = self.checked.versions.get(key) if key == base else None
        if version is None or self.target.version(key) == version:
            return
        if not is_remote(self.target) and self._is_touched(key):
            return
        raise FsError(Errno.STALE, f"{'/'.join(key)!r} was changed by somebody else at this very moment")

    def _touch(self, key: Key) -> None:
        """Our own change of a file gives it another version, under all its names."""
        if Caps.HARDLINKS in self.target.caps:
            ident = self.target.stat(key).ident
            if ident is not None:
                self._touched.add(ident)

    def _is_touched(self, key: Key) -> bool:
        if Caps.HARDLINKS not in self.target.caps:
            return False
        ident = self.target.stat(key).ident
        return ident is None or ident in self._touched


def _is_there(target: Backend, key: Key) -> bool:
    try:
        target.stat(key)
    except FsError as error:
        if error.errno not in (Errno.NOENT, Errno.NOTDIR):
            raise
        return False
    return True


def _unless_gone(remove: Callable[[Key], None], key: Key) -> None:
    """Where directories are there as long as something is in them, it may be gone with the last of that."""
    try:
        remove(key)
    except FsError as error:
        if error.errno is not Errno.NOENT:
            raise
