/* ticks [null]: writes a numbered line of 100 bytes once a second, at a moment of the second that depends on the
 * pid, to standard output or to /dev/null. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 100 };

int main(int argc, char **argv) {
    int out = argc > 1 && strcmp(argv[1], "null") == 0 ? open("/dev/null", O_WRONLY) : 1;
    char line[LINE + 1];
    struct timespec next;
    if (clock_gettime(CLOCK_MONOTONIC, &next)) return 1;
    next.tv_nsec = (long)((unsigned long)getpid() * 618033989ul % 1000000000ul);
    for (unsigned long number = 0;; number++) {
        next.tv_sec++;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL)) {
        }
        int used = snprintf(line, sizeof line, "%010lu ", number);
        memset(line + used, '.', LINE - (size_t)used);
        line[LINE - 1] = '\n';
        if (write(out, line, LINE) != LINE) return 1;
    }
}
