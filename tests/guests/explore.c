// Does what the lines of its standard input say, and prints all that it gets to see: names, contents, attributes, errors.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static unsigned long sum(const unsigned char *bytes, ssize_t count, unsigned long from) {
    for (ssize_t at = 0; at < count; at++) from = from * 31 + bytes[at];
    return from;
}

static void cat(const char *name, long offset, long length) {
    static unsigned char buffer[1 << 16];
    int fd = open(name, O_RDONLY);
    unsigned long found = 7;
    long total = 0;
    if (fd < 0) { printf("cat %s: %s\n", name, strerror(errno)); return; }
    if (lseek(fd, offset, SEEK_SET) < 0) printf("seek: %s\n", strerror(errno));
    while (length < 0 || total < length) {
        size_t wanted = length < 0 || length - total > (long)sizeof buffer ? sizeof buffer : (size_t)(length - total);
        ssize_t count = read(fd, buffer, wanted);
        if (count < 0) { printf("read %s: %s\n", name, strerror(errno)); break; }
        if (!count) break;
        found = sum(buffer, count, found);
        total += count;
    }
    printf("cat %s: %ld bytes, %lx\n", name, total, found);
    close(fd);
}

static void put(const char *name, int flags, long offset, const char *text, long times) {
    int fd = open(name, flags, 0600);
    if (fd < 0) { printf("put %s: %s\n", name, strerror(errno)); return; }
    if (offset && lseek(fd, offset, SEEK_SET) < 0) printf("seek: %s\n", strerror(errno));
    for (; times > 0; times--)
        if (write(fd, text, strlen(text)) < 0) { printf("write %s: %s\n", name, strerror(errno)); break; }
    if (close(fd)) printf("close %s: %s\n", name, strerror(errno));
}

static void list(const char *name) {
    DIR *dir = opendir(name);
    struct dirent *entry;
    if (!dir) { printf("ls %s: %s\n", name, strerror(errno)); return; }
    while ((entry = readdir(dir))) printf("ls %s: %s %d\n", name, entry->d_name, entry->d_type);
    closedir(dir);
}

static void look(const char *name) {
    struct stat found;
    char target[256];
    if (lstat(name, &found)) { printf("stat %s: %s\n", name, strerror(errno)); return; }
    printf("stat %s: %o %lld %lld\n", name, found.st_mode & S_IFMT, S_ISDIR(found.st_mode) ? 0 : (long long)found.st_size,
           (long long)found.st_mtim.tv_sec);
    ssize_t count = readlink(name, target, sizeof target);
    if (count >= 0) printf("link %s: %.*s\n", name, (int)count, target);
}

static void tell(int wrong, const char *what, const char *name) {
    printf("%s %s: %s\n", what, name, wrong ? strerror(errno) : "done");
}

int main(void) {
    char line[512];
    while (fgets(line, sizeof line, stdin)) {
        char *words[5] = {"", "", "", "", ""}, *rest = line;
        for (int at = 0; at < 5 && (rest = strtok(at ? NULL : line, " \n")); at++) words[at] = rest;
        const char *what = words[0], *name = words[1], *more = words[2];
        if (!strcmp(what, "cat")) cat(name, atol(more), *words[3] ? atol(words[3]) : -1);
        else if (!strcmp(what, "ls")) list(name);
        else if (!strcmp(what, "stat")) look(name);
        else if (!strcmp(what, "new")) put(name, O_CREAT | O_EXCL | O_WRONLY, 0, more, *words[3] ? atol(words[3]) : 1);
        else if (!strcmp(what, "write")) put(name, O_CREAT | O_TRUNC | O_WRONLY, 0, more, 1);
        else if (!strcmp(what, "append")) put(name, O_APPEND | O_WRONLY, 0, more, 1);
        else if (!strcmp(what, "patch")) put(name, O_WRONLY, atol(words[3]), more, 1);
        else if (!strcmp(what, "cut")) tell(truncate(name, atol(more)), what, name);
        else if (!strcmp(what, "mkdir")) tell(mkdir(name, 0700), what, name);
        else if (!strcmp(what, "rm")) tell(unlink(name), what, name);
        else if (!strcmp(what, "rmdir")) tell(rmdir(name), what, name);
        else if (!strcmp(what, "mv")) tell(rename(name, more), what, name);
        else if (!strcmp(what, "ln")) tell(link(name, more), what, name);
        else if (!strcmp(what, "symlink")) tell(symlink(name, more), what, more);
        else if (!strcmp(what, "random")) {
            unsigned char bytes[16];
            tell(getentropy(bytes, sizeof bytes), what, "");
            printf("%lx\n", sum(bytes, sizeof bytes, 7));
        } else if (!strcmp(what, "clock")) {
            struct timespec now = {0, 0};
            unsigned long found = 7;
            for (long left = atol(name); left > 0; left--) {
                clock_gettime(CLOCK_REALTIME, &now);
                found = found * 31 + now.tv_nsec + now.tv_sec;
            }
            printf("clock: %lx\n", found);
        } else if (!strcmp(what, "env")) printf("%s=%s\n", name, getenv(name) ? getenv(name) : "(none)");
        else if (!strcmp(what, "sleep")) usleep(atol(name));
        else if (!strcmp(what, "spin")) for (volatile long at = 0;; at++) {}
        else if (!strcmp(what, "wait")) for (;;) sleep(1);
        else if (!strcmp(what, "trap")) __builtin_trap();
        else if (!strcmp(what, "exit")) exit(atoi(name));
        else printf("no such command: %s\n", what);
        fflush(stdout);
    }
    return 0;
}
