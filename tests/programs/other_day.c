/* Preloaded into a process, it sets the clock of that process apart by so many seconds; time that goes by does so as
   ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int on_another_day(clockid_t id, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    const char *apart = getenv("OTHER_DAY_S");
    if (!failed && apart != NULL && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += atoll(apart);
    return failed;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    return on_another_day(id, now);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec exactly;
    int failed = on_another_day(CLOCK_REALTIME, &exactly);
    now->tv_sec = exactly.tv_sec;
    now->tv_usec = exactly.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *now)
{
    struct timespec exactly;
    on_another_day(CLOCK_REALTIME, &exactly);
    if (now != NULL)
        *now = exactly.tv_sec;
    return exactly.tv_sec;
}
