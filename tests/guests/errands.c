// Makes every kind of call on files once, in the first preopened directory, and says so.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void) {
    char buffer[64];
    struct stat status;
    int fd = open("given", O_RDWR);
    read(fd, buffer, sizeof buffer);
    fstat(fd, &status);
    lseek(fd, 0, SEEK_END);
    write(fd, "more", 4);
    fsync(fd);
    ftruncate(fd, 2);
    posix_fallocate(fd, 0, 100);
    futimens(fd, NULL);
    stat("given", &status);
    stat("missing", &status);
    mkdir("directory", 0700);
    DIR *directory = opendir(".");
    while (readdir(directory)) {}
    closedir(directory);
    int top = open(".", O_RDONLY | O_DIRECTORY);
    fsync(top);
    close(top);
    symlink("given", "symlink");
    readlink("symlink", buffer, sizeof buffer);
    link("given", "link");
    int other = open("new", O_CREAT | O_RDWR, 0600);
    write(other, "new", 3);
    close(other);
    rename("new", "newer");
    unlink("newer");
    rmdir("directory");
    utimensat(AT_FDCWD, "given", NULL, 0);
    close(fd);
    puts("done");
    return 0;
}
