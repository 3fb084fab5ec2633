/* Devices through the C library: what programs do with /dev/null and its like. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void look(const char *path) {
    struct stat by_path, opened;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || stat(path, &by_path) || fstat(fd, &opened)) {
        printf("%s: %s\n", path, strerror(errno));
        return;
    }
    unsigned char bytes[16] = {1, 1, 1, 1};
    long read_bytes = read(fd, bytes, sizeof bytes);
    long sum = 0;
    for (int at = 0; at < 16; at++) sum += bytes[at];
    long written = write(fd, "swallowed", 9);
    const char *error = written < 0 ? strerror(errno) : "ok";
    printf("%s: device %d same %d tty %d read %ld zeros %d written %ld (%s) seek %ld\n", path, S_ISCHR(opened.st_mode),
           by_path.st_ino == opened.st_ino, isatty(fd), read_bytes, sum == 0, written,
           error, (long)lseek(fd, 100, SEEK_SET));
    close(fd);
}

int main(void) {
    look("/dev/null");
    look("/dev/zero");
    look("/dev/full");
    look("/dev/urandom");
    fflush(stdout);
    FILE *out = fopen("/dev/stdout", "w");
    FILE *err = fopen("/dev/stderr", "a");
    FILE *in = fopen("/dev/stdin", "r");
    char line[32];
    if (!out || !err || !in || !fgets(line, sizeof line, in)) return 1;
    fprintf(out, "out: %s", line);
    fprintf(err, "err: %s", line);
    fclose(out);
    fclose(err);
    fclose(in);
    printf("still here\n");
    fflush(stdout);
    if (!freopen("/dev/null", "w", stdout)) return 2;
    printf("nobody reads this\n");
    return 0;
}
