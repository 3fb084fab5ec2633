/* liststat DIRECTORY: reads the directory and stats each entry; prints how many, and their bytes. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
    static char path[4096];
    long entries = 0;
    long long bytes = 0;
    DIR *directory = argc > 1 ? opendir(argv[1]) : NULL;
    if (directory == NULL) {
        perror("liststat");
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        struct stat found;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (stat(path, &found) != 0) {
            perror(path);
            return 2;
        }
        entries++;
        bytes += found.st_size;
    }
    closedir(directory);
    printf("%ld entries, %lld bytes\n", entries, bytes);
    return 0;
}
