/*
 * A disk that keeps only what was synced.
 *
 * Preloaded into a process, it copies a regular file to $LOST_WRITES_DIR/<inode> whenever the process syncs it: those
 * copies are what a power cut leaves. sync_file_range() promises nothing and copies nothing. With LOST_WRITES_LIE=1
 * fdatasync() does nothing either, as if its callers had left it out.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void keep(int fd) {
    const char *folder = getenv("LOST_WRITES_DIR");
    struct stat file;
    char from[64], temporary[4200], to[4096], buffer[65536];
    if (folder == NULL || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) return;
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    snprintf(to, sizeof to, "%s/%lu", folder, (unsigned long)file.st_ino);
    snprintf(temporary, sizeof temporary, "%s.%d", to, (int)gettid());
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (in < 0 || out < 0) abort();
    for (ssize_t got; (got = read(in, buffer, sizeof buffer)) > 0;)
        if (write(out, buffer, got) != got) abort();
    close(in);
    close(out);
    if (rename(temporary, to) != 0) abort();
}

int fsync(int fd) {
    static int (*real)(int);
    if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    keep(fd);
    return real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *lie = getenv("LOST_WRITES_LIE");
    if (lie != NULL && *lie == '1') return 0;
    keep(fd);
    return real(fd);
}
