/* everything [-w DIRECTORY] [-s]: prints all that a program can see: its arguments, environment, clocks, random bytes,
   descriptors, NaNs, and every object below every preopen with its attributes, its place in the listing and a digest of
   its contents. -w: changes things in the directory meanwhile, and looks at them. -s: copies standard input. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

extern char **environ;

static void stat_line(const char *what, const __wasi_filestat_t *found)
{
    printf("%s: dev %llu ino %llu type %u nlink %llu size %llu atim %llu mtim %llu ctim %llu\n", what, found->dev,
           found->ino, found->filetype, found->nlink, found->size, found->atim, found->mtim, found->ctim);
}

static void fstat_line(const char *what, int fd)
{
    __wasi_filestat_t found;
    unsigned failed = __wasi_fd_filestat_get((__wasi_fd_t)fd, &found);
    if (failed != 0)
        printf("%s: %u\n", what, failed);
    else
        stat_line(what, &found);
}

static void look(const char *when)
{
    for (unsigned id = 0; id < 4; id++) {
        __wasi_timestamp_t now = 0, resolution = 0;
        unsigned failed = __wasi_clock_time_get(id, 1, &now), failed_too = __wasi_clock_res_get(id, &resolution);
        printf("clock %u %s: %u %llu %u %llu\n", id, when, failed, now, failed_too, resolution);
    }
    struct timeval day;
    gettimeofday(&day, NULL);
    printf("gettimeofday %s: %lld.%06lld\n", when, (long long)day.tv_sec, (long long)day.tv_usec);
}

static void digest(int fd, const char *path)
{
    static unsigned char piece[5000];
    uint64_t hash = 14695981039346656037u;
    long long total = 0;
    ssize_t count;
    while ((count = read(fd, piece, total % 3 ? 77 : sizeof piece)) > 0) {
        for (ssize_t at = 0; at < count; at++)
            hash = (hash ^ piece[at]) * 1099511628211u;
        total += count;
    }
    printf("contents of %s: %lld bytes, %016llx, %s\n", path, total, (unsigned long long)hash,
           count < 0 ? strerror(errno) : "whole");
}

static void walk(__wasi_fd_t fd, const char *path)
{
    /* Little room, so that it takes many calls. */
    static const size_t room = 320;
    char (*names)[256] = NULL;
    unsigned char *types = NULL;
    size_t count = 0;
    __wasi_dircookie_t cookie = 0;
    for (;;) {
        unsigned char buffer[320];
        __wasi_size_t used = 0;
        unsigned failed = __wasi_fd_readdir(fd, buffer, room, cookie, &used);
        if (failed != 0) {
            printf("readdir %s: %u\n", path, failed);
            break;
        }
        size_t at = 0, taken = 0;
        while (at + sizeof(__wasi_dirent_t) <= used) {
            __wasi_dirent_t entry;
            memcpy(&entry, buffer + at, sizeof entry);
            if (at + sizeof entry + entry.d_namlen > used)
                break;
            names = realloc(names, (count + 1) * sizeof *names);
            types = realloc(types, count + 1);
            memcpy(names[count], buffer + at + sizeof entry, entry.d_namlen);
            names[count][entry.d_namlen] = 0;
            types[count] = entry.d_type;
            printf("entry of %s: %s type %u ino %llu next %llu\n", path, names[count], entry.d_type, entry.d_ino,
                   entry.d_next);
            count++;
            cookie = entry.d_next;
            at += sizeof entry + entry.d_namlen;
            taken++;
        }
        if (used < room || taken == 0)
            break;
    }
    for (size_t each = 0; each < count; each++) {
        const char *name = names[each];
        char below[2048];
        snprintf(below, sizeof below, "%s/%s", path, name);
        __wasi_filestat_t found;
        unsigned failed = __wasi_path_filestat_get(fd, 0, name, &found);
        if (failed != 0) {
            printf("stat %s: %u\n", below, failed);
            continue;
        }
        stat_line(below, &found);
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (types[each] == __WASI_FILETYPE_SYMBOLIC_LINK) {
            uint8_t target[512];
            __wasi_size_t length = 0;
            failed = __wasi_path_readlink(fd, name, target, sizeof target, &length);
            printf("link %s: %u %.*s\n", below, failed, (int)length, target);
            continue;
        }
        __wasi_fd_t opened;
        int directory = types[each] == __WASI_FILETYPE_DIRECTORY;
        failed = __wasi_path_open(fd, 0, name, directory ? __WASI_OFLAGS_DIRECTORY : 0,
                                  __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_SEEK | __WASI_RIGHTS_FD_FILESTAT_GET |
                                      (directory ? __WASI_RIGHTS_FD_READDIR | __WASI_RIGHTS_PATH_OPEN |
                                                       __WASI_RIGHTS_PATH_FILESTAT_GET | __WASI_RIGHTS_PATH_READLINK
                                                 : 0),
                                  directory ? __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_SEEK |
                                                  __WASI_RIGHTS_FD_FILESTAT_GET | __WASI_RIGHTS_FD_READDIR |
                                                  __WASI_RIGHTS_PATH_OPEN | __WASI_RIGHTS_PATH_FILESTAT_GET |
                                                  __WASI_RIGHTS_PATH_READLINK
                                            : 0,
                                  0, &opened);
        printf("open %s: %u\n", below, failed);
        if (failed != 0)
            continue;
        if (directory)
            walk(opened, below);
        else if (types[each] != __WASI_FILETYPE_REGULAR_FILE) { /* a device may have no end */
            unsigned char few[8] = {0};
            ssize_t got = read((int)opened, few, sizeof few);
            printf("%zd bytes of %s:", got, below);
            for (ssize_t at = 0; at < got; at++)
                printf(" %02x", few[at]);
            printf("\n");
            fstat_line("open device", (int)opened);
        } else {
            digest((int)opened, below);
            fstat_line("open file", (int)opened);
        }
        close((int)opened);
    }
    free(names);
    free(types);
}

static void stat_path(const char *path)
{
    struct stat found;
    if (lstat(path, &found) != 0)
        printf("%s: %s\n", path, strerror(errno));
    else
        printf("%s: ino %llu nlink %llu size %lld mtim %lld.%09ld ctim %lld.%09ld\n", path,
               (unsigned long long)found.st_ino, (unsigned long long)found.st_nlink, (long long)found.st_size,
               (long long)found.st_mtim.tv_sec, found.st_mtim.tv_nsec, (long long)found.st_ctim.tv_sec,
               found.st_ctim.tv_nsec);
}

static void said(const char *what, int result)
{
    printf("%s: %s\n", what, result < 0 ? strerror(errno) : "done");
}

static void change(const char *directory)
{
    static const struct timespec moment = {0, 250000000};
    char piece[3000];
    memset(piece, 'x', sizeof piece);
    said("chdir", chdir(directory));
    int fd = open("new", O_RDWR | O_CREAT | O_EXCL, 0666);
    said("create", fd);
    fstat_line("new", fd);
    for (int each = 0; each < 5; each++)
        said("write", (int)write(fd, piece, sizeof piece));
    fstat_line("written", fd);
    nanosleep(&moment, NULL);
    stat_path("new");
    said("write", (int)write(fd, piece, 7));
    said("pwrite", (int)pwrite(fd, "y", 1, 20000));
    fstat_line("written later", fd);
    stat_path(".");
    nanosleep(&moment, NULL);
    said("rename", rename("new", "renamed"));
    stat_path("renamed");
    stat_path("new");
    int other = open("new", O_RDWR | O_CREAT, 0666);
    said("create another", other);
    fstat_line("another", other);
    fstat_line("the first", fd);
    said("unlink", unlink("renamed"));
    fstat_line("without a name", fd);
    int third = open("renamed", O_RDWR | O_CREAT, 0666);
    said("write", (int)write(third, "third", 5));
    fstat_line("a third", third);
    said("read", (int)pread(fd, piece, 10, 0));
    close(fd);
    fstat_line("a third", third);
    close(third);
    said("rename over", rename("new", "renamed"));
    stat_path("renamed");
    close(other);
    said("unlink", unlink("renamed"));
    said("mkdir", mkdir("d", 0777));
    said("mkdir", mkdir("d/e", 0777));
    fd = open("d/e/f", O_WRONLY | O_CREAT, 0666);
    said("write", (int)write(fd, "deep", 4));
    close(fd);
    stat_path("d");
    stat_path("d/e");
    stat_path("d/e/f");
    nanosleep(&moment, NULL);
    said("rename", rename("d", "moved"));
    said("mkdir", mkdir("d", 0777));
    said("mkdir", mkdir("d/e", 0777));
    fd = open("d/e/f", O_WRONLY | O_CREAT, 0666);
    close(fd);
    stat_path("d/e/f");
    stat_path("moved");
    stat_path("moved/e");
    stat_path("moved/e/f");
    said("link", link("moved/e/f", "second"));
    stat_path("second");
    stat_path("moved/e/f");
    said("unlink", unlink("moved/e/f"));
    stat_path("second");
    said("symlink", symlink("second", "to"));
    stat_path("to");
    stat_path("given");
    nanosleep(&moment, NULL);
    fd = open("given", O_WRONLY | O_APPEND);
    said("append", (int)write(fd, "more", 4));
    stat_path("given");
    close(fd);
    const struct timespec times[2] = {{1000, 5}, {2000, 6}};
    said("utimens", utimensat(AT_FDCWD, "second", times, 0));
    stat_path("second");
    const struct timespec now[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    said("utimens", utimensat(AT_FDCWD, "moved", now, 0));
    stat_path("moved");
    fd = open("given", O_WRONLY | O_TRUNC);
    said("truncate", fd);
    fstat_line("truncated", fd);
    close(fd);
    said("rmdir", rmdir("d"));
    said("unlink", unlink("d/e/f"));
    said("rmdir", rmdir("d/e"));
    said("rmdir", rmdir("d"));
    stat_path(".");
}

static void numbers(void)
{
    volatile double zero = 0, infinite = INFINITY, with_payload = 0;
    volatile float small_zero = 0, small_infinite = INFINITY;
    uint64_t bits = 0xfff4000000000123u;
    memcpy((void *)&with_payload, &bits, sizeof bits);
    double doubles[] = {zero / zero, infinite - infinite, zero * infinite, sqrt(-1 - zero), with_payload + 1,
                        with_payload * zero, fmin(with_payload, 1)};
    float floats[] = {small_zero / small_zero, small_infinite - small_infinite, (float)with_payload,
                      sqrtf(-1 - small_zero)};
    for (size_t each = 0; each < sizeof doubles / sizeof *doubles; each++) {
        memcpy(&bits, &doubles[each], sizeof bits);
        printf("double %zu: %016llx\n", each, (unsigned long long)bits);
    }
    for (size_t each = 0; each < sizeof floats / sizeof *floats; each++) {
        uint32_t few;
        memcpy(&few, &floats[each], sizeof few);
        printf("float %zu: %08x\n", each, few);
    }
}

int main(int argc, char **argv)
{
    const char *changed = NULL;
    int copies = 0;
    for (int each = 0; each < argc; each++) {
        printf("argument %d: %s\n", each, argv[each]);
        if (strcmp(argv[each], "-w") == 0 && each + 1 < argc)
            changed = argv[each + 1];
        copies |= strcmp(argv[each], "-s") == 0;
    }
    for (char **each = environ; *each != NULL; each++)
        printf("environment: %s\n", *each);
    look("at first");
    look("again");
    static const struct timespec little = {0, 141592653};
    printf("sleep: %d\n", nanosleep(&little, NULL));
    look("after a sleep");
    sched_yield();
    unsigned char chance[24];
    for (int times = 0; times < 3; times++) {
        printf("random: %u ", __wasi_random_get(chance, sizeof chance));
        for (size_t each = 0; each < sizeof chance; each++)
            printf("%02x", chance[each]);
        printf("\n");
    }
    numbers();
    __wasi_fd_t first = 3;
    for (__wasi_fd_t fd = 0; fd < 12; fd++) {
        __wasi_fdstat_t state;
        unsigned failed = __wasi_fd_fdstat_get(fd, &state);
        if (failed != 0) {
            printf("fd %u: %u\n", fd, failed);
            continue;
        }
        printf("fd %u: type %u flags %u rights %llx %llx isatty %d\n", fd, state.fs_filetype, state.fs_flags,
               state.fs_rights_base, state.fs_rights_inheriting, isatty((int)fd));
        fstat_line("of it", (int)fd);
    }
    if (copies)
        digest(0, "standard input");
    if (changed != NULL)
        change(changed);
    for (__wasi_fd_t fd = first;; fd++) {
        __wasi_prestat_t preopen;
        if (__wasi_fd_prestat_get(fd, &preopen) != 0)
            break;
        char name[512] = {0};
        if (__wasi_fd_prestat_dir_name(fd, (uint8_t *)name, preopen.u.dir.pr_name_len) != 0)
            break;
        printf("preopen %u: %s\n", fd, name);
        fstat_line(name, (int)fd);
        walk(fd, name);
    }
    look("at last");
    printf("memory: %zu pages\n", __builtin_wasm_memory_size(0));
    return 0;
}
