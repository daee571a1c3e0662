/* spawn_loop N PROGRAM [ARG…]: starts N processes as fast as the C library can, prints the nanoseconds
 * that took, and ends them again. posix_spawn returns when the new program executes, so the time covers
 * the same as "until all run". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv) {
    int wanted = argc > 2 ? atoi(argv[1]) : 0;
    if (wanted < 1) {
        fprintf(stderr, "usage: spawn_loop N PROGRAM [ARG...]\n");
        return 2;
    }
    pid_t *pids = calloc((size_t)wanted, sizeof *pids);
    if (!pids) return 1;
    int started = 0, error = 0;
    long long begin = now();
    while (started < wanted && !(error = posix_spawn(&pids[started], argv[2], NULL, NULL, argv + 2, environ))) started++;
    long long took = now() - begin;
    for (int i = 0; i < started; i++) kill(pids[i], SIGKILL);
    for (int i = 0; i < started; i++) waitpid(pids[i], NULL, 0);
    if (error) {
        fprintf(stderr, "spawn_loop: only %d of %d started\n", started, wanted);
        return 1;
    }
    printf("%lld\n", took);
    return 0;
}
