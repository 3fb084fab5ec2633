// Does what its arguments say, one after the other: names are as they are given, and what cannot be done is said.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int failed(const char *what, const char *name) {
    printf("%s %s: %s\n", what, name, strerror(errno));
    return 1;
}

static int put(const char *name, int flags, const char *text) {
    int fd = open(name, flags, 0600);
    if (fd < 0) return 1;
    int wrong = write(fd, text, strlen(text)) != (ssize_t)strlen(text);
    return close(fd) || wrong;
}

int main(int count, char **words) {
    const struct timespec then[2] = {{1500000000, 0}, {1500000000, 0}};
    for (int at = 1; at < count; at++) {
        const char *what = words[at], *name = words[++at];
        int wrong;
        if (!strcmp(what, "new")) wrong = put(name, O_CREAT | O_EXCL | O_WRONLY, words[++at]);
        else if (!strcmp(what, "write")) wrong = put(name, O_CREAT | O_TRUNC | O_WRONLY, words[++at]);
        else if (!strcmp(what, "patch")) wrong = put(name, O_WRONLY, words[++at]);
        else if (!strcmp(what, "open")) wrong = put(name, O_RDWR, "");
        else if (!strcmp(what, "mkdir")) wrong = mkdir(name, 0700);
        else if (!strcmp(what, "rm")) wrong = unlink(name);
        else if (!strcmp(what, "rmdir")) wrong = rmdir(name);
        else if (!strcmp(what, "mv")) wrong = rename(name, words[++at]);
        else if (!strcmp(what, "ln")) wrong = link(name, words[++at]);
        else if (!strcmp(what, "symlink")) wrong = symlink(name, words[++at]);
        else if (!strcmp(what, "date")) wrong = utimensat(AT_FDCWD, name, then, AT_SYMLINK_NOFOLLOW);
        else if (!strcmp(what, "fdate")) {
            int fd = open(name, O_RDONLY);
            wrong = fd < 0 || futimens(fd, then) || close(fd);
        } else if (!strcmp(what, "trap")) __builtin_trap();
        else return failed("no such command", what);
        if (wrong) return failed(what, name);
    }
    return 0;
}
