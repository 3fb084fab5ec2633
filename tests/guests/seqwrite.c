/* seqwrite FILE BYTES [end]: writes BYTES of a pattern from the start to the end, 64 KiB at a time. With a third argument: "sync"
 * calls fsync before close, "trap" ends without closing, "exit" exits without closing, "ignore" closes and ignores the result. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint32_t buffer[16384];

int main(int argc, char **argv)
{
    const char *end = argc > 3 ? argv[3] : "";
    long long left = argc > 2 ? strtoll(argv[2], NULL, 10) : -1;
    uint32_t number = 0;
    int fd = left >= 0 ? open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    if (fd < 0) {
        perror("seqwrite");
        return 1;
    }
    while (left > 0) {
        for (size_t at = 0; at < sizeof buffer / sizeof *buffer; at++)
            buffer[at] = number++ * 2654435761u;
        size_t size = left < (long long)sizeof buffer ? (size_t)left : sizeof buffer;
        for (size_t done = 0; done < size;) {
            ssize_t count = write(fd, (char *)buffer + done, size - done);
            if (count < 0) {
                printf("write: %s\n", strerror(errno));
                return 2;
            }
            done += (size_t)count;
        }
        left -= (long long)size;
    }
    if (strcmp(end, "sync") == 0 && fsync(fd) != 0) {
        printf("fsync: %s\n", strerror(errno));
        return 4;
    }
    if (strcmp(end, "trap") == 0)
        __builtin_trap();
    if (strcmp(end, "exit") == 0)
        exit(0);
    if (close(fd) != 0 && strcmp(end, "ignore") != 0) {
        printf("close: %s\n", strerror(errno));
        return 3;
    }
    puts("written");
    return 0;
}
