// Does what its arguments say, one after the other, and prints all that it sees of it.
//
// read P, part P OFFSET COUNT, size P, stat P, lstat P, when P, link P, list P, first P, there P, create P TEXT, new P
// TEXT, empty P, append P TEXT, patch P OFFSET TEXT, mkdir P, rmdir P, rm P, mv P Q, hard P Q, soft TARGET P, unlinked P, held P Q
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed(const char *what, const char *path)
{
    printf("%s %s: errno %d\n", what, path, errno);
    return 1;
}

static int compare(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

static int pour(int fd)
{
    char buffer[256];
    ssize_t count;
    while ((count = read(fd, buffer, sizeof buffer)) > 0)
        fwrite(buffer, 1, count, stdout);
    putchar('\n');
    return count < 0 ? failed("read", "") : 0;
}

static int list(const char *path, int most)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        return failed("list", path);
    char *names[256];
    int count = 0;
    struct dirent *entry;
    while (count < 256 && (most < 0 || count < most) && (entry = readdir(directory)) != NULL) {
        char name[300];
        snprintf(name, sizeof name, "%s(%d)", entry->d_name, entry->d_type);
        names[count++] = strdup(name);
    }
    if (most < 0)
        qsort(names, count, sizeof *names, compare);
    for (int index = 0; index < count; index++)
        printf(" %s", names[index]);
    putchar('\n');
    closedir(directory);
    return 0;
}

static int status(const char *path, int follow)
{
    struct stat found;
    if ((follow ? stat : lstat)(path, &found))
        return failed("stat", path);
    printf("%s: %o, %lld bytes, %ld names\n", path, found.st_mode & S_IFMT,
           S_ISDIR(found.st_mode) ? 0LL : (long long)found.st_size, (long)found.st_nlink);
    return 0;
}

static int when(const char *path)
{
    struct stat found;
    if (stat(path, &found))
        return failed("when", path);
    printf("%ld.%09ld\n", (long)found.st_mtim.tv_sec, found.st_mtim.tv_nsec);
    return 0;
}

static int store(const char *path, int flags, off_t offset, const char *text)
{
    int fd = open(path, flags, 0600);
    if (fd < 0)
        return failed("open", path);
    if ((offset < 0 ? write(fd, text, strlen(text)) : pwrite(fd, text, strlen(text), offset)) < 0)
        failed("write", path);
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    char **next = argv + 1;
    while (*next) {
        const char *what = *next++, *path = *next++;
        int fd;
        printf("%s %s\n", what, path);
        if (!strcmp(what, "read")) {
            if ((fd = open(path, O_RDONLY)) < 0)
                failed(what, path);
            else {
                pour(fd);
                close(fd);
            }
        } else if (!strcmp(what, "part")) {
            off_t offset = atoll(*next++);
            size_t count = atoi(*next++);
            char *buffer = malloc(count);
            if ((fd = open(path, O_RDONLY)) < 0)
                failed(what, path);
            else {
                ssize_t got = pread(fd, buffer, count, offset);
                printf("%ld: ", (long)got);
                fwrite(buffer, 1, got < 0 ? 0 : got, stdout);
                putchar('\n');
                close(fd);
            }
            free(buffer);
        } else if (!strcmp(what, "size")) {
            if ((fd = open(path, O_RDONLY)) < 0)
                failed(what, path);
            else {
                printf("%lld\n", (long long)lseek(fd, 0, SEEK_END));
                close(fd);
            }
        } else if (!strcmp(what, "stat"))
            status(path, 1);
        else if (!strcmp(what, "lstat"))
            status(path, 0);
        else if (!strcmp(what, "when"))
            when(path);
        else if (!strcmp(what, "link")) {
            char target[256];
            ssize_t count = readlink(path, target, sizeof target);
            if (count < 0)
                failed(what, path);
            else
                printf("%.*s\n", (int)count, target);
        } else if (!strcmp(what, "list"))
            list(path, -1);
        else if (!strcmp(what, "first"))
            list(path, 1);
        else if (!strcmp(what, "there"))
            printf("%d\n", access(path, F_OK) == 0);
        else if (!strcmp(what, "create"))
            store(path, O_WRONLY | O_CREAT | O_TRUNC, -1, *next++);
        else if (!strcmp(what, "new"))
            store(path, O_WRONLY | O_CREAT | O_EXCL, -1, *next++);
        else if (!strcmp(what, "empty"))
            store(path, O_WRONLY | O_TRUNC, -1, "");
        else if (!strcmp(what, "append"))
            store(path, O_WRONLY | O_APPEND, -1, *next++);
        else if (!strcmp(what, "patch")) {
            off_t offset = atoll(*next++);
            store(path, O_WRONLY, offset, *next++);
        } else if (!strcmp(what, "mkdir"))
            mkdir(path, 0700) && failed(what, path);
        else if (!strcmp(what, "rmdir"))
            rmdir(path) && failed(what, path);
        else if (!strcmp(what, "rm"))
            unlink(path) && failed(what, path);
        else if (!strcmp(what, "mv"))
            rename(path, *next++) && failed(what, path);
        else if (!strcmp(what, "hard"))
            link(path, *next++) && failed(what, path);
        else if (!strcmp(what, "soft"))
            symlink(path, *next++) && failed(what, path);
        else if (!strcmp(what, "unlinked") || !strcmp(what, "held")) {
            if ((fd = open(path, O_RDONLY)) < 0)
                failed(what, path);
            else {
                if (*what == 'u' ? unlink(path) : rename(path, *next))
                    failed(what, path);
                pour(fd);
                close(fd);
            }
            next += *what == 'h';
        } else
            return 2;
    }
    return 0;
}
