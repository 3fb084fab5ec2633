// Sleeps, polls standard input with a timeout, and says what it saw.
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
static long ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
int main(void) {
    long start = ms();
    struct timespec nap = { 0, 30 * 1000 * 1000 };
    nanosleep(&nap, NULL);
    printf("slept %s\n", ms() - start >= 30 ? "enough" : "too little");
    char buffer[64];
    for (;;) {
        struct pollfd p = { .fd = 0, .events = POLLIN };
        int ready = poll(&p, 1, 20);
        if (ready == 0) { puts("nothing"); break; }
        ssize_t n = read(0, buffer, sizeof buffer);
        if (n <= 0) { puts("end"); break; }
        printf("read %ld\n", (long)n);
    }
    return 0;
}
