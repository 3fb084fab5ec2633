/*
 * What one file operation costs, in microseconds.
 *
 *     bench [--readonly] [--scale F] [--row NAME]... [DIR]
 *
 * One line per row on stdout: name, tab, microseconds per operation. Plain POSIX, so the same source is the native
 * program and the WASI guest.
 *
 * Each row runs once to warm up, then in batches that double until one has taken 50 ms (times F); that last batch
 * counts. A call of 0.01 us and one of 100 us are thus measured for the same time. Every result is checked, so a row
 * that does not do its work ends the program instead of looking fast.
 *
 * In DIR (default ".") the program makes, and removes at the end:
 *
 *     bench-1m     1 MiB   }  the byte at offset o is (o / 4096) % 256
 *     bench-16m    16 MiB  }
 *     bench-out    1 MiB, what "write 16 B" writes to
 *     bench-dir/   1000 empty files, entry-0000 to entry-0999
 *     bench-new/   what "create + write + close" makes and "unlink" removes
 *
 * It never replaces anything: files of these names are an error. With --readonly only the rows that write nothing run,
 * and bench-1m, bench-16m and bench-dir must be there already.
 *
 * Exit status: 0, 1 if an operation failed, 2 for wrong arguments.
 */
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    KIB = 1024,
    MIB = 1024 * KIB,
    BLOCK = 4 * KIB,
    SMALL = 16,
    LARGE = 64 * KIB,
    ENTRIES = 1000,
    NEW_FILES = 1000, /* alive at once in bench-new */
    PATH_BYTES = 1024,
    ROWS_MAX = 32,
};

static const char *directory = ".";
static double target_us = 50000;
static bool readonly;
static const char *wanted[ROWS_MAX];
static int wanted_count;

static char path_1m[PATH_BYTES], path_16m[PATH_BYTES], path_out[PATH_BYTES], path_dir[PATH_BYTES], path_new[PATH_BYTES];
static int fd_1m = -1, fd_16m = -1, fd_out = -1;
static unsigned char buffer[LARGE];

static void fail(const char *what)
{
    /* errno belongs to another call if this one "succeeded" with a wrong result; clearing it before each would cost. */
    fprintf(stderr, "bench: %s failed or gave a wrong result (errno: %s)\n", what, strerror(errno));
    exit(1);
}

/* Evaluated in every build, unlike assert. */
static inline void check(bool good, const char *what)
{
    if (__builtin_expect(!good, 0))
        fail(what);
}

static double now_us(void)
{
    struct timespec now;
    check(clock_gettime(CLOCK_MONOTONIC, &now) == 0, "clock_gettime");
    return now.tv_sec * 1e6 + now.tv_nsec * 1e-3;
}

static unsigned char content_at(off_t offset)
{
    return (unsigned char)(offset / BLOCK);
}

/* --- the rows: each does its operation `count` times ---------------------------------------------------------- */

static void row_empty(unsigned long count)
{
    while (count--)
        __asm__ volatile("" ::: "memory"); /* keeps the loop: this row is what the others pay for theirs */
}

static void row_clock_gettime(unsigned long count)
{
    struct timespec now;
    while (count--)
        check(clock_gettime(CLOCK_MONOTONIC, &now) == 0, "clock_gettime");
}

static void row_read_small(unsigned long count)
{
    static off_t offset = MIB;
    while (count--) {
        if (offset == MIB) {
            check(lseek(fd_1m, 0, SEEK_SET) == 0, "rewind bench-1m");
            offset = 0;
        }
        check(read(fd_1m, buffer, SMALL) == SMALL && buffer[0] == content_at(offset), "read 16 B");
        offset += SMALL;
    }
}

static void row_read_large(unsigned long count)
{
    static off_t offset = 16 * MIB;
    while (count--) {
        if (offset == 16 * MIB) {
            check(lseek(fd_16m, 0, SEEK_SET) == 0, "rewind bench-16m");
            offset = 0;
        }
        check(read(fd_16m, buffer, LARGE) == LARGE && buffer[0] == content_at(offset) &&
                  buffer[LARGE - 1] == content_at(offset + LARGE - 1),
              "read 64 KiB");
        offset += LARGE;
    }
}

static void row_pread(unsigned long count)
{
    static unsigned random = 2463534242u; /* xorshift32: the same offsets for everybody */
    while (count--) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        off_t offset = (off_t)(random % (16 * MIB / BLOCK)) * BLOCK;
        check(pread(fd_16m, buffer, BLOCK, offset) == BLOCK && buffer[0] == content_at(offset), "pread 4 KiB");
    }
}

/* bench-out is full already, so every batch overwrites, however short it is. */
static void row_write_small(unsigned long count)
{
    static off_t offset = MIB;
    while (count--) {
        if (offset == MIB) {
            check(lseek(fd_out, 0, SEEK_SET) == 0, "rewind bench-out");
            offset = 0;
        }
        check(write(fd_out, buffer, SMALL) == SMALL, "write 16 B");
        offset += SMALL;
    }
}

static void row_lseek(unsigned long count)
{
    while (count--) {
        off_t offset = (off_t)(count % MIB);
        check(lseek(fd_16m, offset, SEEK_SET) == offset, "lseek");
    }
}

static void row_fstat(unsigned long count)
{
    struct stat status;
    while (count--)
        check(fstat(fd_1m, &status) == 0 && status.st_size == MIB, "fstat");
}

static void row_stat(unsigned long count)
{
    struct stat status;
    while (count--)
        check(stat(path_1m, &status) == 0 && status.st_size == MIB, "stat");
}

static void row_open_close(unsigned long count)
{
    while (count--) {
        int fd = open(path_1m, O_RDONLY);
        check(fd >= 0, "open");
        check(close(fd) == 0, "close");
    }
}

/* One operation is one entry; a pass over the directory is opendir, every readdir, closedir. */
static void row_readdir(unsigned long count)
{
    for (; count; count--) {
        int found = 0;
        DIR *stream = opendir(path_dir);
        check(stream != NULL, "opendir");
        errno = 0;
        for (struct dirent *entry; (entry = readdir(stream)) != NULL;)
            found += entry->d_name[0] != '.';
        check(errno == 0 && found == ENTRIES, "readdir");
        check(closedir(stream) == 0, "closedir");
    }
}

/* --- measuring -------------------------------------------------------------------------------------------------- */

struct row {
    const char *name;
    void (*batch)(unsigned long count);
    int operations; /* in a count of one */
    bool writes;
};

static const struct row rows[] = {
    {"empty", row_empty, 1, false},
    {"clock_gettime", row_clock_gettime, 1, false},
    {"read 16 B", row_read_small, 1, false},
    {"pread 4 KiB, random", row_pread, 1, false},
    {"write 16 B", row_write_small, 1, true},
    {"lseek", row_lseek, 1, false},
    {"fstat", row_fstat, 1, false},
    {"stat", row_stat, 1, false},
    {"open + close", row_open_close, 1, false},
    {"readdir, per entry of 1000", row_readdir, ENTRIES, false},
    {"read 64 KiB", row_read_large, 1, false},
};
static const char CREATE[] = "create + write + close", UNLINK[] = "unlink";

static bool is_row(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].name, name) == 0)
            return true;
    return strcmp(name, CREATE) == 0 || strcmp(name, UNLINK) == 0;
}

static bool is_wanted(const char *name)
{
    for (int i = 0; i < wanted_count; i++)
        if (strcmp(wanted[i], name) == 0)
            return true;
    return wanted_count == 0;
}

static void report(const char *name, double microseconds)
{
    if (is_wanted(name)) {
        printf("%s\t%.5f\n", name, microseconds);
        fflush(stdout);
    }
}

static void measure(const struct row *row)
{
    row->batch(1);
    for (unsigned long count = 1;; count *= 2) {
        double start = now_us();
        row->batch(count);
        double elapsed = now_us() - start;
        if (elapsed >= target_us) {
            report(row->name, elapsed / count / row->operations);
            return;
        }
    }
}

/* path_new/f0000042; each number is used once, so no layer below can remember the name. */
static const char *new_file(unsigned number)
{
    static char path[PATH_BYTES + 16];
    static size_t prefix;
    if (prefix == 0)
        prefix = (size_t)snprintf(path, sizeof path, "%s/f", path_new);
    for (int digit = 6; digit >= 0; digit--, number /= 10)
        path[prefix + (size_t)digit] = (char)('0' + number % 10);
    path[prefix + 7] = '\0';
    return path;
}

static void create_files(unsigned first, unsigned count)
{
    for (unsigned number = first; number < first + count; number++) {
        int fd = open(new_file(number), O_WRONLY | O_CREAT | O_EXCL, 0600);
        check(fd >= 0, "create");
        check(write(fd, buffer, SMALL) == SMALL, "write to a new file");
        check(close(fd) == 0, "close a new file");
    }
}

static void unlink_files(unsigned first, unsigned count)
{
    for (unsigned number = first; number < first + count; number++)
        check(unlink(new_file(number)) == 0, "unlink");
}

/* In turns, so that the directory never holds more than NEW_FILES; each is summed until both have run long enough. */
static void measure_create_and_unlink(void)
{
    const unsigned warm_up = 16;
    create_files(0, warm_up);
    unlink_files(0, warm_up);
    double creating = 0, unlinking = 0;
    unsigned long done = 0;
    while (creating < target_us || unlinking < target_us) {
        unsigned first = warm_up + (unsigned)done;
        double start = now_us();
        create_files(first, NEW_FILES);
        double created = now_us();
        unlink_files(first, NEW_FILES);
        unlinking += now_us() - created;
        creating += created - start;
        done += NEW_FILES;
    }
    report(CREATE, creating / (double)done);
    report(UNLINK, unlinking / (double)done);
}

/* --- the files -------------------------------------------------------------------------------------------------- */

static void make_file(const char *path, off_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    check(fd >= 0, path);
    for (off_t offset = 0; offset < size; offset += LARGE) {
        for (off_t i = 0; i < LARGE; i++)
            buffer[i] = content_at(offset + i);
        check(write(fd, buffer, LARGE) == LARGE, path);
    }
    check(close(fd) == 0, path);
}

static void entry_path(char *path, size_t size, int number)
{
    snprintf(path, size, "%s/entry-%04d", path_dir, number);
}

static void prepare(void)
{
    make_file(path_1m, MIB);
    make_file(path_16m, 16 * MIB);
    make_file(path_out, MIB);
    check(mkdir(path_dir, 0700) == 0, path_dir);
    check(mkdir(path_new, 0700) == 0, path_new);
    for (int number = 0; number < ENTRIES; number++) {
        char path[PATH_BYTES + 16];
        entry_path(path, sizeof path, number);
        make_file(path, 0);
    }
}

static void clean_up(void)
{
    for (int number = 0; number < ENTRIES; number++) {
        char path[PATH_BYTES + 16];
        entry_path(path, sizeof path, number);
        check(unlink(path) == 0, path);
    }
    check(rmdir(path_dir) == 0, path_dir);
    check(rmdir(path_new) == 0, path_new);
    check(unlink(path_1m) == 0, path_1m);
    check(unlink(path_16m) == 0, path_16m);
    check(unlink(path_out) == 0, path_out);
}

static int open_file(const char *path, int flags)
{
    int fd = open(path, flags);
    check(fd >= 0, path);
    return fd;
}

static void join(char *path, const char *name)
{
    errno = ENAMETOOLONG;
    check(snprintf(path, PATH_BYTES, "%s/%s", directory, name) < PATH_BYTES, directory);
    errno = 0;
}

static void usage(const char *problem)
{
    fprintf(stderr, "bench: %s\nusage: bench [--readonly] [--scale F] [--row NAME]... [DIR]\n", problem);
    exit(2);
}

static void parse(int argc, char **argv)
{
    bool have_directory = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--readonly") == 0) {
            readonly = true;
        } else if (strcmp(argv[i], "--scale") == 0 && i + 1 < argc) {
            target_us *= strtod(argv[++i], NULL);
            if (!(target_us > 0))
                usage("--scale needs a number above 0");
        } else if (strcmp(argv[i], "--row") == 0 && i + 1 < argc) {
            if (!is_row(argv[++i]))
                usage("there is no such row");
            if (wanted_count == ROWS_MAX)
                usage("too many rows");
            wanted[wanted_count++] = argv[i];
        } else if (argv[i][0] == '-' || have_directory) {
            usage(argv[i]);
        } else {
            directory = argv[i];
            have_directory = true;
        }
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    join(path_1m, "bench-1m");
    join(path_16m, "bench-16m");
    join(path_out, "bench-out");
    join(path_dir, "bench-dir");
    join(path_new, "bench-new");
    if (!readonly)
        prepare();
    fd_1m = open_file(path_1m, O_RDONLY);
    fd_16m = open_file(path_16m, O_RDONLY);
    if (!readonly)
        fd_out = open_file(path_out, O_WRONLY);

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (is_wanted(rows[i].name) && !(readonly && rows[i].writes))
            measure(&rows[i]);
    if (!readonly && (is_wanted(CREATE) || is_wanted(UNLINK)))
        measure_create_and_unlink();

    check(close(fd_1m) == 0 && close(fd_16m) == 0, "close");
    if (!readonly) {
        check(close(fd_out) == 0, "close");
        clean_up();
    }
    return 0;
}
