/* diary DIRECTORY: makes calls on the first preopened directory, which is named so and has greeting.txt ("Hello, world\n")
   and sub/inner; then prints what it asked and what it got, a line for each call, as a trace should have it. */
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

static const char *const NAMES[] = {[8] = "BADF", [20] = "EXIST", [28] = "INVAL", [31] = "ISDIR",
                                    [44] = "NOENT", [54] = "NOTDIR", [69] = "ROFS", [76] = "NOTCAPABLE"};
static char diary[8192];
static int used;

#define SAY(...) (used += snprintf(diary + used, sizeof diary - used, __VA_ARGS__))

static const char *name_of(__wasi_errno_t errno_)
{
    return errno_ < sizeof NAMES / sizeof *NAMES && NAMES[errno_] != NULL ? NAMES[errno_] : "another errno";
}

static void end(__wasi_errno_t errno_)
{
    if (errno_)
        SAY(" = %s\n", name_of(errno_));
    else
        SAY(" = 0");
}

static const char *root;

static __wasi_fd_t open_(const char *path, __wasi_oflags_t oflags, const char *flags)
{
    __wasi_fd_t fd = -1;
    __wasi_rights_t rights = __WASI_RIGHTS_FD_READ | (oflags & __WASI_OFLAGS_DIRECTORY ? __WASI_RIGHTS_FD_READDIR : 0);
    __wasi_errno_t got;
    if (!(oflags & __WASI_OFLAGS_DIRECTORY))
        rights |= __WASI_RIGHTS_FD_SEEK;
    got = __wasi_path_open(3, __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW, path, oflags, rights, 0, 0, &fd);
    SAY("path_open(3<%s>, SYMLINK_FOLLOW, \"%s\", %s, FD_READ|%s, 0, 0)", root, path, flags,
        oflags & __WASI_OFLAGS_DIRECTORY ? "FD_READDIR" : "FD_SEEK");
    end(got);
    if (!got)
        SAY(" {fd: %d}\n", (int)fd);
    return fd;
}

static void read_(__wasi_fd_t fd, const char *of, unsigned size)
{
    static char buffer[64];
    __wasi_iovec_t into = {(uint8_t *)buffer, size};
    __wasi_size_t count;
    __wasi_errno_t got = __wasi_fd_read(fd, &into, 1, &count);
    SAY("fd_read(%d<%s%s>, 1, %u)", (int)fd, root, of, size);
    end(got);
    if (got)
        return;
    SAY(" {nread: %u, data: \"", (unsigned)count);
    for (unsigned at = 0; at < count; at++)
        buffer[at] == '\n' ? SAY("\\n") : SAY("%c", buffer[at]);
    SAY("\"}\n");
}

static void stat_(const char *path)
{
    __wasi_filestat_t found;
    __wasi_errno_t got = __wasi_path_filestat_get(3, 0, path, &found);
    SAY("path_filestat_get(3<%s>, 0, \"%s\")", root, path);
    end(got);
    if (!got)
        SAY(" {filetype: %s, size: %llu}\n",
            found.filetype == __WASI_FILETYPE_DIRECTORY ? "DIRECTORY" : "REGULAR_FILE", (unsigned long long)found.size);
}

static void list(__wasi_fd_t fd, const char *of)
{
    static uint8_t buffer[512];
    __wasi_size_t count;
    const char *between = "";
    __wasi_errno_t got = __wasi_fd_readdir(fd, buffer, sizeof buffer, 0, &count);
    SAY("fd_readdir(%d<%s%s>, %u, 0)", (int)fd, root, of, (unsigned)sizeof buffer);
    end(got);
    if (got)
        return;
    SAY(" {bufused: %u, names: [", (unsigned)count);
    for (unsigned at = 0; at + sizeof(__wasi_dirent_t) <= count;) {
        __wasi_dirent_t entry;
        memcpy(&entry, buffer + at, sizeof entry);
        at += sizeof entry;
        SAY("%s\"%.*s\"", between, (int)entry.d_namlen, buffer + at);
        at += entry.d_namlen;
        between = ", ";
    }
    SAY("]}\n");
}

static void path_call(const char *name, __wasi_errno_t (*call)(__wasi_fd_t, const char *), const char *path)
{
    __wasi_errno_t got = call(3, path);
    SAY("%s(3<%s>, \"%s\")", name, root, path);
    end(got);
    if (!got)
        SAY("\n");
}

static void close_(__wasi_fd_t fd, const char *of)
{
    __wasi_errno_t got = __wasi_fd_close(fd);
    if (of != NULL)
        SAY("fd_close(%d<%s%s>)", (int)fd, root, of);
    else
        SAY("fd_close(%d)", (int)fd);
    end(got);
    if (!got)
        SAY("\n");
}

int main(int argc, char **argv)
{
    __wasi_filesize_t at;
    __wasi_fd_t file, directory;
    __wasi_errno_t got;
    root = argc > 1 ? argv[1] : "/";
    file = open_("greeting.txt", 0, "0");
    read_(file, "/greeting.txt", 5);
    got = __wasi_fd_seek(file, -6, __WASI_WHENCE_END, &at);
    SAY("fd_seek(%d<%s/greeting.txt>, -6, END)", (int)file, root);
    end(got);
    if (!got)
        SAY(" {newoffset: %llu}\n", (unsigned long long)at);
    read_(file, "/greeting.txt", 64);
    read_(file, "/greeting.txt", 64);
    directory = open_("sub", __WASI_OFLAGS_DIRECTORY, "DIRECTORY");
    list(directory, "/sub");
    stat_("sub/inner");
    stat_("sub");
    stat_("missing");
    open_("missing", 0, "0");
    open_("../above", 0, "0");
    open_("greeting.txt", __WASI_OFLAGS_DIRECTORY, "DIRECTORY");
    open_("new", __WASI_OFLAGS_CREAT, "CREAT");
    path_call("path_create_directory", __wasi_path_create_directory, "made");
    path_call("path_unlink_file", __wasi_path_unlink_file, "greeting.txt");
    close_(file, "/greeting.txt");
    close_(file, NULL);
    close_(directory, "/sub");
    fputs(diary, stdout);
    return 0;
}
