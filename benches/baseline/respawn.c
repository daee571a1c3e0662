/* respawn PROGRAM [ARG…]: keeps one process running, with nothing but waitpid and posix_spawn. Ends, and
 * ends the process, when standard input is closed. */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: respawn PROGRAM [ARG...]\n");
        return 2;
    }
    pid_t self = getpid();
    pid_t guard = fork();
    if (guard < 0) return 1;
    if (guard == 0) { /* the guard waits for the end of input, then ends the group */
        char byte;
        while (read(0, &byte, 1) > 0) {}
        kill(-self, SIGKILL);
        return 0;
    }
    for (;;) {
        pid_t pid;
        if (posix_spawn(&pid, argv[1], NULL, NULL, argv + 1, environ)) return 1;
        if (waitpid(pid, NULL, 0) != pid) return 1;
    }
}
