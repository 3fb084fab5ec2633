// One program for many tests: what it does is said by its arguments, one after the other.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *what = argv[i];
    if (!strcmp(what, "say"))
      printf("%s\n", argv[++i]);
    else if (!strcmp(what, "complain"))
      fprintf(stderr, "%s\n", argv[++i]);
    else if (!strcmp(what, "getenv"))
      printf("%s\n", getenv(argv[++i]) ? getenv(argv[i]) : "unset");
    else if (!strcmp(what, "echo")) {
      char line[100];
      while (fgets(line, sizeof line, stdin))
        fputs(line, stdout);
    } else if (!strcmp(what, "cat")) {
      char data[100];
      int fd = open(argv[++i], O_RDONLY);
      if (fd < 0)
        return 10;
      fwrite(data, 1, read(fd, data, sizeof data), stdout);
    } else if (!strcmp(what, "make")) { // a file that must not be there yet, as tests of the suite do
      int fd = open(argv[++i], O_CREAT | O_EXCL | O_WRONLY, 0666);
      if (fd < 0 || write(fd, "made", 4) != 4 || close(fd))
        return 11;
    } else if (!strcmp(what, "abort"))
      abort();
    else
      return atoi(what);
  }
  return 0;
}
