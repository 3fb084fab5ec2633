// Makes a deep tree, walks it with nftw in both orders, and removes it.
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static int files, directories, links;
static int count(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)path; (void)st; (void)ftw;
    if (kind == FTW_F) files++; else if (kind == FTW_SL) links++; else directories++;
    return 0;
}
static int erase(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st; (void)ftw;
    return kind == FTW_DP ? rmdir(path) : unlink(path);
}
int main(int argc, char **argv) {
    char path[4096];
    if (argc < 2 || chdir(argv[1])) { perror("chdir"); return 1; }
    if (mkdir("top", 0755)) { perror("mkdir"); return 1; }
    strcpy(path, "top");
    for (int depth = 0; depth < 20; depth++) {
        for (int i = 0; i < 5; i++) {
            char name[4200];
            snprintf(name, sizeof name, "%s/file-%d", path, i);
            int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
            if (fd < 0 || write(fd, name, strlen(name)) < 0 || close(fd)) { perror(name); return 1; }
        }
        char link[4200];
        snprintf(link, sizeof link, "%s/link", path);
        if (symlink("file-0", link)) { perror("symlink"); return 1; }
        strcat(path, "/d");
        if (mkdir(path, 0755)) { perror(path); return 1; }
    }
    if (nftw("top", count, 64, FTW_PHYS)) { perror("nftw"); return 1; }
    printf("files %d directories %d links %d\n", files, directories, links);
    if (nftw("top", erase, 64, FTW_DEPTH | FTW_PHYS)) { perror("erase"); return 1; }
    printf("left %d %s\n", access("top", F_OK), strerror(errno));
    return 0;
}
