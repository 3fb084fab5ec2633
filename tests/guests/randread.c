/* randread FILE COUNT: COUNT times pread(2) of 4 KiB at pseudo-random places; prints a checksum. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned char buffer[4096];

int main(int argc, char **argv)
{
    uint64_t state = 88172645463325252ull, sum = 0;
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    int fd = argc > 2 ? open(argv[1], O_RDONLY) : -1;
    if (fd < 0) {
        perror("randread");
        return 1;
    }
    uint64_t size = (uint64_t)lseek(fd, 0, SEEK_END);
    for (long number = 0; number < count; number++) {
        state ^= state << 13; /* xorshift64: G. Marsaglia, Journal of Statistical Software 8 (14), 2003 */
        state ^= state >> 7;
        state ^= state << 17;
        if (pread(fd, buffer, sizeof buffer, (off_t)(state % (size - sizeof buffer))) != sizeof buffer) {
            perror("randread: pread");
            return 2;
        }
        sum = sum * 31 + buffer[7] + 256u * buffer[4000];
    }
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}
