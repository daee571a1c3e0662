/* group COUNT PORT PROGRAM [ARG…]: so many processes that nobody supervises, each with a socket of its own as
 * descriptor 3, all in one SO_REUSEPORT group on 127.0.0.1. Ends, and ends them, when standard input is closed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: group COUNT PORT PROGRAM [ARG...]\n");
        return 2;
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int at = 0; at < atoi(argv[1]); at++) {
        int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one)
            || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one)
            || bind(fd, (struct sockaddr *)&to, sizeof to) || listen(fd, 511)) {
            perror("group");
            return 1;
        }
        pid_t pid = fork();
        if (pid < 0) return 1;
        if (pid == 0) {
            char text[32];
            snprintf(text, sizeof text, "%d", getpid());
            setenv("LISTEN_PID", text, 1);
            setenv("LISTEN_FDS", "1", 1);
            snprintf(text, sizeof text, "%d", at);
            setenv("NODE_APP_INSTANCE", text, 1);
            if (fd == 3) fcntl(3, F_SETFD, 0);
            else dup2(fd, 3);
            execvp(argv[3], argv + 3);
            _exit(127);
        }
        close(fd);
    }
    char byte;
    while (read(0, &byte, 1) > 0) {}
    kill(-getpid(), SIGKILL);
    return 0;
}
