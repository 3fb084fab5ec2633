// Counts lines, words and bytes of every file below the directories given, and writes a report.
// usage: wordcount REPORT DIRECTORY...
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static unsigned long files, all_lines, all_words, all_bytes;

static int count(FILE *report, const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) { perror(path); return 1; }
    unsigned long lines = 0, words = 0, bytes = 0;
    int c, inside = 0;
    while ((c = getc(file)) != EOF) {
        bytes++;
        lines += c == '\n';
        if (isspace(c)) inside = 0;
        else if (!inside) { inside = 1; words++; }
    }
    fclose(file);
    files++; all_lines += lines; all_words += words; all_bytes += bytes;
    fprintf(report, "%8lu %8lu %8lu  %s\n", lines, words, bytes, path);
    return 0;
}

static int walk(FILE *report, const char *path) {
    DIR *dir = opendir(path);
    if (!dir) { perror(path); return 1; }
    int failed = 0;
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char below[4096];
        struct stat st;
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (stat(below, &st)) { perror(below); failed = 1; }
        else if (S_ISDIR(st.st_mode)) failed |= walk(report, below);
        else failed |= count(report, below);
    }
    closedir(dir);
    return failed;
}

int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "usage: wordcount REPORT DIRECTORY...\n"); return 2; }
    FILE *report = fopen(argv[1], "w");
    if (!report) { perror(argv[1]); return 1; }
    int failed = 0;
    for (int i = 2; i < argc; i++) failed |= walk(report, argv[i]);
    fprintf(report, "%8lu %8lu %8lu  total\n", all_lines, all_words, all_bytes);
    if (fclose(report)) { perror(argv[1]); return 1; }
    printf("%lu file%s\n", files, files == 1 ? "" : "s");
    return failed;
}
