// Tries to use up all that a host has: names, space, descriptors, output, time. argv[1] says how it ends.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

__attribute__((import_module("wasi_snapshot_preview1"), import_name("fd_write"))) int raw_write(
    int fd, const void *iovs, uint32_t count, void *done);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("fd_read"))) int raw_read(
    int fd, const void *iovs, uint32_t count, void *done);

static char name[300], block[65536];
static char iovs[10000000 * 8 + 8];
static volatile int sink = -1;

static void files(void) {
    memset(name, 'n', 250);
    long made = 0, dead = 0;
    for (long i = 0; dead < 100; i++) {
        sprintf(name + 200, "%049ld", i);
        int fd = open(name, O_CREAT | O_RDWR, 0600);
        if (fd < 0) { dead++; continue; }
        write(fd, "x", 1);
        if (i % 3) close(fd);
        made++;
        sprintf(name + 200, "%048ldl", i);
        if (symlink(block + 1, name) == 0) made++;
        sprintf(name + 200, "%048ldd", i);
        if (mkdir(name, 0700) == 0) made++;
    }
    fprintf(stderr, "%ld names: %s\n", made, strerror(errno));
}

static void holes(void) {
    unlink("1");
    memset(name, 'n', 250);
    sprintf(name + 200, "%049ld", 1L);
    unlink(name);
    int fd = open("hole", O_CREAT | O_RDWR, 0600);
    if (fd < 0) {
        sprintf(name + 200, "%049ld", 2L);
        fd = open(name, O_RDWR);
    }
    for (off_t size = (off_t)1 << 40; size; size /= 2)
        if (ftruncate(fd, size) == 0) {
            fprintf(stderr, "a hole of %lld bytes\n", (long long)size);
            break;
        }
    for (int i = 0; i < 100; i++) {
        pwrite(fd, block, sizeof block, ((off_t)1 << 40) + i * (off_t)sizeof block);
        posix_fallocate(fd, 0, (off_t)1 << 40);
    }
}

static void vectors(void) {
    uint32_t done = 0;
    for (long i = 0; i < 10000000; i++) {
        ((uint32_t *)iovs)[2 * i] = (uint32_t)(uintptr_t)block;
        ((uint32_t *)iovs)[2 * i + 1] = sizeof block;
    }
    int fd = open("hole", O_RDWR);
    int first = raw_write(fd, iovs, 10000000, &done), second = raw_read(fd, iovs, 10000000, &done);
    fprintf(stderr, "10 million iovecs: %d %d\n", first, second);
}

static void flood(void) {
    memset(block, '#', sizeof block);
    long written = 0, failed = 0;
    while (failed < 1000) {
        ssize_t count = write(1, block, sizeof block);
        if (count < 0) failed++; else written += count;
    }
    fprintf(stderr, "%ld bytes of output\n", written);
}

static int deeper(int depth) {
    if (sink == depth) return 0;
    return deeper(depth + 1) * 3 + sink;
}

int main(int argc, char **argv) {
    const char *end = argc > 1 ? argv[1] : "loop";
    memset(block, 't', 4000);
    files();
    holes();
    vectors();
    flood();
    fflush(stderr);
    if (strcmp(end, "poll") == 0) {
        struct pollfd nothing = { .fd = 0, .events = 0 };
        for (;;) {
            struct timespec minute = { 60, 0 };
            poll(&nothing, 0, 60000);
            nanosleep(&minute, NULL);
        }
    }
    if (strcmp(end, "recursion") == 0) return deeper(0);
    for (;;) sink++;
}
