/* lines N: writes N numbered lines of 100 bytes to standard output, in blocks of 64 KiB that end anywhere
 * in a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 100, BLOCK = 65536 };

static int put(const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(1, bytes, length);
        if (written < 0) return -1;
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

int main(int argc, char **argv) {
    unsigned long wanted = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    static char block[BLOCK + LINE];
    char line[LINE + 1];
    memset(line, '.', LINE);
    line[LINE - 1] = '\n';
    size_t used = 0;
    for (unsigned long number = 0; number < wanted; number++) {
        unsigned long rest = number;
        for (int digit = 9; digit >= 0; digit--, rest /= 10) line[digit] = (char)('0' + rest % 10);
        memcpy(block + used, line, LINE);
        used += LINE;
        if (used >= BLOCK) {
            if (put(block, BLOCK)) return 1;
            used -= BLOCK;
            memmove(block, block + BLOCK, used);
        }
    }
    return put(block, used) ? 1 : 0;
}
