// Writes, seeks, reads, appends and renames through stdio, as ordinary programs do.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static int fail(const char *what) { printf("%s: %s\n", what, strerror(errno)); return 1; }
int main(int argc, char **argv) {
    if (argc < 2 || chdir(argv[1])) return fail("chdir");
    FILE *f = fopen("lines", "w+");
    if (!f) return fail("fopen w+");
    for (int i = 0; i < 10000; i++) fprintf(f, "line %d\n", i);
    if (fseek(f, 5, SEEK_SET)) return fail("fseek");
    int first = -1;
    if (fscanf(f, "%d", &first) != 1) return fail("fscanf");
    if (fseek(f, 0, SEEK_END)) return fail("fseek end");
    long size = ftell(f);
    if (fclose(f)) return fail("fclose");
    if (!(f = fopen("lines", "a"))) return fail("fopen a");
    fputs("appended\n", f);
    if (fclose(f)) return fail("fclose a");
    if (rename("lines", "renamed")) return fail("rename");
    struct stat st;
    if (stat("renamed", &st)) return fail("stat");
    printf("first %d size %ld after %lld isatty %d\n", first, size, (long long)st.st_size, isatty(1));
    if (access("lines", F_OK) == 0) return fail("still there");
    if (truncate("renamed", 100)) return fail("truncate");
    if (remove("renamed")) return fail("remove");
    return 0;
}
