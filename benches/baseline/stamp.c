/* stamp FIFO: writes its pid and the monotonic time at which it began to run, both as 64-bit numbers, and
 * waits for a signal. */
#include <fcntl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t message[2] = {getpid(), t.tv_sec * 1000000000LL + t.tv_nsec};
    int fifo = argc == 2 ? open(argv[1], O_WRONLY | O_CLOEXEC) : -1;
    if (fifo < 0 || write(fifo, message, sizeof message) != sizeof message) return 1;
    for (;;) pause();
}
