/* seqread FILE SIZE: reads FILE with read(2) of SIZE bytes until its end; prints how many bytes, and a checksum. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned char buffer[1 << 20];

int main(int argc, char **argv)
{
    long long total = 0;
    uint64_t sum = 0;
    size_t size = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    int fd = argc > 2 ? open(argv[1], O_RDONLY) : -1;
    if (fd < 0 || size == 0 || size > sizeof buffer) {
        perror("seqread");
        return 1;
    }
    for (;;) {
        ssize_t count = read(fd, buffer, size);
        if (count < 0) {
            perror("seqread: read");
            return 2;
        }
        if (count == 0)
            break;
        for (ssize_t at = (4096 - total % 4096) % 4096; at < count; at += 4096)
            sum = sum * 31 + buffer[at];
        total += count;
    }
    printf("%lld %016llx\n", total, (unsigned long long)sum);
    return close(fd) == 0 ? 0 : 3;
}
