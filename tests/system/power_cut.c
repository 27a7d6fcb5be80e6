/* Makes a power cut possible without cutting the power: loaded into a process under test (LD_PRELOAD), it notes beside each
 * database file what every write replaced, and forgets that when the file is fsynced. After the process was killed, the test
 * puts back what is noted: what was never fsynced is gone, as after the worst power cut.
 *
 * A note is three 64-bit numbers (offset, length of what was there, size of the file before) and the bytes that were there.
 * With POWER_CUT_DISK_LIES in the environment nothing is ever forgotten, like on a disk that only says that it has synced. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOTES ".unsynced"

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

/* The notes of the file behind `fd`, opened and locked against other threads and processes; -1 if it is no database file. */
static int notes_of(int fd) {
    char link[64], path[4096 + sizeof NOTES];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4096);
    if (length < 7 || (memcmp(path + length - 3, ".db", 3) && memcmp(path + length - 7, ".db-wal", 7))) return -1;
    memcpy(path + length, NOTES, sizeof NOTES);
    int notes = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (notes < 0 || flock(notes, LOCK_EX)) abort();
    return notes;
}

static void put(int notes, const void *bytes, size_t length) {
    static ssize_t (*write_)(int, const void *, size_t);
    if (!write_) write_ = next("write");
    if (write_(notes, bytes, length) != (ssize_t)length) abort();
}

/* Notes what stands at [offset, offset + length) of `fd`. */
static void note(int notes, int fd, off_t offset, size_t length) {
    struct stat stat;
    if (fstat(fd, &stat)) abort();
    uint64_t size = (uint64_t)stat.st_size, begin = (uint64_t)offset;
    uint64_t kept = begin >= size ? 0 : size - begin < length ? size - begin : length;
    uint64_t head[3] = {begin, kept, size};
    char *record = malloc(sizeof head + kept);
    if (!record) abort();
    memcpy(record, head, sizeof head);
    if (kept && pread(fd, record + sizeof head, kept, offset) != (ssize_t)kept) abort();
    put(notes, record, sizeof head + kept);
    free(record);
}

static void done(int notes) {
    int error = errno;
    close(notes);
    errno = error;
}

#define PWRITE(name)                                                             \
    ssize_t name(int fd, const void *bytes, size_t length, off_t offset) {       \
        static ssize_t (*real)(int, const void *, size_t, off_t);                \
        if (!real) real = next(#name);                                           \
        int notes = notes_of(fd);                                                \
        if (notes < 0) return real(fd, bytes, length, offset);                   \
        note(notes, fd, offset, length);                                         \
        ssize_t result = real(fd, bytes, length, offset);                        \
        done(notes);                                                             \
        return result;                                                           \
    }

#define FTRUNCATE(name)                                                          \
    int name(int fd, off_t size) {                                               \
        static int (*real)(int, off_t);                                          \
        if (!real) real = next(#name);                                           \
        int notes = notes_of(fd);                                                \
        if (notes < 0) return real(fd, size);                                    \
        note(notes, fd, size, SIZE_MAX);                                         \
        int result = real(fd, size);                                             \
        done(notes);                                                             \
        return result;                                                           \
    }

#define SYNC(name)                                                               \
    int name(int fd) {                                                           \
        static int (*real)(int);                                                 \
        if (!real) real = next(#name);                                           \
        int notes = notes_of(fd);                                                \
        if (notes < 0) return real(fd);                                          \
        int result = real(fd);                                                   \
        if (!result && !getenv("POWER_CUT_DISK_LIES") && ftruncate(notes, 0)) abort(); \
        done(notes);                                                             \
        return result;                                                           \
    }

PWRITE(pwrite)
PWRITE(pwrite64)
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)
SYNC(fsync)
SYNC(fdatasync)

/* SQLite writes with pwrite. Should it ever not, the notes would miss it. */
ssize_t write(int fd, const void *bytes, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = next("write");
    int notes = notes_of(fd);
    if (notes >= 0) abort();
    return real(fd, bytes, length);
}
