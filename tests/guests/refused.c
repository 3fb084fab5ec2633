/* refused WHAT PATH [OTHER]: does one thing with PATH (write, read, mkdir, remove, rename to OTHER, link to OTHER, many: makes
   files in it until that fails, big: writes until that fails), and exits with 1 if it was refused. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int does(const char *what, const char *path, const char *other)
{
    static char buffer[4096];
    int fd;
    if (strcmp(what, "mkdir") == 0)
        return mkdir(path, 0700);
    if (strcmp(what, "remove") == 0)
        return unlink(path);
    if (strcmp(what, "rename") == 0)
        return rename(path, other);
    if (strcmp(what, "link") == 0)
        return symlink(other, path);
    if (strcmp(what, "many") == 0) {
        for (int number = 0;; number++) {
            snprintf(buffer, sizeof buffer, "%s/%d", path, number);
            if (open(buffer, O_WRONLY | O_CREAT, 0600) < 0)
                return -1;
        }
    }
    fd = open(path, strcmp(what, "read") == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || strcmp(what, "read") == 0)
        return fd;
    do {
        if (write(fd, buffer, sizeof buffer) < 0)
            return -1;
    } while (strcmp(what, "big") == 0);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && does(argv[1], argv[2], argc > 3 ? argv[3] : "") >= 0)
        return 0;
    perror(argc > 2 ? argv[2] : "refused");
    return 1;
}
