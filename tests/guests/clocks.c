// Says what its clocks say, what sleeping does to them, and what times the files have that it makes in /d.
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void clocks(const char *when) {
    struct timespec real, mono;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_MONOTONIC, &mono);
    printf("%s %lld.%09ld %lld.%09ld\n", when, (long long)real.tv_sec, real.tv_nsec, (long long)mono.tv_sec,
           mono.tv_nsec);
}

static void times(const char *path) {
    struct stat s;
    if (stat(path, &s)) {
        printf("%s is not there\n", path);
        return;
    }
    printf("%s %lld.%09ld %lld.%09ld %lld.%09ld\n", path, (long long)s.st_atim.tv_sec, s.st_atim.tv_nsec,
           (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec, (long long)s.st_ctim.tv_sec, s.st_ctim.tv_nsec);
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (write(fd, text, strlen(text)) < 0) perror(path);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "until") == 0) {  // busy until a minute has gone by
        time_t start = time(NULL);
        while (time(NULL) < start + 60) {}
        puts("a minute later");
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "sleep") == 0)  // for ever
        for (;;) usleep(1000000);
    clocks("start");
    put("/d/made", "one");
    times("/d/made");
    times("/d");
    struct timespec nap = {3600, 5};
    nanosleep(&nap, NULL);
    clocks("slept");
    struct pollfd p = {.fd = 0, .events = POLLIN};
    printf("ready %d\n", poll(&p, 1, 1500));
    clocks("polled");
    put("/d/made", "two");
    times("/d/made");
    struct timespec touched[2] = {{.tv_sec = 7, .tv_nsec = 0}, {.tv_nsec = UTIME_NOW}};
    utimensat(AT_FDCWD, "/d/made", touched, 0);
    times("/d/made");
    mkdir("/d/dir", 0777);
    symlink("made", "/d/dir/link");
    link("/d/made", "/d/dir/hard");
    rename("/d/made", "/d/dir/moved");
    times("/d/dir/moved");
    times("/d/dir");
    truncate("/d/dir/moved", 2);
    times("/d/dir/hard");
    struct timespec resolution;
    clock_getres(CLOCK_REALTIME, &resolution);
    printf("resolution %lld.%09ld\n", (long long)resolution.tv_sec, resolution.tv_nsec);
    return 0;
}
