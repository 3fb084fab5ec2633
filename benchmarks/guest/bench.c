/* Measures system calls in microseconds each: one line a row, "name<TAB>microseconds".
 *
 * usage: bench DIRECTORY [readonly]
 * The same source is compiled natively and for WASI. Every row runs in batches that double until one takes long enough
 * for the clock. DIRECTORY must hold, for the read-only rows: small (1 MiB), large (16 MiB), many/ (1000 files).
 * Without "readonly" the program makes them itself.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SMALL (1 << 20)
#define LARGE (16 << 20)
#define MANY 1000
#define ENOUGH_US 40000.0

static char path_small[512], path_large[512], path_many[512], path_new[600];
static const char *root;
static char buffer[65536];
static int small, large, written;
static unsigned seed = 12345;

static void fail(const char *what) { perror(what); exit(1); }
static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}
static unsigned next_random(void) { return seed = seed * 1664525u + 1013904223u; }

static void read_16(long n) {
    for (long i = 0; i < n; i++)
        if (read(small, buffer, 16) != 16) {
            if (lseek(small, 0, SEEK_SET) < 0) fail("lseek");
            i--;
        }
}
static void write_16(long n) {
    for (long i = 0; i < n; i++) {
        if (i % 65536 == 0 && lseek(written, 0, SEEK_SET) < 0) fail("lseek");
        if (write(written, buffer, 16) != 16) fail("write");
    }
}
static void pread_4k(long n) {
    for (long i = 0; i < n; i++)
        if (pread(large, buffer, 4096, (off_t)(next_random() >> 8) % (LARGE / 4096) * 4096) != 4096) fail("pread");
}
static void read_64k(long n) {
    for (long i = 0; i < n; i++)
        if (read(large, buffer, 65536) != 65536) {
            if (lseek(large, 0, SEEK_SET) < 0) fail("lseek");
            i--;
        }
}
static void seek(long n) { for (long i = 0; i < n; i++) if (lseek(small, i & 0xFFFF, SEEK_SET) < 0) fail("lseek"); }
static void fstat_(long n) { struct stat st; for (long i = 0; i < n; i++) if (fstat(small, &st)) fail("fstat"); }
static void stat_(long n) { struct stat st; for (long i = 0; i < n; i++) if (stat(path_small, &st)) fail("stat"); }
static void open_close(long n) {
    for (long i = 0; i < n; i++) {
        int fd = open(path_small, O_RDONLY);
        if (fd < 0) fail("open");
        close(fd);
    }
}
static void readdir_(long n) {
    for (long i = 0; i < n; i += MANY + 2) {
        DIR *dir = opendir(path_many);
        if (!dir) fail("opendir");
        while (readdir(dir)) {}
        closedir(dir);
    }
}
static void clock_(long n) { for (long i = 0; i < n; i++) (void)now_us(); }

static void name_new(long i) { snprintf(path_new, sizeof path_new, "%s/new/%ld", root, i); }
static double create_us, unlink_us;
/* Creating and unlinking are measured together, so that the directory is the same size in every round. */
static void create_and_unlink(long n) {
    double start = now_us();
    for (long i = 0; i < n; i++) {
        name_new(i);
        int fd = open(path_new, O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd < 0 || write(fd, buffer, 16) != 16 || close(fd)) fail("create");
    }
    double middle = now_us();
    for (long i = 0; i < n; i++) {
        name_new(i);
        if (unlink(path_new)) fail("unlink");
    }
    create_us = (middle - start) / n;
    unlink_us = (now_us() - middle) / n;
}

static void row(const char *name, void (*body)(long), long n) {
    double took;
    body(1);
    for (;;) {
        double start = now_us();
        body(n);
        took = now_us() - start;
        if (took >= ENOUGH_US) break;
        n *= 2;
    }
    printf("%s\t%.4f\n", name, took / n);
}

static int make(const char *path, long size) {
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    if (fd < 0) fail(path);
    for (long done = 0; done < size; done += (long)sizeof buffer)
        if (write(fd, buffer, sizeof buffer) != (ssize_t)sizeof buffer) fail(path);
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 2) { fprintf(stderr, "usage: bench DIRECTORY [readonly]\n"); return 2; }
    int readonly = argc > 2;
    root = argv[1];
    snprintf(path_small, sizeof path_small, "%s/small", root);
    snprintf(path_large, sizeof path_large, "%s/large", root);
    snprintf(path_many, sizeof path_many, "%s/many", root);
    memset(buffer, 'x', sizeof buffer);
    if (!readonly) {
        close(make(path_small, SMALL));
        close(make(path_large, LARGE));
        if (mkdir(path_many, 0700) && errno != EEXIST) fail(path_many);
        for (int i = 0; i < MANY; i++) {
            snprintf(path_new, sizeof path_new, "%s/file-%04d", path_many, i);
            close(make(path_new, 0));
        }
        snprintf(path_new, sizeof path_new, "%s/new", root);
        if (mkdir(path_new, 0700) && errno != EEXIST) fail(path_new);
        snprintf(path_new, sizeof path_new, "%s/written", root);
        written = make(path_new, SMALL);
    }
    small = open(path_small, O_RDONLY);
    large = open(path_large, O_RDONLY);
    if (small < 0 || large < 0) fail("open");
    row("read 16 B", read_16, 500);
    row("pread 4 KiB", pread_4k, 500);
    if (!readonly) row("write 16 B", write_16, 500);
    row("lseek", seek, 500);
    row("fstat", fstat_, 500);
    row("stat", stat_, 250);
    row("open + close", open_close, 250);
    if (!readonly) {
        create_and_unlink(50);
        create_and_unlink(1000);
        printf("create + write + close\t%.4f\n", create_us);
    }
    row("readdir, per entry", readdir_, MANY + 2);
    if (!readonly) printf("unlink\t%.4f\n", unlink_us);
    if (lseek(large, 0, SEEK_SET) < 0) fail("lseek");
    row("read 64 KiB", read_64k, 256);
    row("clock_gettime", clock_, 500);
    return 0;
}
