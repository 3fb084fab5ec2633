/* steps SCRIPT LOG: does each line of SCRIPT whatever became of the one before; LOG gets "result errno checksum" for
 * each, after it was done. tests/endurance/ledger.py has the same steps in Python, and says what they mean. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char bytes[1 << 17];
static int slots[10];

static char *pattern(long length, long seed)
{
    for (long at = 0; at < length; at++)
        bytes[at] = (char)(seed * 31 + at * 7);
    return bytes;
}

static uint32_t checksum(const char *from, long length)
{
    uint32_t sum = 2166136261u;
    for (long at = 0; at < length; at++)
        sum = (sum ^ (unsigned char)from[at]) * 16777619u;
    return sum;
}

static long names_in(const char *path, uint32_t *sum)
{
    long count = 0;
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -1;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL; count++)
        *sum ^= checksum(entry->d_name, (long)strlen(entry->d_name));
    int error = errno;
    if (closedir(directory) != 0)
        return -1;
    errno = error;
    return error ? -1 : count;
}

int main(int argc, char **argv)
{
    int log = argc > 2 ? open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    if (log < 0)
        return 100;
    for (int slot = 0; slot < 10; slot++)
        slots[slot] = 99;
    for (char *line = strtok(argv[1], "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char what = 0, path[256] = "", other[256] = "", text[64];
        long slot = 0, length = 0, seed = 0, at = 0, result = -1;
        uint32_t sum = 0;
        what = line[0];
        errno = 0;
        if (strchr("nku", what) || strchr("mdsLK", what))
            sscanf(line + 1, "%255s %255s", path, other);
        else if (what == 'o')
            sscanf(line + 1, "%ld %255s %255s", &slot, path, other);
        else
            sscanf(line + 1, "%ld %ld %ld %ld", &slot, &length, &seed, &at);
        int fd = strchr("wWvrRltyc", what) ? slots[slot] : -1;
        struct stat found;
        struct iovec parts[2];
        switch (what) {
        case 'o':
            result = open(path, (strchr(other, 'w') || strchr(other, 'a') ? O_RDWR : O_RDONLY) |
                (strchr(other, 'c') ? O_CREAT : 0) | (strchr(other, 't') ? O_TRUNC : 0) |
                (strchr(other, 'x') ? O_EXCL : 0) | (strchr(other, 'a') ? O_APPEND : 0), 0600);
            slots[slot] = result < 0 ? 99 : (int)result;
            result = result < 0 ? -1 : 0;
            break;
        case 'w': result = write(fd, pattern(length, seed), (size_t)length); break;
        case 'W': result = pwrite(fd, pattern(length, seed), (size_t)length, at); break;
        case 'v':
            pattern(length, seed);
            parts[0] = (struct iovec){bytes, (size_t)length / 3};
            parts[1] = (struct iovec){bytes + length / 3, (size_t)(length - length / 3)};
            result = writev(fd, parts, 2);
            break;
        case 'r':
        case 'R':
            result = what == 'r' ? read(fd, bytes, (size_t)length) : pread(fd, bytes, (size_t)length, seed);
            sum = result < 0 || result > length ? 0 : checksum(bytes, result);
            break;
        case 'l': result = lseek(fd, length, (int)seed); break;
        case 't': result = ftruncate(fd, length); break;
        case 'y': result = fsync(fd); break;
        case 'c': result = close(fd); slots[slot] = 99; break;
        case 'n': result = rename(path, other); break;
        case 'u': result = unlink(path); break;
        case 'm': result = mkdir(path, 0700); break;
        case 'd': result = rmdir(path); break;
        case 's': result = stat(path, &found) ? -1 : (long)found.st_size; break;
        case 'k': result = symlink(path, other); break;
        case 'K':
            result = readlink(path, bytes, 1000);
            sum = result < 0 ? 0 : checksum(bytes, result);
            break;
        case 'L': result = names_in(path, &sum); break;
        case 'e': exit((int)slot);
        case 'x': __builtin_trap();
        }
        int size = snprintf(text, sizeof text, "%ld %d %u\n", result, result < 0 ? errno : 0, sum);
        if (write(log, text, (size_t)size) != size)
            return 101;
    }
    return 0;
}
